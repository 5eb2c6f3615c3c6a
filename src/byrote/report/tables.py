"""The tables of the report as plain cells, so that HTML, Markdown and the terminal show the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from byrote.report.extraction_numbers import beyond, number_label, numbers_of
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, count, limits, measure, percent, rate, seconds, signed, size, with_limits
from byrote.report.measures import Extraction, Utility
from byrote.report.rows import BALANCED, PARTIAL, PARTIAL_FPR, RATES, Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary, same_null

FEW_UTILITIES = 2
OTHER_MEASURES = (
    "Partial AUC counts only where few nonmembers are called members; it is 0.5 for a coin toss and "
    "1 at best (McClish). Balanced accuracy is that of a yes or no: half of the records choose the threshold for the "
    "other half, in turn."
)


class Value(NamedTuple):
    """One cell: the number, and below it in small print its interval and what it is compared with."""

    main: str
    small: tuple[str, ...] = ()


class Column(NamedTuple):
    """The head of a column; `small` says once what all of its numbers are compared with."""

    title: str
    small: str = ""


class Line(NamedTuple):
    """One method in the summary table; `finding` is None where its runs failed."""

    label: str
    family: str
    utility: list[Value]
    auc: Value
    null: float | None
    leakage: list[Value]
    """What the columns of leakage hold."""
    parameters: Value
    training: Value
    verdict: str
    finding: Finding | None


def summary_lines(summary: Summary) -> list[Line]:
    """The base model, every method, and last those that failed."""
    utilities, index, out = summary.results.evidence.utilities, SlicedIndex(summary, "extraction"), numbers_out(summary)
    lines = [
        Line(
            label=one.configuration.label,
            family=one.configuration.family,
            utility=[_utility(one.utility.get(utility)) for utility in utilities],
            auc=_auc(summary, one),
            null=_null_of(summary, one),
            leakage=[_auc(summary, one), _tpr(summary, one)]
            if summary.headline is not None
            else [difference_value(beyond(index, one, *number)) for number in out],
            parameters=_parameters(one),
            training=Value(_training(one)),
            verdict=ABSENT if one.configuration.method == "none" else summary.verdict(one),
            finding=one,
        )
        for one in summary.findings
    ]
    nothing = Value(ABSENT)
    empty = [nothing] * len(leakage_columns(summary))
    failed = [
        Line(one.label, one.family, [nothing] * len(utilities), nothing, None, empty, nothing, nothing, "failed", None)
        for one in summary.failed
    ]
    return lines + failed


def difference_value(row: Row | None) -> Value:
    """A difference with its interval, or why there is none."""
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row is not None and row.reason else ())
    return Value(signed(row.value), tuple(filter(None, [limits(row.estimate, signed)])))


def numbers_out(summary: Summary) -> list[tuple[Extraction, str]]:
    """The numbers of what comes out that the summary table has room for, where no membership attack was made."""
    return numbers_of(summary.results.evidence.extractions)[:FEW_UTILITIES] if summary.headline is None else []


def auc_value(row: Row | None, lift: Row | None = None, *, with_null: bool = False) -> Value:
    """An AUC with its interval; its lift over the base model where there is one, or its null when asked."""
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row else ())
    small = [limits(row.estimate)]
    if lift is not None and lift.value is not None:
        small += [f"lift {signed(lift.value)}", limits(lift.estimate, signed)]
    if with_null and row.null_value is not None:
        small.append(f"null {rate(row.null_value)}")
    return Value(rate(row.value), tuple(filter(None, small)))


def columns(summary: Summary) -> list[Column]:
    """The heads of the columns of numbers in the summary table of membership: AUC, TPR, then utility."""
    tpr = "TPR" if summary.tpr_rate is None else f"TPR at {percent(summary.tpr_rate)} FPR"
    auc = f"AUC of {summary.headline.label}" if summary.headline else "AUC"
    leakage = [Column(auc, _null(summary.null)), Column(tpr, _null(summary.tpr_null))]
    return leakage + utility_columns(summary)


def leakage_columns(summary: Summary) -> list[Column]:
    """Those of leakage: AUC and TPR, or where no membership attack was made what comes out."""
    if summary.headline is not None:
        return columns(summary)[:2]
    return [Column(number_label(*number), "members less nonmembers") for number in numbers_out(summary)]


def utility_columns(summary: Summary) -> list[Column]:
    """The heads of those of utility alone."""
    return [Column(utility.label, utility.best) for utility in side_by_side(summary)]


def side_by_side(summary: Summary) -> Sequence[Utility]:
    """The utility measures that the summary table has room for: all of a few, and else the first."""
    utilities = summary.results.evidence.utilities
    return utilities if len(utilities) <= FEW_UTILITIES else utilities[:1]


def utility_notes(summary: Summary) -> list[tuple[str, str]]:
    """What each utility measure means, in its unit, and how text was generated for it."""
    return [(utility.label, _meaning(summary, utility)) for utility in summary.results.evidence.utilities]


def _meaning(summary: Summary, utility: Utility) -> str:
    unit = f" ({utility.unit})" if utility.unit else ""
    conditions = f" Made with {utility.conditions}." if utility.conditions else ""
    known = summary.of_the_records(utility)
    own = f" The records' own text has {with_limits(known.estimate, measure)}." if known is not None else ""
    return f"{utility.summary or utility.name}{unit}; {utility.best}.{conditions}{own}"


def _null_of(summary: Summary, one: Finding) -> float | None:
    row = one.auc.get(summary.headline) if summary.headline and one.configuration.method != "none" else None
    return row.null_value if row is not None else None


def _null(value: float | None) -> str:
    return "" if value is None else f"null {rate(value)}"


def _tpr(summary: Summary, one: Finding) -> Value:
    attack, at = summary.headline, summary.tpr_rate
    row = one.tpr.get(attack, {}).get(at) if attack is not None and at is not None else None
    if row is None or row.value is None:
        return Value(ABSENT, tuple(row.reason.split(", ")) if row else ())  # a line for each clause: columns are narrow
    small = [limits(row.estimate)]
    if summary.tpr_null is None and row.null_value is not None:
        small.append(_null(row.null_value))
    return Value(rate(row.value), tuple(small))


class AttackLine(NamedTuple):
    """Several measures of one method at the last epoch."""

    label: str
    family: str
    values: list[Value]


class AttackRow(NamedTuple):
    """One attack, with who can run it, on every method at the last epoch."""

    label: str
    access: str
    values: list[Value]


def attack_rows(summary: Summary) -> list[AttackRow]:
    """AUC of each attack in the study's order; the untuned model has none for attacks that compare with it."""
    return [
        AttackRow(
            attack.label,
            attack.access,
            [auc_value(one.auc.get(attack), one.lift.get(attack)) for one in summary.findings],
        )
        for attack in summary.results.evidence.attacks
    ]


class OtherMeasures(NamedTuple):
    """What the headline attack comes to besides its AUC."""

    about: str
    columns: list[Column]
    lines: list[AttackLine]


def other_measures(summary: Summary) -> OtherMeasures | None:
    """TPR at each FPR that is resolved, partial AUC and balanced accuracy of each method; None where there are none.

    What no method resolves has no column, and is named with its reason.
    """
    attack = summary.headline
    if attack is None:
        return None
    heads = [(f"TPR at {percent(at)} FPR", f"tpr@fpr={at:g}") for at in RATES]
    heads += [(f"partial AUC up to {percent(PARTIAL_FPR)} FPR", PARTIAL), ("balanced accuracy", BALANCED)]
    columns, values, missing = [], [], []
    for title, metric in heads:
        rows = [summary.index.get(one.configuration, one.epoch, attack, metric) for one in summary.findings]
        if any(row is not None and row.value is not None for row in rows):
            tuned = [row for row, one in zip(rows, summary.findings, strict=True) if one is not summary.base]
            columns.append(Column(title, _null(same_null(tuned))))
            values.append([auc_value(row, with_null=same_null(tuned) is None) for row in rows])
        else:
            alone = [
                row for one in summary.tuned for row in summary.index.each(one.configuration, one.epoch, attack, metric)
            ]
            missing += [f"{title} {reason}" for reason in sorted({row.reason for row in alone} - {""})[:1]]
    lines = [
        AttackLine(one.configuration.label, one.configuration.family, list(of))
        for one, of in zip(summary.findings, zip(*values, strict=True), strict=False)
        if any(value.main != ABSENT for value in of)
    ]
    left_out = f" Not resolved: {'; '.join(missing)}." if missing else ""
    about = f"The {attack.label} attack at the last epoch. {OTHER_MEASURES}{left_out}"
    return OtherMeasures(about, columns, lines) if columns else None


def utility_lines(summary: Summary) -> list[AttackLine]:
    """Every utility measure in the study's order; empty where the summary table shows them all."""
    utilities = summary.results.evidence.utilities
    if len(side_by_side(summary)) == len(utilities):
        return []
    return [
        AttackLine(
            one.configuration.label,
            one.configuration.family,
            [_utility(one.utility.get(utility)) for utility in utilities],
        )
        for one in summary.findings
    ]


class CostLine(NamedTuple):
    """What one method cost, a mean over its seeds."""

    label: str
    trainable: str
    share: str
    training: str
    speed: str
    memory: str
    stored: str
    scoring: str


def cost_lines(summary: Summary) -> list[CostLine]:
    """One line for each configuration with any cost recorded."""
    return [_cost(one) for one in summary.findings if one.cost]


def _cost(one: Finding) -> CostLine:
    cost = one.cost
    trainable, total = cost.get("trainable_parameters"), cost.get("total_parameters")
    speed, generation = cost.get("tokens_per_second"), cost.get("generation_seconds")
    return CostLine(
        label=one.configuration.label,
        trainable=count(trainable),
        share=percent(trainable / total) if trainable is not None and total else ABSENT,
        training=_training(one),
        speed=f"{speed:,.0f}" if speed is not None else ABSENT,
        memory=size(cost.get("peak_memory_bytes")),
        stored=size(cost.get("stored_bytes")),
        scoring=seconds(cost.get("scoring_seconds"))
        + (f", generating {seconds(generation)}" if generation is not None else ""),
    )


def _training(one: Finding) -> str:
    return seconds(one.cost.get("train_seconds")) if one.configuration.trained else ABSENT


def _utility(row: Row | None) -> Value:
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row else ())
    return Value(measure(row.value), tuple(filter(None, [limits(row.estimate, measure)])))


def _auc(summary: Summary, one: Finding) -> Value:
    attack = summary.headline
    if attack is None:
        return Value(ABSENT)
    with_null = summary.null is None and one.configuration.method != "none"
    return auc_value(one.auc.get(attack), one.lift.get(attack), with_null=with_null)


def _parameters(one: Finding) -> Value:
    trainable, total = one.cost.get("trainable_parameters"), one.cost.get("total_parameters")
    share = f"{percent(trainable / total)} of all" if trainable is not None and total else ""
    return Value(count(trainable), tuple(filter(None, [share])))
