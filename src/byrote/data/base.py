"""What a source is: it opens a place as a table of rows; `records.py` turns rows into records.

A source adds nothing but the reading of one format. Which column is the text, what makes a row
bad, ids and fingerprints are decided once, for all sources, in `records.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from byrote.registry import Component
from byrote.types import Record


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what. Records have a text, or a prompt and a completion, or a chat's messages."""

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    label: str | None = None
    group: str | None = None
    id: str | None = None
    attributes: tuple[str, ...] = ()
    """Of values that stand in the text."""

    def named(self) -> dict[str, str]:
        """The roles that have a column of their own: {"text": "ticket", ...}."""
        pairs = ((role.name, getattr(self, role.name)) for role in fields(self) if role.name != "attributes")
        return {role: column for role, column in pairs if column is not None}


@dataclass(frozen=True, slots=True)
class Place:
    """What a study says about where its data is."""

    source: str
    base_folder: Path = Path()
    split: str = "train"
    revision: str | None = None

    @property
    def path(self) -> Path:
        """The source as a path, relative to the folder of the study."""
        return self.base_folder / Path(self.source).expanduser()


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read. `line` is the physical line on which it starts (the row number where there are no lines)."""

    line: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read at all. `reason` is one of few words, counted; `detail` is for a person."""

    line: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Table:
    """An opened source. `columns` maps each column to whether it holds text."""

    name: str
    """Short, for record ids: "tickets.csv"."""
    columns: Mapping[str, bool]
    rows: Iterator[Row | BadRow]
    defaults: Columns = field(default_factory=Columns)
    licence: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The records of a source, and what was left out."""

    records: tuple[Record, ...]
    bad_rows: Mapping[str, int]
    """How many rows were skipped, by reason."""
    first_bad: tuple[str, ...]
    """The first few of them: "tickets.csv:17: why"."""
    fingerprint: str
    """sha256 (64 hex digits) of the records and of the columns that they were read from."""
    licence: str
    description: str


class Source(Component):
    """Base of every source. Sources have no settings: the study's `data` says all."""

    last_resort: ClassVar[bool] = False
    """Asked only when no other source accepts the place."""

    @classmethod
    @abstractmethod
    def accepts(cls, source: str) -> bool:
        """Whether this source reads what the study calls `source`; looks at the name only."""

    @abstractmethod
    def open(self, place: Place) -> Table:
        """Open the place. Raises StudyError when there is nothing that can be read."""
