"""Records from a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from byrote.data.base import BadRow, Place, Row, Source, Table
from byrote.data.text_lines import require_file
from byrote.registry import register
from byrote.types import StudyError

BATCH = 4096


@register("source", "parquet")
class ParquetFile(Source):
    """A .parquet file. A record is known by its file name and row, counted from 1."""

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether the name ends in .parquet."""
        return source.lower().endswith(".parquet")

    def open(self, place: Place) -> Table:
        """Open the file; its columns and their types are those of its schema."""
        require_file(place.path, place.source)
        return open_parquet(place.path, place.source)


def open_parquet(path: Path, shown: str) -> Table:
    """The table in a Parquet file; `shown` is what messages call it."""
    import pyarrow as arrow
    import pyarrow.parquet

    try:
        file = arrow.parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        first_line = (str(error).splitlines() or ["it cannot be opened"])[0]
        raise StudyError(f"{shown} is not a Parquet file that can be read: {first_line}") from None
    if not file.metadata.num_rows:
        raise StudyError(f"{shown} is empty: it holds no records")
    columns = {column.name: holds_text(column.type) for column in file.schema_arrow}
    return Table(path.name, columns, read_rows(file, shown))


def holds_text(kind: Any) -> bool:
    """Whether an Arrow type is text, be it dictionary-encoded or not."""
    import pyarrow as arrow

    kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_string_view(kind))


def read_rows(file: Any, shown: str) -> Iterator[Row | BadRow]:
    """Row by row, a batch at a time."""
    import pyarrow as arrow

    number = 0
    batches = file.iter_batches(batch_size=BATCH)
    while True:
        try:
            batch = next(batches, None)
        except (arrow.ArrowException, OSError) as error:
            raise StudyError(f"{shown} is damaged after row {number}: {str(error).splitlines()[0]}") from None
        if batch is None:
            return
        try:
            for values in batch.to_pylist():
                yield Row(number := number + 1, values)
        except UnicodeDecodeError:
            for index in range(batch.num_rows):
                yield decode_row(batch, index, number := number + 1)


def decode_row(batch: Any, index: int, number: int) -> Row | BadRow:
    """One row of a batch in which some text is not UTF-8."""
    try:
        return Row(number, {name: batch.column(name)[index].as_py() for name in batch.schema.names})
    except UnicodeDecodeError as error:
        return BadRow(number, "not UTF-8", f"byte 0x{error.object[error.start]:02x} is not UTF-8")
