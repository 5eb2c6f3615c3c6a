"""What models said, kept as tables that grow: asked in parts, each of which is on the disk before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from byrote.runner import tables
from byrote.runner.progress import Progress
from byrote.store import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")
Listen = Callable[[int, int], None]
"""Hears how much of a part is done, and how much there is; raises Interrupted where that is wanted."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[K, V]):
    """What is in such tables, and how it gets there and back."""

    table: Callable[[Mapping[K, V], float], pa.Table]
    read: Callable[[pa.Table], dict[K, V]]

    def of(self, folder: RunFolder, name: str) -> dict[K, V]:
        """Everything in a table; empty where there is none."""
        table = folder.read_table(name)
        return {} if table is None else self.read(table)

    def keep(self, folder: RunFolder, name: str, found: Mapping[K, V], seconds: float) -> None:
        """Put what took so many seconds beside what is on disk."""
        before = folder.read_table(name)
        if before is not None:
            found, seconds = self.read(before) | dict(found), seconds + tables.seconds_of(before)
        folder.write_table(name, self.table(found, seconds))

    def ask(
        self,
        folder: RunFolder,
        name: str,
        parts: Iterable[tuple[int, Sequence[T]]],
        answer: Callable[[Sequence[T], Listen], Mapping[K, V]],
        progress: Progress,
    ) -> None:
        """Ask one part after another and keep each. With every part stands how much lay before it."""
        for before, part in parts:
            began = time.monotonic()
            found = answer(part, progress.listener(before))
            self.keep(folder, name, found, time.monotonic() - began)
            progress.listener(before)(len(part), len(part))


def in_parts(asked: Sequence[T], size: int) -> list[tuple[int, Sequence[T]]]:
    """At most so many together, each part with how many came before it."""
    return [(start, asked[start : start + size]) for start in range(0, len(asked), size)]


STATS = Kind(tables.stats_table, tables.stats_from)
GENERATIONS = Kind(tables.generations_table, tables.generations_from)
NORMS = Kind(tables.norms_table, tables.norms_from)
CHANCES = Kind(tables.chances_table, tables.chances_from)
NEIGHBOURS_OF = Kind(tables.neighbours_table, tables.neighbours_from)
