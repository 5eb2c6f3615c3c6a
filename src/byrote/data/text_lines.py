"""Reading a text file line by line, with physical line numbers. Shared by the .jsonl, .csv and .txt sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from byrote.data.base import BadRow
from byrote.registry import nearest
from byrote.types import StudyError

UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def require_file(path: Path, shown: str) -> None:
    """Raise StudyError unless `path` is a file that can be opened and is not empty."""
    if path.is_dir():
        raise StudyError(f"{shown} is a folder: name one file in it, such as {shown.rstrip('/')}/data.jsonl")
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            raise StudyError(f"{shown}: no such file, and no folder {folder.name!r} to hold it")
        names = [entry.name for entry in folder.iterdir() if entry.is_file()]
        hint = nearest(path.name, names) or " Paths are relative to the folder of the study file."
        raise StudyError(f"{shown}: no such file.{hint}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise StudyError(f"{shown} cannot be read: {error.strerror}") from None
    if not start:
        raise StudyError(f"{shown} is empty: it holds no records")
    if start.startswith(UTF16_BOMS):
        raise StudyError(f"{shown} is UTF-16 text: save it again as UTF-8")


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, the bytes of the line with its end); a byte-order mark at the very start is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removeprefix(UTF8_BOM) if number == 1 else line


def bad_bytes(line: int, error: UnicodeDecodeError) -> BadRow:
    """The complaint about a line that is not UTF-8."""
    byte = error.object[error.start]
    detail = f"byte 0x{byte:02x} at position {error.start + 1} of the line is not UTF-8: save the file again as UTF-8"
    return BadRow(line, "not UTF-8", detail)
