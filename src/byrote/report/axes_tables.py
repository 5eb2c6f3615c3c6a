"""What the page, the Markdown and the terminal say of a study that varies something: its points side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from byrote.report.answer import meanings_of
from byrote.report.axes import NOT_RUN, PointEntry, VariedResults
from byrote.report.extraction_numbers import beyond, number_label, numbers_of
from byrote.report.findings import Verdict
from byrote.report.formats import ABSENT, limits, listed, rate, signed, with_limits
from byrote.report.measures import Extraction
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.report.tables import (
    FEW_UTILITIES,
    Column,
    Line,
    Value,
    auc_value,
    columns,
    side_by_side,
    summary_lines,
    utility_columns,
)

SAYS: dict[Verdict, str] = {
    "leaks": "leaks",
    "at chance": "is at chance",
    "below null": "lies below the null",
    "not resolved": "is not resolved",
    "failed": "failed",
}
MANY = 8
"""Methods that a sentence is spent on, each."""
COMES_OUT, BEYOND = "members less nonmembers", ", beyond the untuned model"
ALONE = (
    "Every point is judged alone: no test compares two points, and where their intervals overlap they may not differ."
)


class PointLine(NamedTuple):
    """One method at one point: the cells of its row."""

    line: Line
    values: list[Value]


class PointTable(NamedTuple):
    """One point: its methods, or why there are none. `summary` is None where it has no results."""

    entry: PointEntry
    summary: Summary | None
    lines: list[PointLine]
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one method came to at one point, by the headline attack."""

    entry: PointEntry
    verdict: Verdict
    row: Row | None

    @property
    def auc(self) -> float | None:
        return self.row.value if self.row is not None else None


@dataclass(frozen=True, eq=False)
class Overview:
    """The points of a study side by side, around the headline attack and the first utility measures."""

    results: VariedResults

    @cached_property
    def summaries(self) -> list[tuple[PointEntry, Summary]]:
        """Those of the points that have results."""
        return [(entry, Summary(results)) for entry, results in self.results.done()]

    @property
    def first(self) -> Summary | None:
        return next((summary for _, summary in self.summaries), None)

    @cached_property
    def null(self) -> float | None:
        """The null of the headline AUC where all points share one."""
        lines = [line for _, summary in self.summaries for line in summary_lines(summary)]
        nulls = {line.null for line in lines if line.null is not None}
        return nulls.pop() if len(nulls) == 1 else None

    @cached_property
    def columns(self) -> list[Column]:
        """Leakage by the headline attack, what comes out, utility."""
        if self.first is None:
            return []
        null = COMES_OUT + (BEYOND if self.first.base is not None else "")
        out = [Column(number_label(measure, metric), null) for measure, metric in self.extractions]
        auc = columns(self.first)[0].title
        return [Column(auc, "" if self.null is None else f"null {rate(self.null)}"), *out, *utility_columns(self.first)]

    @cached_property
    def numbers(self) -> list[tuple[Extraction, str]]:
        """The numbers of what comes out that say anything anywhere."""
        found = [(SlicedIndex(summary, "extraction"), summary) for _, summary in self.summaries]
        known = {
            number: None
            for index, summary in found
            for number in numbers_of(summary.results.evidence.extractions)
            for row in [beyond(index, one, *number) for one in summary.tuned]
            if row is not None and row.value is not None
        }
        return list(known)

    @property
    def extractions(self) -> list[tuple[Extraction, str]]:
        """Those that the table has room for."""
        return self.numbers[:FEW_UTILITIES]

    @cached_property
    def tables(self) -> list[PointTable]:
        """Every point in the study's order."""
        known = {entry.key: summary for entry, summary in self.summaries}
        found = [(point, known.get(point.entry.key)) for point in self.results.points]
        return [
            PointTable(point.entry, summary, self._lines(summary) if summary is not None else [], point.reason)
            for point, summary in found
        ]

    def _lines(self, summary: Summary) -> list[PointLine]:
        index = SlicedIndex(summary, "extraction")
        return [PointLine(line, [self._auc(summary, line), *self._out(index, line), *self._utility(summary, line)])
                for line in summary_lines(summary)]  # fmt: skip

    def _out(self, index: SlicedIndex, line: Line) -> list[Value]:
        of = line.finding
        rows = [None if of is None else beyond(index, of, *number) for number in self.extractions]
        return [Value(ABSENT) if row is None or row.value is None
                else Value(signed(row.value), (limits(row.estimate, signed),)) for row in rows]  # fmt: skip

    @property
    def judged(self) -> bool:
        """Whether there is a membership attack: without one there are no verdicts, and the first column is empty."""
        return self.first is not None and self.first.headline is not None

    @property
    def skipped(self) -> int:
        """How many of the columns are of verdicts, and so left out where there are none."""
        return 0 if self.judged else 1

    def _auc(self, summary: Summary, line: Line) -> Value:
        if summary.headline is None or line.finding is None:
            return Value(ABSENT)
        rows = [of.get(summary.headline) for of in (line.finding.auc, line.finding.lift)]
        return auc_value(*rows, with_null=self.null is None and line.family != "none")

    def _utility(self, summary: Summary, line: Line) -> list[Value]:
        """In the order of the first point's measures: another point may have others."""
        known = {one.label: value for one, value in zip(side_by_side(summary), line.utility, strict=False)}
        return [known.get(column.title, Value(ABSENT)) for column in self.columns[1 + len(self.extractions) :]]

    def answer(self) -> list[str]:
        """What varies, and what each method came to over the points, as sentences with **bold** in them."""
        points = self.results.points
        sentences = [self._varies(), *self._methods(), *self._comes_out()]
        sentences += [f"**{point.entry.label}** failed: {point.entry.error}" for point in points if point.entry.error]
        if later := [point.entry.label for point in points if point.reason == NOT_RUN]:
            sentences.append(f"Not run yet: {listed(later)}. The same command goes on from there.")
        return sentences + ([ALONE] if len(self.summaries) > 1 else [])

    def _varies(self) -> str:
        manifest = self.results.manifest
        inner, outer = (
            [f"{axis.path} ({', '.join(axis.labels)})" for axis in manifest.axes if axis.of_methods is of_methods]
            for of_methods in (True, False)
        )
        if not outer:
            return f"Varied: {listed(inner)}."
        inside = f" Inside each: {listed(inner)}." if inner else ""
        return f"{len(manifest.points)} points: {' by '.join(outer)}.{inside}"

    def _methods(self) -> list[str]:
        """'**lora** leaks at epochs 3 and is at chance at epochs 1; AUC from 0.51 [0.48, 0.54] (epochs 1) to ...'"""
        if self.first is None or self.first.headline is None:
            return []
        found: dict[str, list[Judged]] = {}
        for entry, summary in self.summaries:
            for one in summary.tuned:
                row = one.auc.get(summary.headline) if summary.headline else None
                found.setdefault(one.configuration.label, []).append(Judged(entry, summary.verdict(one), row))
            for failed in summary.failed:
                found.setdefault(failed.label, []).append(Judged(entry, "failed", None))
        attack = f"By the {self.first.headline.label} attack"
        if len(found) > MANY:
            return [f"{attack} {len(found)} methods are judged at each point: see Point by point."]
        said = [f"**{name}** {self._judged(of)}." for name, of in found.items()]
        return [f"{attack} {said[0]}", *said[1:]] if said else []

    def _judged(self, found: Sequence[Judged]) -> str:
        verdicts: dict[Verdict, list[PointEntry]] = {}
        for one in found:
            verdicts.setdefault(one.verdict, []).append(one.entry)
        alone = len(self.results.points) == 1
        words = listed(
            [SAYS[verdict] + ("" if alone else f" at {self.results.where(of)}") for verdict, of in verdicts.items()]
        )
        known = sorted((one for one in found if one.auc is not None), key=lambda one: one.auc or 0.0)
        ends = [f"{with_limits(one.row.estimate)}" + (f" ({one.entry.label})" if len(known) > 1 else "")
                for one in dict.fromkeys((*known[:1], *known[-1:])) if one.row is not None]  # fmt: skip
        return f"{words}; AUC {'from ' if len(ends) > 1 else ''}{' to '.join(ends)}" if ends else words

    def _comes_out(self) -> list[str]:
        """Of which methods more of members comes out than of nonmembers, and where."""
        sentences = []
        indexes = [(entry, summary, SlicedIndex(summary, "extraction")) for entry, summary in self.summaries]
        for measure, metric in self.numbers:
            above: dict[str, list[PointEntry]] = {}
            for entry, summary, index in indexes:
                for one in summary.tuned:
                    row = beyond(index, one, measure, metric)
                    if row is not None and row.low is not None and row.low > 0:
                        above.setdefault(one.configuration.label, []).append(entry)
            if above and len(above) <= MANY:
                found = listed([f"**{name}** at {self.results.where(entries)}" for name, entries in above.items()])
                which = number_label(measure, metric)
                sentences.append(f"More of members than of nonmembers comes out ({which}) with {found}.")
        return sentences

    def meanings(self) -> dict[Verdict, str]:
        """What each verdict on the page says."""
        shown = {line.line.verdict for table in self.tables for line in table.lines}
        margins = {f"±{summary.results.evidence.margin:g}" for _, summary in self.summaries}
        margin = margins.pop() if len(margins) == 1 else "the margin"
        seeds = max((len(summary.results.evidence.seeds) for _, summary in self.summaries), default=1)
        return meanings_of(shown, margin, seeds)
