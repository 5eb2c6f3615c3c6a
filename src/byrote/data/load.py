"""From what a study calls its source to records."""

from __future__ import annotations

import re
from pathlib import Path

from byrote.data.base import Columns, Loaded, Place, Source, Table
from byrote.data.records import choose_columns, to_records
from byrote.data.text_lines import require_file
from byrote.registry import discover, nearest
from byrote.types import StudyError

READABLE = ".jsonl, .csv, .parquet or .txt"
FILE_LIKE = re.compile(
    r"\.(json|tsv|tab|xlsx?|ods|gz|zip|bz2|xz|zst|arrow|feather|pkl|npy|md|pdf|docx?|html?|xml|ya?ml)$"
)


def load(
    source: str,
    columns: Columns | None = None,
    *,
    on_bad_rows: str = "error",
    split: str = "train",
    revision: str | None = None,
    base_folder: Path = Path(),
) -> Loaded:
    """The records of a source: a file, a Hub id or a built-in set.

    Relative paths start from `base_folder`, the folder of the study. `split` and `revision` belong to
    the Hub. Raises StudyError that names the file and the line; with `on_bad_rows="skip"` a bad row is
    left out and counted instead.
    """
    if on_bad_rows not in ("error", "skip"):
        raise StudyError(f"data: on_bad_rows is {on_bad_rows!r}, but must be 'error' or 'skip'")
    table = open_table(Place(source, base_folder, split, revision))
    chosen = choose_columns(columns or Columns(), table, source)
    return to_records(table, chosen, source, on_bad_rows)


def open_table(place: Place) -> Table:
    """The rows of a source, by the one source component that accepts its name."""
    return find_source(place).open(place)


def find_source(place: Place) -> Source:
    """The source component that accepts the name. Raises StudyError when none does."""
    known = [component for component in discover("source").values() if issubclass(component, Source)]
    for component in known:
        if not component.last_resort and component.accepts(place.source):
            return component()
    name = place.source
    if name.startswith("builtin:"):
        sets = [component.name for component in known if component.name.startswith("builtin:")]
        raise StudyError(f"unknown built-in set {name!r}.{nearest(name, sets)} Known: {', '.join(sets)}.")
    if place.path.exists() or FILE_LIKE.search(name.lower()) or name.startswith((".", "/", "~")) or "\\" in name:
        require_file(place.path, name)
        raise StudyError(f"{name}: byrote reads files that end in {READABLE}; save it as one of these")
    for component in known:
        if component.last_resort and component.accepts(name):
            return component()
    raise StudyError(
        f"data: {name!r} is not a source: give a file that ends in {READABLE}, a Hub id such as 'owner/name', "
        "or a built-in set such as builtin:aws-docs"
    )
