"""Records from a plain text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from byrote.data.base import BadRow, Columns, Place, Row, Source, Table
from byrote.data.text_lines import bad_bytes, raw_lines, require_file
from byrote.registry import register
from byrote.types import StudyError


@register("source", "txt")
class PlainText(Source):
    """A .txt file: one record per paragraph, or one per line when no blank line parts any two.

    A paragraph is a run of lines without a blank line in it; its lines stay as they are. A file
    that has a blank line between two lines of text is read in paragraphs; any other, by lines.
    The only column is "text".
    """

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether the name ends in .txt."""
        return source.lower().endswith(".txt")

    def open(self, place: Place) -> Table:
        """Open the file, looking first for a blank line between paragraphs."""
        require_file(place.path, place.source)
        paragraphs = has_paragraphs(place.path)
        if paragraphs is None:
            raise StudyError(f"{place.source} holds only blank lines: it holds no records")
        description = "one record per paragraph" if paragraphs else "one record per line"
        rows = read_rows(place.path, paragraphs)
        return Table(place.path.name, {"text": True}, rows, Columns(text="text"), description=description)


def has_paragraphs(path: Path) -> bool | None:
    """Whether a blank line stands between two lines of text; None when there is no text at all."""
    seen_text = seen_gap = False
    for _, line in raw_lines(path):
        if line.strip():
            if seen_gap:
                return True
            seen_text = True
        elif seen_text:
            seen_gap = True
    return False if seen_text else None


def read_rows(path: Path, paragraphs: bool) -> Iterator[Row | BadRow]:
    """One row per paragraph or per line, with the line on which it starts."""
    block: list[tuple[int, bytes]] = []
    for number, line in raw_lines(path):
        blank = not line.strip()
        if block and (blank or not paragraphs):
            yield to_row(block)
            block = []
        if not blank:
            block.append((number, line.rstrip(b"\r\n")))
    if block:
        yield to_row(block)


def to_row(block: list[tuple[int, bytes]]) -> Row | BadRow:
    """The lines of one record as a row."""
    texts = []
    for number, line in block:
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            return bad_bytes(number, error)
    return Row(block[0][0], {"text": "\n".join(texts)})
