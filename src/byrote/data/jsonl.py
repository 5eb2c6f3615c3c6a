"""Records from a JSON Lines file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from byrote.data.base import BadRow, Place, Row, Source, Table
from byrote.data.text_lines import bad_bytes, raw_lines, require_file
from byrote.registry import register
from byrote.types import StudyError

SAMPLE = 1000


@register("source", "jsonl")
class JsonLines(Source):
    """A .jsonl file: one JSON object per line.

    UTF-8; blank lines are passed over; a record is known by its file name and line.
    """

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether the name ends in .jsonl."""
        return source.lower().endswith(".jsonl")

    def open(self, place: Place) -> Table:
        """Open the file; its columns are the keys of the first thousand objects."""
        require_file(place.path, place.source)
        columns: dict[str, bool] = {}
        for count, row in enumerate(read_rows(place.path)):
            if isinstance(row, Row):
                for key, value in row.values.items():
                    columns[key] = columns.get(key, False) or isinstance(value, str)
            if count + 1 == SAMPLE:
                break
        if not columns:
            first = next(read_rows(place.path), None)
            why = f":{first.line}: {first.detail}" if isinstance(first, BadRow) else " holds no JSON object"
            raise StudyError(f"{place.source}{why}")
        return Table(place.path.name, columns, read_rows(place.path))


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """Each line that is not blank, as a row or as a complaint."""
    for number, line in raw_lines(path):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield bad_bytes(number, error)
            continue
        if text.strip():
            yield parse(number, text)


def parse(number: int, text: str) -> Row | BadRow:
    """One line of JSON as a row."""
    if text.startswith("\ufeff"):
        return BadRow(number, "byte-order mark", "a byte-order mark inside the file: were two files joined? Delete it")
    if "\x00" in text:
        return BadRow(number, "NUL byte", "the line holds a NUL byte: was the file cut off while it was written?")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return BadRow(number, "broken JSON", f"not valid JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError) as error:
        return BadRow(number, "broken JSON", f"JSON that cannot be read: {error}")
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null"}.get(type(value), "a number or truth value")
        return BadRow(
            number, "not an object", f'the line holds {kind}; byrote needs an object such as {{"text": "..."}}'
        )
    return Row(number, value)
