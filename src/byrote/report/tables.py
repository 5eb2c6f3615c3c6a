"""The tables of the report as plain cells, so that HTML, Markdown and the terminal show the same numbers."""

from __future__ import annotations

from typing import NamedTuple

from byrote.report.answer import Summary
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, count, limits, measure, percent, rate, seconds, signed, size
from byrote.report.measures import Attack
from byrote.report.rows import Row


class Value(NamedTuple):
    """One cell: the number, its interval in small print, and a note (its null, or why it is absent)."""

    main: str
    interval: str = ""
    note: str = ""


class Line(NamedTuple):
    """One method in the summary table; `finding` is None where its runs failed."""

    label: str
    family: str
    utility: list[Value]
    auc: Value
    tpr: Value
    parameters: Value
    training: Value
    verdict: str
    finding: Finding | None


def summary_lines(summary: Summary) -> list[Line]:
    """The base model, every method, and last those that failed."""
    utilities, attack = summary.results.evidence.utilities, summary.headline
    lines = [
        Line(
            label=one.configuration.label,
            family=one.configuration.family,
            utility=[_utility(one.utility.get(utility)) for utility in utilities],
            auc=_auc(one, attack),
            tpr=_tpr(one, attack, summary.tpr_rate),
            parameters=_parameters(one),
            training=Value(seconds(one.cost.get("train_seconds"))),
            verdict=ABSENT if one.configuration.method == "none" else summary.verdict(one),
            finding=one,
        )
        for one in summary.findings
    ]
    nothing = Value(ABSENT)
    failed = [
        Line(one.label, one.family, [nothing] * len(utilities), nothing, nothing, nothing, nothing, "failed", None)
        for one in summary.failed
    ]
    return lines + failed


def auc_value(row: Row | None, lift: Row | None = None) -> Value:
    """An AUC with its null, and its lift over the base model where there is one."""
    if row is None:
        return Value(ABSENT)
    if row.value is None:
        return Value(ABSENT, note=row.reason)
    note = "" if row.null_value is None else f"null {rate(row.null_value)}"
    if lift is not None and lift.value is not None:
        note += f", lift {signed(lift.value)} {limits(lift.estimate, signed)}"
    return Value(rate(row.value), limits(row.estimate), note)


def _tpr(one: Finding, attack: Attack | None, at: float | None) -> Value:
    row = one.tpr.get(attack, {}).get(at) if attack is not None and at is not None else None
    if row is None or row.value is None:
        return Value(ABSENT, note=row.reason if row else "")
    return Value(
        rate(row.value), limits(row.estimate), "" if row.null_value is None else f"null {rate(row.null_value)}"
    )


def auc_header(summary: Summary) -> str:
    """'AUC of reference'."""
    return f"AUC of {summary.headline.label}" if summary.headline else "AUC"


def tpr_header(summary: Summary) -> str:
    """'TPR at 10% FPR', the lowest that the sample resolves."""
    return "TPR" if summary.tpr_rate is None else f"TPR at {percent(summary.tpr_rate)} FPR"


class AttackLine(NamedTuple):
    """Every attack on every method at the last epoch."""

    label: str
    family: str
    values: list[Value]


def attack_lines(summary: Summary) -> list[AttackLine]:
    """AUC of each attack in the study's order; the untuned model has none for attacks that compare with it."""
    return [
        AttackLine(
            one.configuration.label,
            one.configuration.family,
            [auc_value(one.auc.get(attack), one.lift.get(attack)) for attack in summary.results.evidence.attacks],
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
    speed = cost.get("tokens_per_second")
    return CostLine(
        label=one.configuration.label,
        trainable=count(trainable),
        share=percent(trainable / total) if trainable is not None and total else ABSENT,
        training=seconds(cost.get("train_seconds")),
        speed=f"{speed:,.0f}" if speed is not None else ABSENT,
        memory=size(cost.get("peak_memory_bytes")),
        stored=size(cost.get("stored_bytes")),
        scoring=seconds(cost.get("scoring_seconds")),
    )


def _utility(row: Row | None) -> Value:
    if row is None or row.value is None:
        return Value(ABSENT, note=row.reason if row else "")
    note = f"untuned {measure(row.null_value)}" if row.null_value is not None else ""
    return Value(measure(row.value), limits(row.estimate, measure), note)


def _auc(one: Finding, attack: Attack | None) -> Value:
    if attack is None:
        return Value(ABSENT)
    if attack.compares_with_base and one.configuration.method == "none":
        return Value(ABSENT, note="is what the attack compares with")
    return auc_value(one.auc.get(attack), one.lift.get(attack))


def _parameters(one: Finding) -> Value:
    trainable, total = one.cost.get("trainable_parameters"), one.cost.get("total_parameters")
    share = f"{percent(trainable / total)} of all" if trainable is not None and total else ""
    return Value(count(trainable), note=share)
