"""The commands that read results and train nothing: report, compare, card, gate."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from byrote.cli.app import DONE, FAILED, GATED, show
from byrote.types import StudyError


def report(
    folder: Path,
    /,
    *,
    format: Annotated[list[str] | None, Parameter(negative=())] = None,
    out: Path | None = None,
    show_text: Annotated[bool, Parameter(negative=())] = False,
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
    show_text
        Put the texts of the most exposed records on the page, where the last run kept them.
    """
    from byrote.report.render import FORMS, formats_named, read_results, rendered

    if format is None:
        if out is not None:
            raise StudyError("--out needs --format: without one, the files of the folder itself are written again")
        return _again(folder, show_text)
    names = formats_named(format)
    if len(names) > 1 and out is None:
        raise StudyError("several formats need --out FOLDER: they cannot all go to standard output")
    if out is None and names == ["html"] and sys.stdout.isatty():
        raise StudyError("a page of HTML is nothing for a terminal: give --out FILE")
    results = read_results(folder)
    for name in names:
        put(rendered(results, name, show_text), out / FORMS[name].file if out is not None and len(names) > 1 else out)
    return FAILED if results.failed else DONE


def _again(folder: Path, show_text: bool) -> int:
    from byrote.report.write import report_again

    return show(report_again(folder, show_text), folder)


def compare(
    first: Path,
    second: Path,
    /,
    *,
    only: Annotated[list[str] | None, Parameter(negative=())] = None,
    slice_: Annotated[list[str] | None, Parameter(name="--slice", negative=())] = None,
    across: Annotated[list[Literal["model", "data"]] | None, Parameter(negative=())] = None,
    format: Literal["text", "md", "csv", "json"] = "text",
    out: Path | None = None,
) -> int:
    """Set two results folders side by side: numbers that both have, with the difference and its interval.

    Numbers match where model, data, method, settings, privacy, seed, slice and metric are the same, at the last epoch.

    Parameters
    ----------
    first
        A folder that `byrote run` or `byrote audit` left.
    second
        Another one. Differences are of the second less the first.
    only
        Compare only these numbers: KIND.METRIC, KIND.NAME or KIND.NAME.METRIC, as in --only membership.auc. The fewer
        are compared, the less the correction for many costs. Repeatable. Default: the AUC of every attack, what comes
        out, wrong labels, utility and epsilon.
    slice_
        Compare these parts of the records besides all of them, such as copies=8, or all. Repeatable.
    across
        Compare although the model, or the data, is not the same. Repeatable.
    format
        text, md, csv or json.
    out
        The file to write. Default: standard output.
    """
    from byrote.report.compare import Asked
    from byrote.report.compare import compare as side_by_side
    from byrote.report.compare_text import csv_of, json_of, markdown_of, text_of
    from byrote.report.selection import Key

    asked = Asked([Key.read(text) for text in only or []], slice_ or (), across or ())
    forms = {"text": text_of, "md": markdown_of, "csv": csv_of, "json": json_of}
    put(forms[format](side_by_side(first, second, asked)), out)
    return DONE


def card(folder: Path, /, *, run: str | None = None, out: Path | None = None) -> int:
    """Write a section for the model card of one tuned model: training, privacy account, audit and their limits.

    Parameters
    ----------
    folder
        The folder that `byrote run` or `byrote audit` left.
    run
        Which model, where there are several: a run id, or a method that only one run has.
    out
        The Markdown file to write. Default: standard output.
    """
    from byrote.report.card import card as section
    from byrote.report.render import read_results

    put(section(read_results(folder), run), out)
    return DONE


def gate(
    folder: Path,
    /,
    *,
    max_: Annotated[list[str] | None, Parameter(name="--max", negative=())] = None,
    min_: Annotated[list[str] | None, Parameter(name="--min", negative=())] = None,
    max_observed: Annotated[list[str] | None, Parameter(negative=())] = None,
    method: Annotated[list[str] | None, Parameter(negative=())] = None,
    privacy: Annotated[list[str] | None, Parameter(negative=())] = None,
    slice_: Annotated[list[str] | None, Parameter(name="--slice", negative=())] = None,
    epoch: str = "last",
    format: Literal["text", "json"] = "text",
) -> int:
    """Check results against limits, for continuous integration.

    Exit code 0 where every limit is kept; 3 where an interval passes one, a number is missing or a run failed; 2 for
    bad usage.

    Parameters
    ----------
    folder
        The folder that `byrote run` or `byrote audit` left.
    max_
        KEY=LIMIT: the upper end of the 95% interval may not be above it, as in --max membership.auc=0.6. A key is
        KIND.METRIC, KIND.NAME or KIND.NAME.METRIC, in the words of results.csv; all numbers that it means must keep
        the limit. Repeatable.
    min_
        KEY=LIMIT: the lower end of the interval may not be below it, as in --min utility.accuracy=0.8. Repeatable.
    max_observed
        KEY=LIMIT for the number itself, whatever its interval: nothing of what was audited may come out, as in
        --max-observed extraction.k-extractable=0. It says nothing of other records. Repeatable.
    method
        Judge only this method, by its name or as the report calls it. Repeatable.
    privacy
        Judge only this privacy level: none, or a target epsilon. Repeatable.
    slice_
        Judge only these records, such as copies=8, or all slices. Default: all records together, and slices where a
        number has nothing else. Repeatable.
    epoch
        last, best (the lowest validation loss) or a number.
    format
        One line for each check, or all of it as JSON.
    """
    from byrote.report.gate import Limit, Sense, Wanted
    from byrote.report.gate import gate as judge
    from byrote.report.render import read_results

    asked: dict[Sense, list[str]] = {"max": max_ or [], "min": min_ or [], "max-observed": max_observed or []}
    limits = [Limit.read(text, sense) for sense, texts in asked.items() for text in texts]
    if not limits:
        raise StudyError("give at least one limit, for example --max membership.auc=0.6")
    wanted = Wanted(method or (), privacy or (), slice_ or (), epoch)
    found = judge(read_results(folder), limits, wanted)
    print(json.dumps(found.as_json(), indent=1) if format == "json" else "\n".join(found.lines()))
    return DONE if found.passed else GATED


def put(text: str, file: Path | None) -> None:
    """To standard output as it is, or to a file, whole or not at all."""
    from byrote.console import out_console
    from byrote.store import write_text

    if file is None:
        sys.stdout.write(text)
        return
    write_text(file, text)
    out_console().print(f"Wrote {os.path.relpath(file)}", soft_wrap=True)
