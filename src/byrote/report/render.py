"""The results in a folder in any form: one page, Markdown, LaTeX, or the rows as CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from byrote.registry import nearest
from byrote.report.axes import AXES, VariedResults
from byrote.report.axes_page import axes_html, axes_markdown
from byrote.report.claims_section import claims_markdown
from byrote.report.html import report_html
from byrote.report.latex import axes_latex, report_latex
from byrote.report.markdown import report_markdown
from byrote.report.results import Results
from byrote.types import StudyError


class Form(NamedTuple):
    """One form of the results: the file that it is usually in, and how it is made."""

    file: str
    plain: Callable[[Results], str]
    varied: Callable[[VariedResults], str]


def _markdown(results: Results) -> str:
    return report_markdown(results, claims_markdown(results))


FORMS = {
    "html": Form("report.html", report_html, axes_html),
    "md": Form("report.md", _markdown, axes_markdown),
    "csv": Form("results.csv", Results.csv, VariedResults.csv),
    "json": Form("results.json", Results.json, VariedResults.json),
    "latex": Form("report.tex", report_latex, axes_latex),
}


def read_results(folder: Path) -> Results | VariedResults:
    """The results of a study, of one that varies something, or of an audit. Raises ByroteError where there are none."""
    return VariedResults.read(folder) if (folder / AXES).exists() else Results.read(folder)


def formats_named(words: list[str]) -> list[str]:
    """The formats of a list in which commas part, too. Raises StudyError that names the nearest right one."""
    found = [name.strip() for word in words for name in word.split(",")]
    for name in found:
        if name not in FORMS:
            raise StudyError(f"--format: unknown format {name!r}.{nearest(name, FORMS)} Known: {', '.join(FORMS)}.")
    return list(dict.fromkeys(found))


def rendered(results: Results | VariedResults, name: str, show_text: bool = False) -> str:
    """The results in one of `FORMS`; `show_text` puts the texts of records that were kept for it on the page."""
    form = FORMS[name]
    if show_text and name == "html" and isinstance(results, Results):
        return report_html(results, show_text)
    return form.varied(results) if isinstance(results, VariedResults) else form.plain(results)
