"""Rows that attacks and measures leave in a folder, one for each record: which are there, and which are out of date."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence, Set
from functools import cache
from typing import Any

from byrote.attacks.base import Attack
from byrote.registry import Component
from byrote.runner import tables
from byrote.store import RunFolder, identity
from byrote.types import Record

NUMBERS = {"attack": "score", "utility": "statistics", "measure": "statistics"}
"""The column of the numbers, by that of the names."""

Series = tuple[int, str, str]
"""Epoch, name and settings: the rows that one attack or measure left at one epoch."""


@cache
def made_by(component: Component) -> str:
    """What a stored score was made by: the code of the component and of what it is built on, and all its settings.

    Rows of another make are not used: an attack whose formula was mended is scored again, from the
    same token statistics.
    """
    kinds = [kind for kind in type(component).__mro__ if issubclass(kind, Component) and kind is not Component]
    modules: dict[str, str] = {}
    rooms = tuple({kind.__module__.rpartition(".")[0] for kind in kinds})
    for kind in kinds:
        _sources(kind.__module__, rooms, modules)
    parts = [made_by(one) for one in component.parts()] if isinstance(component, Attack) else []
    code = "".join(modules[name] for name in sorted(modules))
    return identity({"code": code, "parts": parts, "settings": component.model_dump(mode="json")})


def _sources(module: str, rooms: tuple[str, ...], found: dict[str, str]) -> None:
    """The source of a module and of what it takes by name from these rooms: its own, and that of all it is built on."""
    if module in found or not module.startswith(rooms):
        return
    found[module] = inspect.getsource(sys.modules[module])
    for value in list(vars(sys.modules[module]).values()):
        _sources(getattr(value, "__module__", None) or "", rooms, found)


def current(
    folder: RunFolder, file: str, kind: str, components: Sequence[Component], make: Callable[[Component], str] = made_by
) -> Any | None:
    """The stored rows, without those that these components made before they were changed."""
    import pyarrow as pa

    table = folder.read_table(file)
    if table is None or not {"made_by", NUMBERS[kind]} <= set(table.column_names):
        return None  # of an earlier byrote
    makes = {(component.name, component.settings()): make(component) for component in components}
    rows = zip(*(table[column].to_pylist() for column in (kind, "settings", "made_by")), strict=True)
    return table.filter(pa.array([makes.get((name, own), by) == by for name, own, by in rows], pa.bool_()))


def keys(table: Any | None, name: str) -> set[tuple[int, str, str, str]]:
    if table is None:
        return set()
    columns = [table[column].to_pylist() for column in ("epoch", name, "settings", "record_id")]
    return set(zip(*columns, strict=True))


def unknown(
    known: set[tuple[int, str, str, str]], epoch: int, name: str, settings: str, records: Sequence[Record]
) -> list[Record]:
    return [record for record in records if (epoch, name, settings, record.score_id) not in known]


def append(
    folder: RunFolder,
    name: str,
    rows: list[dict[str, Any]],
    kind: str,
    numbers: dict[str, Any],
    components: Sequence[Component],
    replaced: Set[Series] = frozenset(),
    make: Callable[[Component], str] = made_by,
) -> bool:
    """Write these rows beside those that are there. Of the series `replaced` these are all, and what was there goes."""
    import pyarrow as pa

    if not rows:
        return False
    texts = {"settings": pa.string(), "made_by": pa.string(), "record_id": pa.string()}
    schema = pa.schema({"epoch": pa.int32(), kind: pa.string(), **texts, **numbers, "reason": pa.string()})
    with folder.locked():
        table = current(folder, name, kind, components, make)  # again: another study may have added to it
        if table is not None and replaced:
            series = zip(*(table[column].to_pylist() for column in ("epoch", kind, "settings")), strict=True)
            table = table.filter(pa.array([one not in replaced for one in series], pa.bool_()))
        known = keys(table, kind)
        new = [row for row in rows if (row["epoch"], row[kind], row["settings"], row["record_id"]) not in known]
        folder.write_table(name, tables.merged(table, new, schema))
    return True
