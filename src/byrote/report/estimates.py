"""From stored scores to rows: one row per estimate, each with its interval, n and null.

Pure functions over `Evidence`. Every estimate is made by `byrote.statistics`; nothing here is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from byrote.report.canary_rows import NAME as EXPOSURE
from byrote.report.canary_rows import canary_rows
from byrote.report.epsilon_rows import epsilon_rows
from byrote.report.evidence import Evidence, Sides
from byrote.report.extraction_rows import extraction_rows
from byrote.report.measures import Attack, Utility
from byrote.report.pair_rows import pair_rows
from byrote.report.pieces import SETS
from byrote.report.poisoning_rows import poisoning_rows
from byrote.report.privacy_rows import account_rows, versus_rows
from byrote.report.rows import BALANCED, COSTS, PARTIAL, PARTIAL_FPR, RATES, Row, blank_row, filled
from byrote.report.shadow_rows import against_plain, with_shadows
from byrote.report.utility_rows import utility_rows
from byrote.statistics.accuracy import balanced_accuracy
from byrote.statistics.delong import auc_estimate, auc_lift
from byrote.statistics.interval import pool_logs_over_seeds, pool_over_seeds
from byrote.statistics.partial import partial_auc
from byrote.statistics.roc import tpr_at_fpr
from byrote.statistics.set_level import set_level_p_value
from byrote.store import Cell
from byrote.types import Estimate

POOLED = ("membership", "extraction", "poisoning", "utility")
P_VALUE = "p-value"
"""Of an attack on a whole set, one for each seed: their mean would be no p-value."""
SMALL = 0.05
"""A p-value of the untuned model that speaks against the split."""
STATED: Mapping[str, float | None] = {
    "auc": 0.5, **{f"tpr@fpr={rate:g}": rate for rate in RATES}, PARTIAL: 0.5, BALANCED: 0.5
}  # fmt: skip
"""What each metric is of an attack that guesses."""


def all_rows(evidence: Evidence) -> list[Row]:
    """The rows of every cell, those pooled over seeds, and those that compare methods. Failed cells have none."""
    single: list[Row] = []
    seeds: dict[tuple[str, str, str, float | None], list[list[Row]]] = {}
    for cell in evidence.done():
        rows = list(cell_rows(evidence, cell))
        single += rows
        seeds.setdefault((cell.method, cell.settings, cell.privacy, cell.delta), []).append(rows)
    utilities = {utility.name: utility for utility in evidence.utilities}
    pooled = [row for of in seeds.values() for row in pooled_rows(of, utilities)]
    return [*single, *pooled, *pair_rows(evidence)]


def cell_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """Membership, utility and cost of one cell at every epoch measured; of a private one its account too."""
    epochs = evidence.epochs(cell)
    for attack in evidence.controls if cell.method == "none" or not cell.base_run_id else ():
        yield from membership_rows(evidence, evidence.split_cell(cell), attack, 0)
    for epoch in epochs:
        for attack in evidence.attacks:
            too_early = attack.at_the_end and epoch != epochs[-1]
            if not (attack.null_is_stated and cell.method == "none") and not too_early:
                for slice_ in ("", *evidence.slices(cell.seed)):
                    yield from membership_rows(evidence, cell, attack, epoch, slice_)
        for utility in evidence.utilities:
            if epoch == epochs[-1] or not utility.last_epoch_only:
                yield from utility_rows(evidence, cell, utility, epoch)
    for attack in with_shadows(evidence.attacks) if cell.method != "none" and epochs else ():
        for fewer in attack.weaker:
            yield from membership_rows(evidence, cell, fewer, epochs[-1])
        yield against_plain(evidence, cell, attack, epochs[-1])
    yield from poisoning_rows(evidence, cell)
    yield from extraction_rows(evidence, cell)
    yield from canary_rows(evidence, cell)
    yield from cost_rows(evidence, cell, epochs[-1] if epochs else None)
    yield from versus_rows(evidence, cell)
    yield from account_rows(evidence, cell)
    yield from epsilon_rows(evidence, cell)


def membership_rows(evidence: Evidence, cell: Cell, attack: Attack, epoch: int, slice_: str = "") -> Iterator[Row]:
    """AUC, its lift, TPR, partial AUC and balanced accuracy of one attack at one epoch on one slice."""
    blank = replace(blank_row(evidence, cell, epoch, "membership", attack), slice=slice_)
    sides, base = evidence.sides(cell, attack, epoch, slice_), evidence.base_sides(cell, attack, slice_)
    if sides is None:
        pieces = evidence.pieces[cell.run_id]
        reason = pieces.unreadable("scores.parquet") or pieces.unreadable(SETS) or "not scored at this epoch"
        yield replace(blank, metric="auc", reason=reason)
        return
    nulls = base_nulls(evidence, cell, attack, slice_)
    for metric, estimate in _measured(sides.scored(), cell.seed):
        yield filled(blank, metric, replace(estimate, null_value=nulls[metric]))
        if metric == "auc" and cell.method != "none" and cell.base_run_id and not attack.null_is_stated:
            yield filled(blank, "auc-lift", _lift(sides, base))
    if attack.of_sets:
        yield filled(blank, P_VALUE, _of_the_set(sides, base if cell.method != "none" else None))


def _of_the_set(sides: Sides, base: Sides | None) -> Estimate:
    """The p-value of the whole set; its null is that on the untuned model, where this is measured.

    Absent where that is small too: then the sides differ in more than what was trained on.
    """
    scored = sides.scored()
    found = set_level_p_value(scored.members, scored.nonmembers, *scored.groups)
    if base is None:
        return found
    before = base.scored()
    untuned = set_level_p_value(before.members, before.nonmembers, *before.groups).value
    if found.value is not None and untuned is not None and untuned < SMALL:
        return Estimate.absent(
            f"it is {untuned:.2g} on the untuned model, which saw no member: the two sides differ in more than "
            "membership. See the lift of its AUC",
            found.n,
        )
    return replace(found, null_value=untuned)


def base_nulls(evidence: Evidence, cell: Cell, attack: Attack, slice_: str = "") -> Mapping[str, float | None]:
    """The nulls of one attack by metric: stated where it has no base to be measured on, else the base model's."""
    if attack.null_is_stated or cell.method == "none" or not cell.base_run_id:
        return STATED
    key = (cell.seed, cell.base_run_id, attack, slice_)
    if key not in evidence.nulls:
        base = evidence.base_sides(cell, attack, slice_)
        measured: dict[str, float | None] = dict.fromkeys(STATED)
        if base is not None:
            measured |= {metric: estimate.value for metric, estimate in _measured(base.scored(), cell.seed)}
        evidence.nulls[key] = measured
    return evidence.nulls[key]


def _measured(sides: Sides, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Every estimate of one attack on one model, by metric; their nulls are the caller's to say."""
    scores, groups = (sides.members, sides.nonmembers), sides.groups
    yield "auc", auc_estimate(*scores, *groups)
    for rate in RATES:
        yield f"tpr@fpr={rate:g}", tpr_at_fpr(*scores, rate, *groups)
    yield PARTIAL, partial_auc(*scores, PARTIAL_FPR, *groups)
    yield BALANCED, balanced_accuracy(*scores, *groups, seed=seed)


def cost_rows(evidence: Evidence, cell: Cell, epoch: int | None) -> Iterator[Row]:
    """What the run cost, as counted by the run itself: no interval, n = 1."""
    cost = evidence.pieces[cell.run_id].cost
    for key, (name, metric) in COSTS.items():
        if isinstance(cost.get(key), int | float):
            row = replace(blank_row(evidence, cell, epoch, "cost", None), name=name, metric=metric)
            yield replace(row, value=float(cost[key]), n=1)


def pooled_rows(seeds: Sequence[Iterable[Row]], utilities: Mapping[str, Utility]) -> list[Row]:
    """The means over the seeds of one method of all that it estimates, where it has two seeds or more.

    They stand at every epoch that all its seeds reached. Where seeds ended at different epochs, each
    seed's own last one is pooled too, in rows without an epoch: at the later epochs alone, the mean
    would be that of the seeds that happened to train longest. `utilities` are the study's measures, by name.
    """
    measured = [[row for row in rows if row.kind in POOLED and row.metric != P_VALUE] for rows in seeds]
    measured = [rows for rows in measured if rows]
    if len(measured) < 2:
        return []
    epochs = [{row.epoch or 0 for row in rows} for rows in measured]
    shared, ends = set.intersection(*epochs), [max(reached) for reached in epochs]
    families: dict[Row, list[Row]] = {}
    for rows, end in zip(measured, ends, strict=True):
        for row in rows:
            key = replace(row, seed=None, run_id="", value=None, low=None, high=None, n=None, interval="",
                          null_value=None, reason="")  # fmt: skip
            if row.epoch in shared:
                families.setdefault(key, []).append(row)
            if row.epoch == end and len(set(ends)) > 1:
                families.setdefault(replace(key, epoch=None), []).append(row)
    return [
        filled(key, key.metric, _pooled(key, [row.estimate for row in same], utilities))
        for key, same in families.items()
    ]


def _lift(sides: Sides, base: Sides | None) -> Estimate:
    if base is None:
        return Estimate.absent("the base model has no scores of this attack")
    ours, theirs = sides.scored(base), base.scored(sides)
    return auc_lift(ours.members, ours.nonmembers, theirs.members, theirs.nonmembers, *ours.groups)


def _pooled(row: Row, of: Sequence[Estimate], utilities: Mapping[str, Utility]) -> Estimate:
    measure = utilities.get(row.name) if row.kind == "utility" else None
    if measure is not None and measure.form == "exp":
        return pool_logs_over_seeds(of)
    return pool_over_seeds(of, _bounds(row, measure))


def _bounds(row: Row, measure: Utility | None) -> tuple[float, float] | None:
    if row.metric.startswith("log-prob"):
        return None
    if row.name == EXPOSURE:
        return (0.0, math.inf)
    if row.kind == "utility":
        return None if "-vs-" in row.metric or measure is None else measure.bounds
    if "-excess-vs-" in row.metric:
        return (-2.0, 2.0)  # a difference of differences
    return (-1.0, 1.0) if "-vs-" in row.metric or row.metric == "auc-lift" else (0.0, 1.0)
