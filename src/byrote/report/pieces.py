"""What a results folder holds, read into memory: splits, scores, utility values, training and cost of every run.

Reads check content hashes. A piece that is missing or damaged is simply absent here; whoever
needs it says so. Nothing is estimated in this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from byrote.store import Manifest, RunFolder
from byrote.types import ByroteError, Floats, Ledger

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = "splits.parquet"
TEXTS = "texts.json"
COLUMNS = ("score_id", "group", "slice", "record_id", "copies")
LEDGER = "ledger.json"
EXTRACTION = "extraction"
SETS = "demonstrations.parquet"
PIECES = ("scores.parquet", "utility.parquet", "training.json", "cost.json", "environment.json")


class Series(NamedTuple):
    """One attack or utility measure at one checkpoint: its name and the settings that differ from its defaults."""

    epoch: int
    name: str
    settings: str


class Ids:
    """Which records a series has, in order, and where each stands; most series of a run share one."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self._place = {record_id: place for place, record_id in enumerate(ids)}
        self._known: dict[tuple[str, ...], NDArray[np.int64]] = {}

    def positions(self, wanted: tuple[str, ...]) -> NDArray[np.int64]:
        """The place of each wanted record, -1 where it is not held."""
        if wanted not in self._known:
            places = (self._place.get(record_id, -1) for record_id in wanted)
            self._known[wanted] = np.fromiter(places, np.int64, len(wanted))
        return self._known[wanted]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One score per record, or a row of statistics: NaN where the record has none, and then `reasons` says why."""

    ids: Ids
    values: Floats
    """(N,) scores, or (N, k) statistics"""
    reasons: tuple[str, ...]

    def take(self, ids: tuple[str, ...]) -> Floats:
        """The values of these records, in their order; NaN where a record is not held."""
        at = self.ids.positions(ids)
        taken = np.full((len(at), *self.values.shape[1:]), np.nan)
        taken[at >= 0] = self.values[at[at >= 0]]
        return taken

    def why(self, ids: tuple[str, ...]) -> list[str]:
        """The reason of each of these records; empty where it has a value."""
        return [self.reasons[at] if at >= 0 else "not scored" for at in self.ids.positions(ids)]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The records of one split of one seed, in the order of the split."""

    ids: tuple[str, ...] = ()
    """What scores are kept under: a record's own id, or with the wrong label that it is judged by."""
    groups: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    """Which of a plant's records each one is; empty where nothing was planted."""
    records: tuple[str, ...] = ()
    """The records' own ids."""
    copies: tuple[int, ...] = ()
    """How often each one was trained on in an epoch."""

    def only(self, wanted: Callable[[str], bool]) -> Part:
        """The records whose slice is wanted; this part itself where that is all of them."""
        keep = [wanted(name) for name in self.slices]
        if all(keep):
            return self
        ids, groups, slices, records = (
            tuple(compress(column, keep)) for column in (self.ids, self.groups, self.slices, self.records)
        )
        return Part(ids, groups, slices, records, tuple(compress(self.copies, keep)))

    def first(self, count: int | None) -> Part:
        """So many of its records, in the order of the draw; None: all."""
        if count is None or count >= len(self):
            return self
        ids, groups, slices, records = (column[:count] for column in (self.ids, self.groups, self.slices, self.records))
        return Part(ids, groups, slices, records, self.copies[:count])

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Pieces:
    """What one run folder holds. `broken` names the files that are damaged, `missing` those that are not there."""

    run_id: str
    scores: dict[Series, Column] = field(default_factory=dict)
    utility: dict[Series, Column] = field(default_factory=dict)
    extraction: dict[str, dict[Series, Column]] = field(default_factory=dict)
    """By the split that it was measured on: the untuned model's run answers for several."""
    training: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    ledger: Ledger | None = None
    """The privacy account; None where the run is not private, and where the account cannot be read."""
    sets: Mapping[str, str] = field(default_factory=dict)
    """The set of each record, by id, where records were scored in sets that share a context."""
    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @cached_property
    def epochs(self) -> list[int]:
        """Epochs at which anything was measured, ascending."""
        written = [series for columns in self.extraction.values() for series in columns]
        measured = {series.epoch for series in (*self.scores, *self.utility, *written)}
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
        table = pyarrow.parquet.read_table(path, columns=["seed", "split", *COLUMNS]).to_pydict()
    except FileNotFoundError:
        raise ByroteError(f"{folder} has no {SPLITS}: run the study again to make it.") from None
    except (OSError, ValueError, KeyError):
        raise ByroteError(f"{path} is damaged: run the study again to make it anew; no run is repeated.") from None
    lists: dict[int, dict[str, list[list[Any]]]] = {}
    for seed, split, score_id, group, slice_, record_id, copies in zip(*table.values(), strict=True):
        columns = lists.setdefault(int(seed), {}).setdefault(split, [[] for _ in COLUMNS])
        for column, value in zip(columns, (score_id, group or record_id, slice_, record_id, copies), strict=True):
            column.append(value)
    return {
        seed: {split: Part(*map(tuple, columns)) for split, columns in parts.items()} for seed, parts in lists.items()
    }


def read_texts(folder: Path) -> dict[str, str]:
    """The texts by record that the last run was asked to keep; none where there are none, or they cannot be read."""
    try:
        return dict(json.loads((folder / TEXTS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


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
    measured = {
        path.name: _read(run, f"{EXTRACTION}/{path.name}") for path in (run.path / EXTRACTION).glob("*.parquet")
    }
    broken += [f"{EXTRACTION}/{name}" for name, table in measured.items() if table is None]
    ledger, problem = _ledger(run)
    if problem:
        (broken if (run.path / LEDGER).exists() else missing).append(LEDGER)
    sets = _read(run, SETS)
    if sets is None and ((run.path / SETS).exists() or "sets" in found.get("training", {})):
        (broken if (run.path / SETS).exists() else missing).append(SETS)
    return Pieces(
        run_id=run.id,
        scores=_scores(found.get("scores")),
        utility=_statistics(found.get("utility"), "utility"),
        extraction={name.split(".")[0]: _statistics(table, "measure") for name, table in measured.items()},
        training=found.get("training", {}),
        cost=found.get("cost", {}),
        environment=found.get("environment", {}),
        ledger=ledger,
        sets={} if sets is None else dict(zip(*(sets[name].to_pylist() for name in ("record_id", "set")), strict=True)),
        broken=tuple(broken),
        missing=tuple(missing),
    )


def read_all(manifest: Manifest, folder: Path) -> dict[str, Pieces]:
    """The pieces of every run that a cell of the study names, by run id. Each run is read once."""
    store = manifest.store(folder)
    wanted = {cell.base_run_id for cell in manifest.cells if cell.base_run_id}
    done = [cell for cell in manifest.cells if cell.status == "done"]
    wanted |= set(manifest.split_folders.values())
    wanted |= {cell.run_id for cell in [manifest.positive_control] if cell is not None and cell.status == "done"}
    wanted |= {run_id for cell in done for run_id in (cell.run_id, *cell.nulls.values())}
    return {run_id: read_pieces(store.run(run_id)) for run_id in sorted(wanted)}


def _read(run: RunFolder, name: str) -> Any | None:
    try:
        if name.endswith(".json"):
            value = run.read_json(name)
            return value if isinstance(value, dict) else None
        table = run.read_table(name)
        return table
    except (OSError, ValueError, json.JSONDecodeError):
        return None


def _ledger(run: RunFolder) -> tuple[Ledger | None, bool]:
    """The run's account, and whether it cannot be read: the file of a run without privacy says null, and can."""
    path = run.intact(LEDGER)
    if path is None:
        return None, True
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return (None if raw is None else Ledger.read(raw)), False
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, True


def _scores(table: pa.Table | None) -> dict[Series, Column]:
    """One score per record, as one column per series."""
    if table is None or not len(table):
        return {}
    scores = np.asarray(table["score"].to_numpy(zero_copy_only=False), dtype=np.float64)
    return _columns(table, "attack", lambda held: scores[held])


def _statistics(table: pa.Table | None, name: str) -> dict[Series, Column]:
    """One row of statistics per record, as one column per series."""
    import pyarrow.compute

    if table is None or not len(table) or "statistics" not in table.column_names:
        return {}
    lists = table["statistics"].combine_chunks()
    flat = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    lengths = pyarrow.compute.fill_null(pyarrow.compute.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    starts = np.cumsum(lengths) - lengths

    def rows_of(held: NDArray[np.int64]) -> Floats:
        rows = np.full((len(held), max(1, int(lengths[held].max()))), np.nan)
        measured = lengths[held] > 0
        rows[measured] = flat[starts[held][measured, None] + np.arange(rows.shape[1])]
        return rows

    return _columns(table, name, rows_of)


def _columns(table: pa.Table, name: str, values_of: Callable[[NDArray[np.int64]], Floats]) -> dict[Series, Column]:
    """A long table (one row per epoch, attack and record) as one column per series; `values_of` takes row numbers."""
    ids = np.array(table["record_id"].to_pylist(), dtype=object)
    reasons = np.array([reason or "" for reason in table["reason"].to_pylist()], dtype=object)
    shared: dict[tuple[str, ...], Ids] = {}
    columns = {}
    for series, held in _series(table, name):
        order = tuple(ids[held])
        if order not in shared:
            shared[order] = Ids(order)
        columns[series] = Column(shared[order], values_of(held), tuple(reasons[held]))
    return columns


def _series(table: pa.Table, name: str) -> Iterator[tuple[Series, NDArray[np.int64]]]:
    """Every series of a table with the places of its rows, in order of first appearance."""
    epochs = np.asarray(table["epoch"].to_numpy(zero_copy_only=False), dtype=np.int64)
    names, name_codes = _encoded(table, name)
    settings, setting_codes = _encoded(table, "settings")
    codes = (epochs * len(names) + name_codes) * len(settings) + setting_codes
    _, first, series_of = np.unique(codes, return_index=True, return_inverse=True)
    places = np.split(np.argsort(series_of, kind="stable"), np.cumsum(np.bincount(series_of))[:-1])
    for at in np.argsort(first):
        row = first[at]
        yield Series(int(epochs[row]), names[name_codes[row]], settings[setting_codes[row]]), places[at]


def _encoded(table: pa.Table, name: str) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct texts of a column, null as "", and each row's place among them."""
    import pyarrow.compute

    column = pyarrow.compute.fill_null(table[name].combine_chunks(), "").dictionary_encode()
    return column.dictionary.to_pylist(), np.asarray(column.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
