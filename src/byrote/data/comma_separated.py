"""Records from a comma-separated file."""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from byrote.data.base import BadRow, Place, Row, Source, Table
from byrote.data.text_lines import bad_bytes, raw_lines, require_file
from byrote.registry import register
from byrote.types import StudyError

FIELD_LIMIT = 2**30  # bytes; the csv module's own limit of 128 KiB is below a long document
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@register("source", "csv")
class CommaSeparated(Source):
    """A .csv file: commas, a header line, double quotes around fields that hold commas or line ends.

    UTF-8; blank lines are passed over; a record is known by its file name and the line on which it starts.
    """

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether the name ends in .csv."""
        return source.lower().endswith(".csv")

    def open(self, place: Place) -> Table:
        """Open the file and check its header."""
        require_file(place.path, place.source)
        rows = read_fields(place.path)
        first = next(rows, None)
        if first is None:
            raise StudyError(f"{place.source} holds only blank lines")
        number, header = first
        if isinstance(header, BadRow):
            raise StudyError(f"{place.source}:{number}: {header.detail}")
        check_header(header, f"{place.source}:{number}")
        return Table(place.path.name, dict.fromkeys(header, True), read_rows(rows, header))


def check_header(header: list[str], where: str) -> None:
    """Raise StudyError for a header that cannot name columns."""
    if len(header) == 1:
        for delimiter, called in OTHER_DELIMITERS.items():
            if delimiter in header[0]:
                raise StudyError(
                    f"{where}: the columns are separated by {called}, but byrote reads commas only: save the file "
                    "again with commas, or as .jsonl or .parquet"
                )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise StudyError(f"{where}: the header names {twice[0]!r} more than once; give each column its own name")
    if not any(name.strip() for name in header):
        raise StudyError(f"{where}: the header line is empty; the first line names the columns")


def read_rows(fields: Iterator[tuple[int, list[str] | BadRow]], header: list[str]) -> Iterator[Row | BadRow]:
    """Rows by column name; a row of another width is a complaint."""
    for number, values in fields:
        if isinstance(values, BadRow):
            yield values
        elif len(values) != len(header):
            detail = f"the row has {len(values)} fields but the header has {len(header)}; "
            detail += "quote fields that hold commas" if len(values) > len(header) else "is a comma or a quote missing?"
            yield BadRow(number, "wrong number of fields", detail)
        else:
            yield Row(number, dict(zip(header, values, strict=True)))


class _Lines:
    """Decoded lines for csv.reader that remember what the row in hand took, so that a bad row can be given back."""

    def __init__(self, path: Path) -> None:
        self.source = raw_lines(path)
        self.again: deque[tuple[int, bytes]] = deque()
        self.taken: list[tuple[int, bytes]] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, line = self.again.popleft() if self.again else next(self.source)
        self.taken.append((number, line))
        # Bytes that are not UTF-8 become lone surrogates here, which `bad_line` then finds.
        return line.decode("utf-8", "surrogateescape")

    def give_back_all_but_first(self) -> None:
        self.again.extendleft(reversed(self.taken[1:]))

    def bad_line(self) -> BadRow | None:
        for number, line in self.taken:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return bad_bytes(number, error)
        return None


def read_fields(path: Path) -> Iterator[tuple[int, list[str] | BadRow]]:
    """(line on which the row starts, its fields or a complaint).

    After a quoting error reading goes on with the line after the one on which the bad row starts:
    a quote that is never closed must not swallow the good rows behind it.
    """
    lines = _Lines(path)
    reader = csv.reader(lines, strict=True)
    # The limit belongs to the csv module as a whole, so it is raised for this call only and put back.
    while True:
        lines.taken = []
        limit = csv.field_size_limit(FIELD_LIMIT)
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number = lines.taken[0][0]
            yield number, lines.bad_line() or quoting_error(number, lines.taken[-1][0], error)
            lines.give_back_all_but_first()
            continue
        finally:
            csv.field_size_limit(limit)
        if values:
            yield lines.taken[0][0], lines.bad_line() or values


def quoting_error(first: int, last: int, error: csv.Error) -> BadRow:
    """What the csv module's complaint means to a person."""
    if "unexpected end of data" in str(error):
        detail = f"a quote opens in this row and is never closed (the file ends on line {last})"
    elif "new-line character" in str(error):
        detail = "a carriage return inside a field that is not quoted: save the file again with ordinary line ends"
    else:
        span = f"lines {first} to {last}" if last > first else "this line"
        detail = f'the quotes do not match on {span} ({error}); write a quote inside a quoted field twice: ""'
    return BadRow(first, "bad quoting", detail)
