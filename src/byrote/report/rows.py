"""From stored scores to rows: one row per estimate, each with its interval, n and null.

Pure functions over `Evidence`. Every estimate is made by `byrote.audit`; nothing here is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote.audit.delong import auc_estimate, auc_lift
from byrote.audit.interval import pool_over_seeds, weighted_mean_estimate
from byrote.audit.roc import tpr_at_fpr
from byrote.report.measures import Attack, Utility, attacks_of, merged_settings, utilities_of
from byrote.report.pieces import Column, Part, Pieces, Series, read_all, read_splits
from byrote.store import Cell, Manifest
from byrote.types import Estimate, Floats

RATES = (0.1, 0.01, 0.001)
COSTS = {
    "train_seconds": ("training", "seconds"),
    "tokens_per_second": ("training", "tokens_per_second"),
    "peak_memory_bytes": ("training", "peak_memory_bytes"),
    "trainable_parameters": ("training", "trainable_parameters"),
    "total_parameters": ("training", "total_parameters"),
    "scoring_seconds": ("scoring", "seconds"),
    "stored_bytes": ("storage", "stored_bytes"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate: a row of results.csv. Absent numbers are None, and `reason` says why."""

    study: str
    model: str
    data: str
    method: str
    family: str
    settings: str
    privacy: str
    delta: float | None
    seed: int | None
    """None where the row is pooled over seeds."""
    epoch: int | None
    kind: str
    name: str
    metric: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    interval: str
    null_value: float | None
    access: str
    run_id: str
    reason: str

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.low, self.high, self.n, self.interval, self.null_value, self.reason)


COLUMNS = tuple(field.name for field in fields(Row))
cells_of = attrgetter(*COLUMNS)
"""The values of a row, as a tuple in the order of COLUMNS."""
NO_PART = Part()


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that rows and pictures are made from."""

    manifest: Manifest
    splits: dict[int, dict[str, Part]]
    pieces: dict[str, Pieces]
    attacks: tuple[Attack, ...]
    utilities: tuple[Utility, ...]

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """Raises ByroteError where the folder holds no study or its splits cannot be read."""
        manifest = Manifest.read(folder)
        return cls(
            manifest=manifest,
            splits=read_splits(folder),
            pieces=read_all(manifest, folder),
            attacks=tuple(attacks_of(manifest)),
            utilities=tuple(utilities_of(manifest)),
        )

    def part(self, seed: int, split: str) -> Part:
        return self.splits.get(seed, {}).get(split, NO_PART)

    def done(self) -> list[Cell]:
        return [cell for cell in self.manifest.cells if cell.status == "done"]

    @property
    def seeds(self) -> list[int]:
        return sorted({cell.seed for cell in self.manifest.cells})

    def epochs(self, cell: Cell) -> list[int]:
        """Epochs of a cell with anything measured; the study's last where nothing could be read."""
        if cell.method == "none":
            return [0]
        found = [epoch for epoch in self.pieces[cell.run_id].epochs if epoch > 0]
        planned = self.manifest.study.get("epochs")
        return found or ([planned] if isinstance(planned, int) else [])

    def sides(self, cell: Cell, attack: Attack, epoch: int) -> Sides | None:
        """Scores of the cell's members and nonmembers, or None where there are none."""
        column = self.pieces[cell.run_id].scores.get(Series(epoch, attack.name, attack.settings))
        if column is None:
            return None
        return Sides.of(column, self.part(cell.seed, "member"), self.part(cell.seed, "nonmember"))

    def base_sides(self, cell: Cell, attack: Attack) -> Sides | None:
        """The same attack's scores on the untuned base model, on the records of the cell's split."""
        base = cell.model_copy(update={"run_id": cell.base_run_id})
        return None if attack.compares_with_base else self.sides(base, attack, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Scores of members, shape (M,), and nonmembers, shape (N,), in the split's order; NaN where unscorable."""

    members: Floats
    nonmembers: Floats
    member_groups: tuple[str, ...]
    nonmember_groups: tuple[str, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, column: Column, member: Part, nonmember: Part) -> Sides:
        members, _, of_members = column.take(member.ids)
        nonmembers, _, of_nonmembers = column.take(nonmember.ids)
        unscored = [of_members[at] for at in np.flatnonzero(~np.isfinite(members))]
        unscored += [of_nonmembers[at] for at in np.flatnonzero(~np.isfinite(nonmembers))]
        return cls(members, nonmembers, member.groups, nonmember.groups, tuple(unscored))

    def scored(self, other: Sides | None = None) -> Sides:
        """Only the records with a score here, and in `other` where given."""
        keep = [np.isfinite(self.members), np.isfinite(self.nonmembers)]
        if other is not None:
            keep = [keep[0] & np.isfinite(other.members), keep[1] & np.isfinite(other.nonmembers)]
        return Sides(
            self.members[keep[0]],
            self.nonmembers[keep[1]],
            tuple(np.array(self.member_groups, dtype=object)[keep[0]]),
            tuple(np.array(self.nonmember_groups, dtype=object)[keep[1]]),
            self.reasons,
        )

    @property
    def groups(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.member_groups, self.nonmember_groups


def all_rows(evidence: Evidence) -> list[Row]:
    """The rows of every cell, then those pooled over seeds. Failed cells have none."""
    single = [row for cell in evidence.done() for row in cell_rows(evidence, cell)]
    return single + pooled_rows(single)


def cell_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """Membership, utility and cost of one cell at every epoch measured."""
    epochs = evidence.epochs(cell)
    for epoch in epochs:
        for attack in evidence.attacks:
            if not (attack.compares_with_base and cell.method == "none"):
                yield from membership_rows(evidence, cell, attack, epoch)
        for utility in evidence.utilities:
            yield utility_row(evidence, cell, utility, epoch)
    yield from cost_rows(evidence, cell, epochs[-1] if epochs else None)


def membership_rows(evidence: Evidence, cell: Cell, attack: Attack, epoch: int) -> Iterator[Row]:
    """AUC, its lift over the base model, and TPR at three FPRs, of one attack at one epoch."""
    blank = _blank(evidence, cell, epoch, "membership", attack)
    sides, base = evidence.sides(cell, attack, epoch), evidence.base_sides(cell, attack)
    if sides is None:
        reason = evidence.pieces[cell.run_id].unreadable("scores.parquet") or "not scored at this epoch"
        yield replace(blank, metric="auc", reason=reason)
        return
    scored = sides.scored()
    known = base.scored() if base is not None and cell.method != "none" else None
    stated = attack.compares_with_base or cell.method == "none"
    null = _auc(known, None).value if known is not None else (0.5 if stated else None)
    yield filled(blank, "auc", _auc(scored, null))
    if cell.method != "none" and not attack.compares_with_base:
        yield filled(blank, "auc-lift", _lift(sides, base))
    for rate in RATES:
        null = _tpr(known, rate, None).value if known is not None else (rate if stated else None)
        estimate = _tpr(scored, rate, null)
        yield filled(blank, f"tpr@fpr={rate:g}", replace(estimate, null_value=null))


def utility_row(evidence: Evidence, cell: Cell, utility: Utility, epoch: int) -> Row:
    """One utility measure on the test records; its null is the untuned base model on the same records."""
    blank = replace(_blank(evidence, cell, epoch, "utility", utility), metric=utility.metric)
    series = Series(epoch, utility.name, utility.settings)
    column = evidence.pieces[cell.run_id].utility.get(series)
    if column is None:
        reason = evidence.pieces[cell.run_id].unreadable("utility.parquet") or "not measured at this epoch"
        return replace(blank, reason=reason)
    test = evidence.part(cell.seed, "test")
    keep = np.isfinite(column.take(test.ids)[0])
    null = None
    base = evidence.pieces[cell.base_run_id].utility.get(series._replace(epoch=0))
    if base is not None and cell.method != "none":
        keep &= np.isfinite(base.take(test.ids)[0])
        null = _mean(base, test, keep, utility, None).value
    return filled(blank, utility.metric, _mean(column, test, keep, utility, null))


def cost_rows(evidence: Evidence, cell: Cell, epoch: int | None) -> Iterator[Row]:
    """What the run cost, as counted by the run itself: no interval, n = 1."""
    cost = evidence.pieces[cell.run_id].cost
    for key, (name, metric) in COSTS.items():
        if isinstance(cost.get(key), int | float):
            row = replace(_blank(evidence, cell, epoch, "cost", None), name=name, metric=metric)
            yield replace(row, value=float(cost[key]), n=1)


def pooled_rows(rows: Iterable[Row]) -> list[Row]:
    """The mean over seeds of every membership and utility estimate that two or more seeds have a row for."""
    families: dict[Row, list[Row]] = {}
    for row in rows:
        if row.kind in ("membership", "utility"):
            key = replace(row, seed=None, run_id="", value=None, low=None, high=None, n=None, interval="",
                          null_value=None, reason="")  # fmt: skip
            families.setdefault(key, []).append(row)
    return [
        filled(key, key.metric, pool_over_seeds([row.estimate for row in same], _bounds(key)))
        for key, same in families.items()
        if len({row.seed for row in same}) >= 2
    ]


def filled(row: Row, metric: str, estimate: Estimate) -> Row:
    return replace(
        row,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        interval=estimate.interval,
        null_value=estimate.null_value,
        reason=estimate.reason,
    )


def _blank(evidence: Evidence, cell: Cell, epoch: int | None, kind: str, measure: Attack | Utility | None) -> Row:
    manifest = evidence.manifest
    name = "" if measure is None else measure.name
    settings = cell.settings if measure is None else merged_settings(cell.settings, name, measure.settings)
    return Row(
        study=manifest.name, model=manifest.model, data=manifest.data, method=cell.method, family=cell.family,
        settings=settings, privacy=cell.privacy, delta=cell.delta, seed=cell.seed, epoch=epoch, kind=kind, name=name,
        metric="", slice="", value=None, low=None, high=None, n=None, interval="", null_value=None,
        access=measure.access if isinstance(measure, Attack) else "", run_id=cell.run_id, reason="",
    )  # fmt: skip


def _auc(sides: Sides, null: float | None) -> Estimate:
    return auc_estimate(sides.members, sides.nonmembers, *sides.groups, null_value=null)


def _lift(sides: Sides, base: Sides | None) -> Estimate:
    if base is None:
        return Estimate.absent("the base model has no scores of this attack")
    ours, theirs = sides.scored(base), base.scored(sides)
    return auc_lift(ours.members, ours.nonmembers, theirs.members, theirs.nonmembers, *ours.groups)


def _tpr(sides: Sides, rate: float, null: float | None) -> Estimate:
    return tpr_at_fpr(sides.members, sides.nonmembers, rate, *sides.groups, null_value=null)


def _mean(column: Column, test: Part, keep: NDArray[np.bool_], utility: Utility, null: float | None) -> Estimate:
    values, weights, _ = column.take(test.ids)
    kept = keep & np.isfinite(weights)
    groups = list(np.array(test.groups, dtype=object)[kept])
    try:
        return weighted_mean_estimate(values[kept], weights[kept], groups, utility.transform, null_value=null)
    except OverflowError:
        return Estimate.absent("too large to state: training has diverged", int(kept.sum()))


def _bounds(row: Row) -> tuple[float, float] | None:
    if row.kind == "membership":
        return (-1.0, 1.0) if row.metric == "auc-lift" else (0.0, 1.0)
    return None
