"""Members and nonmembers as somebody tells them, and not as byrote draws them: what an audit is about."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from byrote.data.base import Columns, Loaded
from byrote.data.duplicates import remove_duplicates
from byrote.data.load import load
from byrote.data.records import fingerprint, from_list
from byrote.types import Record, Splits, StudyError, normalise

NEAR = 0.8
"""Jaccard similarity from which a record counts as a copy of an earlier one, as in a study."""
FEWEST = 2
PARTS = ("members", "nonmembers", "population")
SAID = {
    "members": ("member", "members", "train", "1", "true", "yes"),
    "nonmembers": ("nonmember", "nonmembers", "non-member", "non-members", "test", "0", "false", "no"),
    "population": ("population", "validation"),
}
"""What a column that tells members from nonmembers may hold; case does not matter."""


def from_files(sources: Mapping[str, str], columns: Columns, on_bad_rows: str = "error") -> dict[str, Loaded]:
    """Members, nonmembers and, where given, population, each from its own source. Raises StudyError."""
    paths: dict[Path, str] = {}
    for part, source in sources.items():
        earlier = paths.setdefault(Path(source).expanduser().resolve(), part)
        if earlier != part:
            raise StudyError(f"{source} is given as {earlier} and as {part}: a record is one or the other")
    return {part: load(source, columns, on_bad_rows=on_bad_rows) for part, source in sources.items()}


def from_column(source: str, column: str, columns: Columns, on_bad_rows: str = "error") -> dict[str, Loaded]:
    """The same from one source, with a column that says what each record is. Raises StudyError."""
    loaded = load(source, replace(columns, label=column), on_bad_rows=on_bad_rows)
    part_of = {word: part for part, words in SAID.items() for word in words}
    found: dict[str, list[Record]] = {part: [] for part in PARTS}
    for record in loaded.records:
        said = (record.label or "").strip().lower()
        if said not in part_of:
            known = "; ".join(f"{part}: {', '.join(words)}" for part, words in SAID.items())
            raise StudyError(
                f"{record.where}: {column!r} is {record.label!r}, which byrote does not know. Known: {known}."
            )
        found[part_of[said]].append(replace(record, label=None))
    for part in ("members", "nonmembers"):
        if not found[part]:
            raise StudyError(f"{source}: column {column!r} names no {part}; one of {', '.join(SAID[part])} would")
    whole = {
        part: replace(loaded, records=tuple(records), fingerprint=fingerprint(records, columns))
        for part, records in found.items()
        if records
    }
    # The rows that were left out have no part: they are counted once.
    return {part: one if part == "members" else replace(one, bad_rows={}, first_bad=()) for part, one in whole.items()}


def from_texts(texts: Mapping[str, Sequence[str]], on_bad_rows: str = "error") -> dict[str, Loaded]:
    """The same from lists of texts in memory. Raises StudyError."""
    found = {}
    for part, given in texts.items():
        if isinstance(given, str):
            raise StudyError(f"{part} is one text; give a list of texts")
        found[part] = from_list(given, part, on_bad_rows)
    return found


def told(parts: Mapping[str, Loaded]) -> tuple[Loaded, Splits]:
    """The records of all parts, and who is what. Population records are the split's test records.

    Raises StudyError where two parts share a text. Copies within a part, and near-copies of any earlier record, are
    left out and counted, as a study leaves them out.
    """
    named = _told_apart({part: parts[part].records for part in PARTS if part in parts})
    _refuse_overlap(named)
    part_of = {record.id: part for part, records in named.items() for record in records}
    everything = [record for records in named.values() for record in records]
    kept, copies = remove_duplicates(everything, NEAR)
    left = {part: tuple(record for record in kept if part_of[record.id] == part) for part in PARTS}
    for part in ("members", "nonmembers"):
        if len(left[part]) < FEWEST:
            gone = f" ({', '.join(f'{count} {why}' for why, count in copies.items())} left out)" if copies else ""
            raise StudyError(
                f"{len(left[part])} {part}{gone}: an audit needs at least {FEWEST}, and hundreds to say much"
            )
    bad: Counter[str] = Counter()
    for one in parts.values():
        bad.update(one.bad_rows)
    dropped = {f"bad row: {reason}": count for reason, count in bad.items()} | copies
    whole = Loaded(
        records=kept,
        bad_rows=dict(bad),
        first_bad=tuple(said for one in parts.values() for said in one.first_bad),
        fingerprint=hashlib.sha256("".join(parts[part].fingerprint for part in named).encode()).hexdigest(),
        licence=next((one.licence for one in parts.values() if one.licence), ""),
        description=", ".join(f"{len(records)} {part}" for part, records in left.items() if records),
    )
    return whole, Splits(left["members"], left["nonmembers"], (), left["population"], dropped=dropped)


def _told_apart(parts: Mapping[str, Sequence[Record]]) -> dict[str, tuple[Record, ...]]:
    """The records with ids that are unique over all parts: two files may have one name, or count alike."""
    ids = Counter(record.id for records in parts.values() for record in records)
    return {
        part: tuple(replace(record, id=f"{part}/{record.id}") if ids[record.id] > 1 else record for record in records)
        for part, records in parts.items()
    }


def _refuse_overlap(parts: Mapping[str, Iterable[Record]]) -> None:
    """Raises StudyError where a text stands in two parts."""
    first: dict[str, tuple[str, Record]] = {}
    for part, records in parts.items():
        shared = []
        for record in records:
            earlier, other = first.setdefault(normalise(record.text), (part, record))
            if earlier != part:
                shared.append((record, earlier, other))
        if shared:
            record, earlier, other = shared[0]
            count = len({normalise(one.text) for one, *_ in shared})
            raise StudyError(
                f"{count} of the texts of {part} {'stands' if count == 1 else 'stand'} among the {earlier} too, first "
                f"{record.where}, which is {other.where}. A text is one or the other: take "
                f"{'it' if count == 1 else 'them'} out of one of the two, or check that the right files were given"
            )
