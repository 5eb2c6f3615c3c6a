"""The commands that read results and train nothing: report."""

from __future__ import annotations

from pathlib import Path

from byrote.cli.app import show


def report(folder: Path, /) -> int:
    """Write the report of a finished or half-finished study again; nothing is trained.

    Parameters
    ----------
    folder
        The study's results folder, which holds study.json, or axes.json where the study varies something.
    """
    from byrote.report.axes import AXES
    from byrote.report.axes_page import report_again
    from byrote.report.results import Results
    from byrote.report.write import write_report

    if (folder / AXES).exists():
        return show(report_again(folder), folder)
    results = Results.read(folder)
    write_report(results, folder)
    return show(results, folder)
