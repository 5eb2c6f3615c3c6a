"""The numbers of what comes out of models: every metric of every measure, members less nonmembers."""

from __future__ import annotations

from collections.abc import Sequence

from byrote.report.extraction_rows import NONMEMBERS
from byrote.report.findings import Finding
from byrote.report.measures import Extraction
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.store import Cell


def beyond(index: SlicedIndex, one: Finding, measure: Extraction, metric: str, cell: Cell | None = None) -> Row | None:
    """Members less nonmembers, beyond the untuned model's difference where there is one; with `cell` of it alone."""
    metrics = (f"{metric}-excess-vs-{NONMEMBERS}", f"{metric}-vs-{NONMEMBERS}")
    return next((row for name in metrics if (row := index.get(one, measure, name, "", cell)) is not None), None)


def comes_out_more(index: SlicedIndex, one: Finding, measure: Extraction) -> dict[str, Row]:
    """The numbers of a measure by which more of members than of nonmembers comes out."""
    rows = {metric: beyond(index, one, measure, metric) for metric in measure.metrics}
    return {metric: row for metric, row in rows.items() if row is not None and row.low is not None and row.low > 0}


def numbers_of(measures: Sequence[Extraction]) -> list[tuple[Extraction, str]]:
    """Every number of every measure: the first of each, then the others."""
    found = [(measure, metric) for measure in measures for metric in measure.metrics]
    return sorted(found, key=lambda one: one[1] != next(iter(one[0].metrics)))


def number_label(measure: Extraction, metric: str) -> str:
    """A number of a measure: where it has several, with the number's own name."""
    return measure.label if len(measure.metrics) == 1 else f"{measure.label}, {metric}"
