"""The files that people read: both tables, the scores, and the report in two forms."""

from __future__ import annotations

from pathlib import Path

from byrote.report.axes import AXES, VariedResults
from byrote.report.axes_page import axes_html, axes_markdown
from byrote.report.claims import judged_claims
from byrote.report.claims_section import claims_csv, claims_markdown
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.results import Results
from byrote.store import atomic_path, write_text


def write_report(results: Results | VariedResults, folder: Path | str, show_text: bool = False) -> None:
    """Write results.csv, results.json, scores.parquet, report.md and report.html, each whole or not at all.

    Claims make a claims.csv too. `show_text` puts kept texts of records on the page (see `report_html`).
    """
    import pyarrow.parquet

    folder = Path(folder)
    write_text(folder / "results.csv", results.csv())
    write_text(folder / "results.json", results.json())
    with atomic_path(folder / "scores.parquet") as path:
        pyarrow.parquet.write_table(results.score_table(), path, compression="zstd")
    _write_claims(results, folder)
    if isinstance(results, VariedResults):
        markdown, page = axes_markdown(results), axes_html(results)
    else:
        markdown, page = report_markdown(results, claims_markdown(results)), report_html(results, show_text)
    write_text(folder / "report.md", markdown)
    write_text(folder / "report.html", page)


def report_again(folder: Path, show_text: bool = False) -> Results | VariedResults:
    """Write the report of what is stored in a folder, and that of every point; the results."""
    results = VariedResults.read(folder) if (folder / AXES).exists() else Results.read(folder)
    if isinstance(results, VariedResults):
        for entry, of_point in results.done():
            write_report(of_point, folder / entry.folder, show_text)
    write_report(results, folder, show_text)
    return results


def _write_claims(results: Results | VariedResults, folder: Path) -> None:
    """Every comparison of every claim; no file where the study claims nothing."""
    if judged_claims(results):
        write_text(folder / "claims.csv", claims_csv(results))
    else:
        (folder / "claims.csv").unlink(missing_ok=True)
