"""The one table that a run ends with: in a terminal through rich, elsewhere as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from byrote.report.answer import answer
from byrote.report.axes import VariedResults
from byrote.report.axes_decision import decided, point_recommendations
from byrote.report.axes_tables import Overview
from byrote.report.claims import judged_claims
from byrote.report.claims_section import summary_of
from byrote.report.decision import decision_of
from byrote.report.extraction_numbers import number_label
from byrote.report.formats import rate
from byrote.report.recommendation import recommendation
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.tables import Column, Line, Value, summary_lines

if TYPE_CHECKING:
    from rich.table import Table

COLOURS = {"leaks": "red", "at chance": "green", "below null": "yellow", "not resolved": "yellow", "failed": "red"}


def summary_table(results: Results) -> Table:
    """Method, parameters, utility, leakage with its null, verdict and training time, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    summary = Summary(results)
    table = Table(title=Text(results.manifest.name), title_justify="left", header_style="bold", show_edge=False)
    for number, name in enumerate(_header(summary)):
        table.add_column(Text(name), justify="left" if number == 0 or name == "verdict" else "right")
    for line in summary_lines(summary):
        *cells, verdict = _cells(line)
        table.add_row(*map(Text, cells), Text(verdict, style=COLOURS.get(verdict, "")))
    return table


def summary_text(results: Results) -> str:
    """The same table as aligned plain text, for logs and pipes."""
    summary = Summary(results)
    return aligned([_header(summary), *(_cells(line) for line in summary_lines(summary))], left=(0,))


def points_table(results: VariedResults) -> Table:
    """The points of a study that varies something, side by side, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    overview = Overview(results)
    table = Table(title=Text(results.manifest.name), title_justify="left", header_style="bold", show_edge=False)
    for number, name in enumerate(_points_header(overview)):
        table.add_column(Text(name), justify="left" if number < 2 or name == "verdict" else "right")
    for *cells, verdict in _points_lines(overview):
        table.add_row(*map(Text, cells), Text(verdict, style=COLOURS.get(verdict, "red")))
    return table


def points_text(results: VariedResults) -> str:
    """The same as aligned plain text."""
    overview = Overview(results)
    return aligned([_points_header(overview), *_points_lines(overview)], left=(0, 1))


def _points_header(overview: Overview) -> list[str]:
    auc, *others = overview.columns or [Column("AUC")]
    out = [f"more of members: {number_label(*number)}" for number in overview.extractions]
    test = [f"test {column.title}" for column in others[len(out) :]]
    return ["point", "method", *out, *test, f"{auc.title} [95%]", "null", "verdict"]


def _points_lines(overview: Overview) -> Iterator[list[str]]:
    utilities = max(len(overview.columns) - 1, 0)
    for point in overview.tables:
        for each in point.lines:
            auc, *utility = map(_short, each.values)
            yield [point.entry.label, each.line.label, *utility, auc, rate(each.line.null), each.line.verdict]
        if not point.lines:
            yield [point.entry.label, "", *[""] * utilities, "", "", "failed" if point.entry.error else point.reason]


def aligned(lines: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Columns of plain text; the last, and those named, stand at their left."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    left = (*left, len(widths) - 1)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def answer_text(results: Results | VariedResults) -> str:
    """The plain-words answer without markup."""
    if isinstance(results, VariedResults):
        said = [*point_recommendations(results, decided(results)), *Overview(results).answer()]
    else:
        said = [*recommendation(decision_of(results)), *answer(Summary(results))]
    if claims := judged_claims(results):
        said = [*said, summary_of(claims)]
    return " ".join(said).replace("**", "")


def _header(summary: Summary) -> list[str]:
    attack = summary.headline
    utilities = [f"test {utility.label}" for utility in summary.results.evidence.utilities]
    leakage = f"AUC of {attack.label} [95%]" if attack else "AUC"
    return ["method", "trainable", *utilities, leakage, "null", "training", "verdict"]


def _cells(line: Line) -> list[str]:
    numbers = map(_short, (*line.utility, line.auc))
    return [line.label, line.parameters.main, *numbers, rate(line.null), line.training.main, line.verdict]


def _short(value: Value) -> str:
    """The number with its interval, which is the first line of its small print."""
    return " ".join((value.main, *(words for words in value.small[:1] if words.startswith("["))))
