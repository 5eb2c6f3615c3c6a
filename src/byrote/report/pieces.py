"""What a results folder holds, read into memory: splits, scores, utility values, training and cost of every run.

Reads check content hashes. A piece that is missing or damaged is simply absent here; whoever
needs it says so. Nothing is estimated in this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byrote.store import Manifest, RunFolder
from byrote.types import ByroteError, Floats

SPLITS = "splits.parquet"
PIECES = ("scores.parquet", "utility.parquet", "training.json", "cost.json", "experiment.json", "environment.json")


class Series(NamedTuple):
    """One attack or utility measure at one checkpoint: its name and the settings that differ from its defaults."""

    epoch: int
    name: str
    settings: str


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One number per record: `values` is NaN where the record has none, and then `reasons` says why."""

    ids: Mapping[str, int]
    """Record id to position."""
    values: Floats
    weights: Floats
    reasons: tuple[str, ...]

    def take(self, ids: Sequence[str]) -> tuple[Floats, Floats, list[str]]:
        """Values, weights and reasons of these records, in their order; NaN where a record is not held."""
        positions = [self.ids.get(record_id, -1) for record_id in ids]
        held = np.array(positions, dtype=np.int64)
        values = np.where(held >= 0, self.values[held], np.nan) if len(self.values) else np.full(len(held), np.nan)
        weights = np.where(held >= 0, self.weights[held], np.nan) if len(self.values) else np.full(len(held), np.nan)
        return values, weights, [self.reasons[at] if at >= 0 else "not scored" for at in positions]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The records of one split of one seed, in the order of the split."""

    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Pieces:
    """What one run folder holds. `broken` names the files that are damaged, `missing` those that are not there."""

    run_id: str
    scores: dict[Series, Column] = field(default_factory=dict)
    utility: dict[Series, Column] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    experiment: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @cached_property
    def epochs(self) -> list[int]:
        """Epochs at which anything was measured, ascending."""
        measured = {series.epoch for series in (*self.scores, *self.utility)}
        measured |= {int(entry["epoch"]) for entry in self.training.get("validation", [])}
        return sorted(measured)

    def unreadable(self, name: str) -> str:
        """Why piece `name` has no numbers, as a reason for a row; empty where it could be read."""
        if name in self.broken:
            return f"{name} of run {self.run_id} is damaged: run the study again"
        return f"run {self.run_id} holds no {name}: run the study again" if name in self.missing else ""


def read_splits(folder: Path) -> dict[int, dict[str, Part]]:
    """Per seed the records of each split, in order. Raises ByroteError where the file cannot be read."""
    import pyarrow.parquet

    path = folder / SPLITS
    try:
        table = pyarrow.parquet.read_table(path, columns=["seed", "record_id", "split", "group"]).to_pydict()
    except FileNotFoundError:
        raise ByroteError(f"{folder} has no {SPLITS}: run the study again to make it.") from None
    except (OSError, ValueError, KeyError):
        raise ByroteError(f"{path} is damaged: run the study again to make it anew; no run is repeated.") from None
    lists: dict[int, dict[str, tuple[list[str], list[str]]]] = {}
    for seed, record_id, split, group in zip(
        table["seed"], table["record_id"], table["split"], table["group"], strict=True
    ):
        ids, groups = lists.setdefault(int(seed), {}).setdefault(split, ([], []))
        ids.append(record_id)
        groups.append(record_id if group is None else group)
    return {
        seed: {split: Part(tuple(ids), tuple(groups)) for split, (ids, groups) in parts.items()}
        for seed, parts in lists.items()
    }


def read_pieces(run: RunFolder) -> Pieces:
    """Everything one run left behind that the report reads."""
    broken: list[str] = []
    missing: list[str] = []
    found: dict[str, Any] = {}
    for name in PIECES:
        value = _read(run, name)
        if value is None:
            (broken if (run.path / name).exists() else missing).append(name)
        else:
            found[name.split(".")[0]] = value
    return Pieces(
        run_id=run.id,
        scores=_columns(found.get("scores"), "attack", "score"),
        utility=_columns(found.get("utility"), "utility", "value"),
        training=found.get("training", {}),
        cost=found.get("cost", {}),
        experiment=found.get("experiment", {}),
        environment=found.get("environment", {}),
        broken=tuple(broken),
        missing=tuple(missing),
    )


def read_all(manifest: Manifest, folder: Path) -> dict[str, Pieces]:
    """The pieces of every run that a cell of the study names, by run id. Each run is read once."""
    store = manifest.store(folder)
    wanted = {cell.base_run_id for cell in manifest.cells}
    wanted |= {cell.run_id for cell in manifest.cells if cell.status == "done"}
    return {run_id: read_pieces(store.run(run_id)) for run_id in sorted(wanted)}


def _read(run: RunFolder, name: str) -> Any | None:
    try:
        if name.endswith(".json"):
            value = run.read_json(name)
            return value if isinstance(value, dict) else None
        table = run.read_table(name)
        return None if table is None else table.to_pydict()
    except (OSError, ValueError, json.JSONDecodeError):
        return None


def _columns(table: dict[str, list[Any]] | None, name: str, value: str) -> dict[Series, Column]:
    """A long table (one row per epoch, attack and record) as one column per series."""
    if table is None:
        return {}
    rows: dict[Series, list[int]] = {}
    settings = table.get("settings") or [""] * len(table[name])
    for at, key in enumerate(zip(table["epoch"], table[name], settings, strict=True)):
        rows.setdefault(Series(int(key[0]), str(key[1]), key[2] or ""), []).append(at)
    values = np.array([np.nan if number is None else number for number in table[value]], dtype=np.float64)
    given = table.get("weight") or [1.0] * len(values)
    weights = np.array([np.nan if number is None else number for number in given], dtype=np.float64)
    ids, reasons = table["record_id"], table["reason"]
    return {
        series: Column(
            ids={str(ids[at]): position for position, at in enumerate(held)},
            values=values[held],
            weights=weights[held],
            reasons=tuple(reasons[at] or "" for at in held),
        )
        for series, held in rows.items()
    }
