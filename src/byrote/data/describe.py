"""Looking at a data file: what its columns seem to be, and how many of its records a study can use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from byrote.data.base import Columns, Loaded, Place, Row
from byrote.data.duplicates import remove_duplicates
from byrote.data.load import load, open_table
from byrote.data.split import split
from byrote.data.text_lines import require_file
from byrote.types import Record, StudyError

SAMPLE = 5000  # rows that are looked at to guess what a column is
COMPARED = 20_000  # records that are compared for near-duplicates; of more, exact duplicates are enough here
FEWEST_RECORDS = 20
NEAR_DUPLICATES = 0.8

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("input", "output"),
)
LABEL_NAMES = re.compile(r"label|class|category|topic|intent|sentiment|kind|type|status|priority|tag", re.IGNORECASE)
ID_NAMES = re.compile(r"(.*[ _.-])?(id|uid|uuid|guid|key)|.*[a-z]I[dD]", re.IGNORECASE)
PERSON_NAMES = re.compile(
    r"user|customer|author|e-?mail|person|patient|client|account|speaker|sender|owner|student|employee|who|writer",
    re.IGNORECASE,
)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """What a sample of one column looks like. Means are over the values that are not empty."""

    name: str
    is_text: bool
    """Most values are words rather than numbers."""
    mean_words: float
    distinct: int
    filled: int
    rows: int
    largest_share: float
    """The share of the rows that hold the commonest value, in [0, 1]."""
    emails: bool
    """Most values are e-mail addresses."""


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What `byrote init` knows of a file."""

    path: Path
    rows: int
    """Rows of the file, good and bad."""
    usable: int
    """Records without bad rows, duplicates and near-duplicates."""
    bad_rows: Mapping[str, int]
    first_bad: tuple[str, ...]
    columns: tuple[ColumnSummary, ...]
    guess: Columns
    median_words: int
    sizes: tuple[int, int, int, int]
    """Members, nonmembers, validation, test: sizes with which the split is known to work."""


def describe_file(path: Path) -> FileSummary:
    """Look at a .jsonl, .csv, .parquet or .txt file. Raises StudyError when no study can use it."""
    require_file(path, str(path))
    columns = summarise(Place(path.name, path.parent))
    if not any(column.rows for column in columns):
        raise StudyError(f"{path}: it has no rows that can be read")
    guess = guess_columns(columns)
    loaded = load(path.name, guess, on_bad_rows="skip", base_folder=path.parent)
    if guess.id and "duplicate id" in loaded.bad_rows:
        guess = replace(guess, id=None)
        loaded = load(path.name, guess, on_bad_rows="skip", base_folder=path.parent)
    threshold = NEAR_DUPLICATES if len(loaded.records) <= COMPARED else 1.0
    kept, _ = remove_duplicates(loaded.records, threshold)
    parts = choose_sizes(len(kept), path.name)
    if guess.group and not groups_fit(kept, parts):
        guess = replace(guess, group=None)
    return FileSummary(
        path=path,
        rows=count_rows(loaded),
        usable=len(kept),
        bad_rows=loaded.bad_rows,
        first_bad=loaded.first_bad,
        columns=columns,
        guess=guess,
        median_words=int(np.median([len(record.text.split()) for record in kept])),
        sizes=parts,
    )


def count_rows(loaded: Loaded) -> int:
    """Rows of the source, good and bad."""
    return len(loaded.records) + sum(loaded.bad_rows.values())


def summarise(place: Place) -> tuple[ColumnSummary, ...]:
    """Each column of the first rows of a source."""
    table = open_table(place)
    rows = [row.values for row in islice(table.rows, SAMPLE) if isinstance(row, Row)]
    return tuple(summarise_column(name, [row.get(name) for row in rows], table.columns[name]) for name in table.columns)


def summarise_column(name: str, values: list[object], may_be_text: bool) -> ColumnSummary:
    """One column from a sample of its values."""
    filled = [str(value).strip() for value in values if value is not None and str(value).strip()]
    counts = Counter(filled)
    numbers = sum(1 for value in filled if not re.search(r"[^\W\d_]", value))
    return ColumnSummary(
        name=name,
        is_text=may_be_text and bool(filled) and 2 * numbers < len(filled),
        mean_words=sum(len(value.split()) for value in filled) / len(filled) if filled else 0.0,
        distinct=len(counts),
        filled=len(filled),
        rows=len(values),
        largest_share=max(counts.values(), default=0) / max(len(values), 1),
        emails=2 * sum(1 for value in filled if EMAIL.fullmatch(value)) > len(filled),
    )


def guess_columns(columns: tuple[ColumnSummary, ...]) -> Columns:
    """Which column is what, by names and contents. Raises StudyError when none holds text."""
    texts = {column.name: column for column in columns if column.is_text}
    if not texts:
        names = ", ".join(column.name for column in columns)
        raise StudyError(f"no column holds text. Columns: {names or 'none'}. byrote needs one with sentences in it")
    by_lower = {name.lower(): name for name in texts}
    found = Columns()
    for prompt, completion in PAIRS:
        if prompt in by_lower and completion in by_lower:
            found = Columns(prompt=by_lower[prompt], completion=by_lower[completion])
            break
    if found.prompt is None:
        longest = max(texts.values(), key=lambda column: column.mean_words).name
        found = Columns(text=by_lower.get("text", longest))
    rest = [column for column in columns if column.name not in found.named().values()]
    key = next((c for c in rest if ID_NAMES.fullmatch(c.name) and c.distinct == c.filled == c.rows), None)
    rest = [column for column in rest if column is not key]
    person = next((column for column in rest if is_person(column)), None)
    label = next((column for column in rest if column is not person and is_label(column)), None)
    return replace(
        found,
        id=key.name if key else None,
        group=person.name if person else None,
        label=label.name if label else None,
    )


def is_person(column: ColumnSummary) -> bool:
    """A column that says whose record it is: it repeats, but no one has a tenth of the records."""
    named = bool(PERSON_NAMES.search(column.name)) or column.emails
    repeats = 10 <= column.distinct < column.rows and column.filled == column.rows
    return named and repeats and column.largest_share <= 0.1 and column.mean_words <= 4


def is_label(column: ColumnSummary) -> bool:
    """A column of few values, each used often, with a name that says so."""
    few = 2 <= column.distinct <= min(50, column.rows // 5)
    return few and column.filled == column.rows and bool(LABEL_NAMES.search(column.name))


def choose_sizes(usable: int, name: str) -> tuple[int, int, int, int]:
    """Members and nonmembers of 30% each, validation and test of 15% each, a tenth spare; at most 1,000 each.

    1,000 nonmembers are what a true positive rate at 1% false positives needs; more only costs time.
    """
    if usable < FEWEST_RECORDS:
        raise StudyError(
            f"{name} has {usable} usable records after leaving out bad rows and copies; a study needs at least "
            f"{FEWEST_RECORDS}, and some hundreds before its numbers say much"
        )
    half, quarter = min(1000, usable * 3 // 10), min(500, usable * 3 // 20)
    if half >= 100:
        half, quarter = half - half % 10, quarter - quarter % 5
    return half, half, quarter, quarter


def groups_fit(records: tuple[Record, ...], parts: tuple[int, int, int, int]) -> bool:
    """Whether whole groups can fill these parts."""
    members, nonmembers, validation, test = parts
    try:
        split(records, members=members, nonmembers=nonmembers, validation=validation, test=test, seed=0)
    except StudyError:
        return False
    return True
