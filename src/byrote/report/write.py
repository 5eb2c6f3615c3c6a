"""The files that people read: both tables, the scores, and the report in two forms."""

from __future__ import annotations

from pathlib import Path

from byrote.report.axes import VariedResults
from byrote.report.claims import judged_claims
from byrote.report.claims_section import claims_csv, claims_markdown
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.results import Results
from byrote.store import atomic_path, write_text


def write_report(results: Results, folder: Path | str) -> None:
    """Write results.csv, results.json, scores.parquet, report.md and report.html, each whole or not at all."""
    import pyarrow.parquet

    folder = Path(folder)
    write_text(folder / "results.csv", results.csv())
    write_text(folder / "results.json", results.json())
    with atomic_path(folder / "scores.parquet") as path:
        pyarrow.parquet.write_table(results.score_table(), path, compression="zstd")
    write_claims(results, folder)
    write_text(folder / "report.md", report_markdown(results, claims_markdown(results)))
    write_text(folder / "report.html", report_html(results))


def write_claims(results: Results | VariedResults, folder: Path) -> None:
    """Write claims.csv, every comparison of every claim; none where the study claims nothing."""
    if judged_claims(results):
        write_text(folder / "claims.csv", claims_csv(results))
    else:
        (folder / "claims.csv").unlink(missing_ok=True)
