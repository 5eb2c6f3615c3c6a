"""The commands that read results and train nothing: report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from byrote.cli.app import DONE, FAILED, show
from byrote.types import StudyError


def report(
    folder: Path,
    /,
    *,
    format: Annotated[list[str] | None, Parameter(negative=())] = None,
    out: Path | None = None,
) -> int:
    """Write the report of a finished or half-finished study again; nothing is trained.

    Parameters
    ----------
    folder
        The folder that `byrote run` or `byrote audit` left. Without --format its files are written again there.
    format
        html, md, csv, json or latex (the main table, for a paper); several, parted by commas. One goes to standard
        output, or to --out.
    out
        The file to write, or the folder where several formats are asked for.
    """
    from byrote.report.render import FORMS, formats_named, read_results, rendered

    if format is None:
        if out is not None:
            raise StudyError("--out needs --format: without one, the files of the folder itself are written again")
        return _again(folder)
    names = formats_named(format)
    if len(names) > 1 and out is None:
        raise StudyError("several formats need --out FOLDER: they cannot all go to standard output")
    if out is None and names == ["html"] and sys.stdout.isatty():
        raise StudyError("a page of HTML is nothing for a terminal: give --out FILE")
    results = read_results(folder)
    for name in names:
        put(rendered(results, name), out / FORMS[name].file if out is not None and len(names) > 1 else out)
    return FAILED if results.failed else DONE


def _again(folder: Path) -> int:
    from byrote.report.axes import AXES
    from byrote.report.axes_page import report_again
    from byrote.report.results import Results
    from byrote.report.write import write_report

    if (folder / AXES).exists():
        return show(report_again(folder), folder)
    results = Results.read(folder)
    write_report(results, folder)
    return show(results, folder)


def put(text: str, file: Path | None) -> None:
    """To standard output as it is, or to a file, whole or not at all."""
    from byrote.console import out_console
    from byrote.store import write_text

    if file is None:
        sys.stdout.write(text)
        return
    write_text(file, text)
    out_console().print(f"Wrote {os.path.relpath(file)}", soft_wrap=True)
