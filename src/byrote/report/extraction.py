"""The section on what comes out of each model: of members, beside nonmembers and the untuned model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from byrote.report.extraction_numbers import beyond, comes_out_more, number_label, numbers_of
from byrote.report.extraction_rows import NONMEMBERS
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, limits, listed, rate, signed, with_limits
from byrote.report.measures import Extraction
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.report.tables import Column, Value, difference_value
from byrote.statistics.comparison import within_margin

ABOUT = (
    "The models were given the beginnings of members, and of nonmembers as their control; what the untuned model does "
    "with the same beginnings is the null. Large: how much more comes out of members than of nonmembers, with its 95% "
    "interval. What a model says of any such text is in both, and in the untuned model."
)

ALONE = (
    "The model was given the beginnings of members, and of nonmembers as their control. Large: how much more comes out "
    "of members than of nonmembers, with its 95% interval. No untuned model was asked what it does with them."
)
BEYOND = "beyond what the untuned model says of both"


class ExtractionLine(NamedTuple):
    """One configuration in a table."""

    label: str
    values: list[Value]


class ExtractionTable(NamedTuple):
    """What one measure found: all records, and each slice of them."""

    title: str
    about: str
    columns: list[Column]
    lines: list[ExtractionLine]
    """Method by method; none where only slices were asked about."""
    metric: str
    methods: list[str]
    slices: list[ExtractionLine]
    """Slice by slice: the first metric, and where it is a share all shares."""


class ComesOut(NamedTuple):
    """Everything that the section says."""

    about: str
    methods: list[str]
    overview_about: str
    overview: list[ExtractionLine]
    """Of each measure every number, method by method, where there are several measures."""
    tables: list[ExtractionTable]
    statements: list[str]


def comes_out(summary: Summary) -> ComesOut | None:
    """The section; None where nothing was measured."""
    measures = summary.results.evidence.extractions
    if not measures or not summary.findings:
        return None
    index = SlicedIndex(summary, "extraction")
    tables = [_table(summary, index, measure) for measure in measures]
    overview = [
        ExtractionLine(
            f"{measure.label}: {metric}",
            [difference_value(beyond(index, one, measure, metric)) for one in summary.tuned],
        )
        for measure in measures
        for metric in measure.metrics
        if any(
            (row := beyond(index, one, measure, metric)) is not None and row.value is not None for one in summary.tuned
        )
    ]
    methods = [one.configuration.label for one in summary.tuned]
    return ComesOut(
        about=ABOUT if _has_base(summary) else ALONE,
        methods=methods,
        overview_about=f"Members less nonmembers{f', {BEYOND}' if _has_base(summary) else ''}:",
        overview=overview if len(measures) > 1 else [],
        tables=tables,
        statements=_within(summary, index),
    )


def extraction_sentences(summary: Summary) -> list[str]:
    """Whose text comes out, by every number of each measure; empty where nothing was measured."""
    index, found = SlicedIndex(summary, "extraction"), []
    against = f"({{}}, {BEYOND})" if _has_base(summary) else "({})"
    for measure in summary.results.evidence.extractions:
        above = [(one, shown) for one in summary.tuned if (shown := comes_out_more(index, one, measure))]
        each = [f"**{one.configuration.label}** ({_by(measure, shown)})" for one, shown in above]
        if above:
            found.append(
                f"More of members than of nonmembers comes out {against.format(measure.label)} with {listed(each)}."
            )
    return found


def _by(measure: Extraction, shown: Mapping[str, Row]) -> str:
    """'by +0.10 [+0.05, +0.15]', of a measure with several numbers each with its name."""
    amounts = {metric: f"by {with_limits(row.estimate, signed)}" for metric, row in shown.items()}
    return ", ".join(
        amounts.values() if len(measure.metrics) == 1 else (f"{m} {words}" for m, words in amounts.items())
    )


def _has_base(summary: Summary) -> bool:
    """Whether an untuned model was asked too."""
    return summary.base is not None


def _first(measure: Extraction) -> str:
    return next(iter(measure.metrics))


def _table(summary: Summary, index: SlicedIndex, measure: Extraction) -> ExtractionTable:
    slices = list(
        dict.fromkeys(name for seed in summary.results.evidence.seeds for name in summary.results.evidence.slices(seed))
    )
    kept = [name for name in slices if any(_known(index, one, measure, name) for one in summary.findings)]
    forms = measure.metrics
    alike = (
        [metric for metric in forms if forms[metric] == "share"]
        if forms[_first(measure)] == "share"
        else [_first(measure)]
    )
    told = any(_known(index, one, measure, "") for one in summary.findings) or not kept
    return ExtractionTable(
        title=measure.label,
        about=". ".join(filter(None, [measure.summary, f"Needs {measure.access}", measure.conditions])) + ".",
        columns=[Column(metric, "members less nonmembers") for metric in measure.metrics],
        lines=[
            ExtractionLine(one.configuration.label, [_all(index, one, measure, metric) for metric in measure.metrics])
            for one in summary.findings if told
        ],
        metric=alike[0] if len(alike) == 1 else "share",
        methods=[one.configuration.label for one in summary.findings],
        slices=[
            ExtractionLine(
                name if len(alike) == 1 else f"{name}: {metric}",
                [_part(index, one, measure, name, metric) for one in summary.findings],
            )
            for name in kept for metric in alike
        ],
    )  # fmt: skip


def _known(index: SlicedIndex, one: Finding, measure: Extraction, slice_: str) -> bool:
    row = index.get(one, measure, _first(measure), slice_)
    return row is not None and row.value is not None


def _all(index: SlicedIndex, one: Finding, measure: Extraction, metric: str) -> Value:
    """Members less nonmembers; both in small, and the untuned model's difference."""
    members, nonmembers = (index.get(one, measure, metric, slice_) for slice_ in ("", NONMEMBERS))
    between = index.get(one, measure, f"{metric}-vs-{NONMEMBERS}", "")
    if members is None or members.value is None or between is None or nonmembers is None:
        first = members or index.get(one, measure, _first(measure), "")
        return Value(ABSENT, (first.reason,) if first is not None and first.reason else ())
    return Value(
        signed(between.value),
        tuple(
            filter(
                None,
                [
                    limits(between.estimate, signed),
                    f"members {rate(members.value)}",
                    f"nonmembers {rate(nonmembers.value)}",
                ],
            )
        ),
    )


def _part(index: SlicedIndex, one: Finding, measure: Extraction, slice_: str, metric: str) -> Value:
    """What comes out of one slice's members; in small that of canaries never trained on."""
    row = index.get(one, measure, metric, slice_)
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row is not None and row.reason else ())
    controls = index.get(one, measure, metric, f"{slice_} {NONMEMBERS}")
    beside = None if controls is None or controls.value is None else f"controls {rate(controls.value)}"
    return Value(rate(row.value), tuple(filter(None, [limits(row.estimate, rate), beside])))


def _within(summary: Summary, index: SlicedIndex) -> list[str]:
    """Of whose members next to nothing comes out beyond what comes out of nonmembers, and where that is open."""
    margin = summary.results.evidence.margin
    sentences: list[str] = []
    for measure, metric in numbers_of(summary.results.evidence.extractions):
        inside: list[str] = []
        more: list[str] = []
        open_: list[str] = []
        for one in summary.tuned:
            row = beyond(index, one, measure, metric)
            if row is None or row.value is None or row.low is None or row.high is None:
                continue
            if within_margin(row.estimate, margin):
                (more if row.low > 0 else inside).append(_shown(one, row))
            elif row.low <= 0 <= row.high:
                open_.append(_shown(one, row))
        if inside:
            sentences.append(
                f"{number_label(measure, metric)}: as much as of nonmembers, within ±{margin:g}, comes out with "
                f"{listed(inside)}."
            )
        if more:
            sentences.append(
                f"{number_label(measure, metric)}: more than of nonmembers, but by less than {margin:g}, comes out "
                f"with {listed(more)}."
            )
        if open_:
            sentences.append(
                f"{number_label(measure, metric)}: whether more than of nonmembers comes out, or as much within "
                f"±{margin:g}, is open with {listed(open_)}."
            )
    return sentences


def _shown(one: Finding, row: Row) -> str:
    return f"{one.configuration.label} {with_limits(row.estimate, signed)}"
