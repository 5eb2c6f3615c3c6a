"""The commands that one begins with: list, init and schema."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from byrote.cli.app import DONE
from byrote.types import StudyError

Rooms = Literal["methods", "attacks", "utility", "sources", "models", "trackers", "studies"]


def list_(what: Rooms | None = None, /) -> int:
    """List what byrote has: methods, attacks, utility measures, sources, models or studies.

    Parameters
    ----------
    what
        One kind; all of them when left out.
    """
    from byrote.console import listing, out_console

    out_console().print(listing(what))
    return DONE


def init(
    file: Path,
    /,
    *,
    study: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a commented first study for a data file, by looking at its columns.

    Beside it goes study.schema.json, with which editors complete the study's keys and mark what is misspelt.

    Parameters
    ----------
    file
        A .jsonl, .csv, .parquet or .txt file.
    study
        The study file to write. Default: NAME.yaml beside the data.
    force
        Overwrite it if it exists.
    """
    from byrote.console import out_console
    from byrote.data.describe import describe_file
    from byrote.data.init import study_text
    from byrote.store import write_text
    from byrote.study.schema import FILE, MODELINE, schema_text

    place = study or file.with_suffix(".yaml")
    if place.exists() and not force:
        raise StudyError(f"{place} exists already: give --force to overwrite it, or another --study")
    summary = describe_file(file)
    write_text(place, f"{MODELINE}\n{study_text(summary, _source_from(file, place))}")
    write_text(place.parent / FILE, schema_text())
    if bad := sum(summary.bad_rows.values()):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.bad_rows.items())
        words = f"{bad:,} of {summary.rows:,} rows would be left out ({kinds}), the first: {summary.first_bad[0]}"
        out_console().print(words, soft_wrap=True, markup=False, highlight=False)
    out_console().print(f"Wrote {place}. Look through it, then: byrote run {place}", soft_wrap=True)
    return DONE


def schema() -> int:
    """Print the JSON Schema of study files, for editors: byrote schema > study.schema.json."""
    from byrote.study.schema import schema_text

    sys.stdout.write(schema_text())
    return DONE


def _source_from(file: Path, study: Path) -> str:
    """The data file as the study must spell it: relative to the study's own folder where it can be."""
    return Path(os.path.relpath(file.resolve(), study.resolve().parent)).as_posix()
