"""Token statistics, generated text, scores and splits as tables, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.store import atomic_path
from byrote.types import SPLIT_NAMES, Floats, Generation, Record, Splits, TokenStats, text_key

if TYPE_CHECKING:
    import pyarrow as pa


def stats_table(stats: Mapping[str, TokenStats], seconds: float) -> pa.Table:
    """One row per text, keyed by `text_key`; `seconds` is what the pass took."""
    import pyarrow as pa

    values = list(stats.values())
    columns = {
        "text_key": pa.array(list(stats), pa.string()),
        "truncated_tokens": pa.array([one.truncated_tokens for one in values], pa.int32()),
        "log_prob": pa.array([one.log_prob for one in values], pa.list_(pa.float32())),
        "mean": pa.array([one.mean for one in values], pa.list_(pa.float32())),
        "std": pa.array([one.std for one in values], pa.list_(pa.float32())),
        "rank": pa.array([one.rank for one in values], pa.list_(pa.int32())),
    }
    if any(one.classes is not None for one in values):
        columns["classes"] = pa.array([one.classes for one in values], pa.list_(pa.float32()))
    return pa.table(columns).replace_schema_metadata({"seconds": repr(seconds)})


def stats_from(table: pa.Table) -> dict[str, TokenStats]:
    """The statistics in a table, by text key."""
    lists = {}
    for name in ("log_prob", "mean", "std", "rank"):
        column = table[name].combine_chunks()
        lists[name] = np.split(column.flatten().to_numpy(), column.offsets.to_numpy()[1:-1])
    cut = table["truncated_tokens"].to_pylist()
    classes: list[Any] = [None] * len(table)
    if "classes" in table.column_names:
        classes = [None if row is None else np.array(row, np.float32) for row in table["classes"].to_pylist()]
    return {
        key: TokenStats(lists["log_prob"][i], lists["mean"][i], lists["std"][i], lists["rank"][i], cut[i], classes[i])
        for i, key in enumerate(table["text_key"].to_pylist())
    }


def generations_table(generations: Mapping[tuple[str, str], Generation], seconds: float) -> pa.Table:
    """One row per text and way of generating: text_key, decoding; text, tokens, ended, reason."""
    import pyarrow as pa

    said = list(generations.values())
    columns = {
        "text_key": pa.array([key for key, _ in generations], pa.string()),
        "decoding": pa.array([how for _, how in generations], pa.string()),
        "text": pa.array([one.text for one in said], pa.string()),
        "tokens": pa.array([one.tokens for one in said], pa.list_(pa.int32())),
        "ended": pa.array([one.ended for one in said], pa.bool_()),
        "reason": pa.array([one.reason for one in said], pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({"seconds": repr(seconds)})


def generations_from(table: pa.Table) -> dict[tuple[str, str], Generation]:
    """What `generations_table` was made from."""
    return {
        (row["text_key"], row["decoding"]): Generation(row["text"], tuple(row["tokens"]), row["ended"], row["reason"])
        for row in table.to_pylist()
    }


def norms_table(norms: Mapping[str, float], seconds: float) -> pa.Table:
    """One row per text: text_key, norm."""
    import pyarrow as pa

    columns = {"text_key": pa.array(list(norms), pa.string()), "norm": pa.array(list(norms.values()), pa.float64())}
    return pa.table(columns).replace_schema_metadata({"seconds": repr(seconds)})


def norms_from(table: pa.Table) -> dict[str, float]:
    """What `norms_table` was made from."""
    return dict(zip(table["text_key"].to_pylist(), table["norm"].to_pylist(), strict=True))


def chances_table(chances: Mapping[tuple[str, str], Floats], seconds: float) -> pa.Table:
    """One row per text and way of drawing: text_key, decoding, log_probs."""
    import pyarrow as pa

    columns = {
        "text_key": pa.array([key for key, _ in chances], pa.string()),
        "decoding": pa.array([how for _, how in chances], pa.string()),
        "log_probs": pa.array(list(chances.values()), pa.list_(pa.float64())),
    }
    return pa.table(columns).replace_schema_metadata({"seconds": repr(seconds)})


def chances_from(table: pa.Table) -> dict[tuple[str, str], Floats]:
    """What `chances_table` was made from."""
    return {(row["text_key"], row["decoding"]): np.array(row["log_probs"], np.float64) for row in table.to_pylist()}


def neighbours_table(neighbours: Mapping[str, Sequence[str]], seconds: float) -> pa.Table:
    """One row per text: text_key, neighbours."""
    import pyarrow as pa

    columns = {
        "text_key": pa.array(list(neighbours), pa.string()),
        "neighbours": pa.array([list(texts) for texts in neighbours.values()], pa.list_(pa.string())),
    }
    return pa.table(columns).replace_schema_metadata({"seconds": repr(seconds)})


def neighbours_from(table: pa.Table) -> dict[str, tuple[str, ...]]:
    """What `neighbours_table` was made from."""
    return dict(zip(table["text_key"].to_pylist(), map(tuple, table["neighbours"].to_pylist()), strict=True))


def seconds_of(table: pa.Table) -> float:
    """What the pass that made a table of statistics took."""
    return float((table.schema.metadata or {}).get(b"seconds", b"0"))


def splits_table(splits: Splits) -> pa.Table:
    """One row per record: record_id, split, group, text_key, slice, score_id, copies."""
    import pyarrow as pa

    rows = [(name, record) for name, records in splits.parts() for record in records]
    return pa.table(
        {
            "record_id": [record.id for _, record in rows],
            "split": [name for name, _ in rows],
            "group": [record.group_id for _, record in rows],
            "text_key": [text_key(record.text) for _, record in rows],
            "slice": [record.slice for _, record in rows],
            "score_id": [record.score_id for _, record in rows],
            "copies": [record.copies for _, record in rows],
        }
    )


def write_splits(path: Path, splits: Mapping[int, Splits]) -> None:
    """The splits of all seeds in one table, with the column `seed`."""
    import pyarrow as pa
    import pyarrow.parquet

    parts = [(seed, splits_table(of_seed)) for seed, of_seed in splits.items()]
    whole = pa.concat_tables(
        [table.append_column("seed", pa.array([seed] * len(table), pa.int64())) for seed, table in parts]
    )
    with atomic_path(path) as part:
        pyarrow.parquet.write_table(whole, part, compression="zstd")


def sets_table(sets: Sequence[tuple[Sequence[Record], Sequence[Record]]]) -> pa.Table:
    """One row per record of each set's demonstrations and others: record_id, its set, its places in the context."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"record_id": [], "set": [], "places": []}
    for number, (demonstrations, others) in enumerate(sets):
        places: dict[str, list[int]] = {}
        for place, record in enumerate(demonstrations):
            places.setdefault(record.id, []).append(place)
        places |= {record.id: [] for record in others}
        for column, values in zip(
            columns.values(), (places, [f"set-{number}"] * len(places), places.values()), strict=True
        ):
            column += values
    types = {"record_id": pa.string(), "set": pa.string(), "places": pa.list_(pa.int32())}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def splits_from(table: pa.Table, records: Sequence[Record], dropped: Mapping[str, int]) -> Splits:
    """The splits that a table names, out of the records that were loaded."""
    by_id = {record.id: record for record in records}
    parts: dict[str, list[Record]] = {name: [] for name in SPLIT_NAMES}
    for record_id, name in zip(table["record_id"].to_pylist(), table["split"].to_pylist(), strict=True):
        parts[name].append(by_id[record_id])
    members, nonmembers, validation, test = (tuple(parts[name]) for name in SPLIT_NAMES)
    return Splits(members, nonmembers, validation, test, dropped=dropped)


def merged(old: pa.Table | None, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """`old` with `rows` after it."""
    import pyarrow as pa

    new = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    return new if old is None else pa.concat_tables([old, new])
