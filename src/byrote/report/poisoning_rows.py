"""Rows about mislabelled records: what the model says of them, what models that never saw the wrong labels say, and
how far the two are apart.

The first null is the left-out training: the same run without these records, judged on the same wrong labels. What it
says, a model can say that has learned none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from byrote.report.evidence import Evidence, Sides
from byrote.report.measures import Poisoning
from byrote.report.pieces import Column, Part, Series
from byrote.report.privacy_rows import twin_of
from byrote.report.rows import Row, blank_row, filled
from byrote.statistics.delong import auc_estimate, auc_lift
from byrote.statistics.interval import (
    difference_of_estimates,
    difference_of_means,
    difference_of_rates,
    rate_estimate,
    weighted_mean_estimate,
)
from byrote.store import Cell
from byrote.types import MISLABELLED, Estimate, Floats

CONTROL = f"{MISLABELLED} nonmembers"
NULLS = ("left-out", "untuned", "rightly-labelled")
"""What a cell can be compared with."""
MIRRORED = "one-minus-auc@rightly-labelled"


def first_null(evidence: Evidence) -> str:
    """The null of the rows: a training without the mislabelled records where the study asks for one."""
    return "left-out" if "left-out" in evidence.manifest.study.get("nulls", NULLS) else "untuned"


def poisoning_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """Every measure of a tuned cell at every epoch, with its nulls and its distance from each."""
    if cell.method == "none" or not evidence.part_of(cell.seed, "member", MISLABELLED).ids:
        return
    for epoch in evidence.epochs(cell):
        for measure in evidence.poisonings:
            yield from _rows(evidence, cell, measure, epoch)


def _rows(evidence: Evidence, cell: Cell, measure: Poisoning, epoch: int) -> Iterator[Row]:
    blank = replace(blank_row(evidence, cell, epoch, "poisoning", measure), slice=MISLABELLED)
    members, nonmembers = (evidence.part_of(cell.seed, side, MISLABELLED) for side in ("member", "nonmember"))
    ours = _column(evidence, cell.run_id, measure, epoch)
    if ours is None:
        yield replace(blank, metric=measure.metric, reason="not measured at this epoch")
        return
    nulls = {name: column for name in NULLS if (column := _null(evidence, cell, name, measure, epoch)) is not None}
    first = first_null(evidence)
    here = ours.take(members.ids)
    null = None if first not in nulls else _mean(measure, nulls[first].take(members.ids)).value
    yield filled(blank, measure.metric, _mean(measure, here, null))
    control, beside = ours.take(nonmembers.ids), nulls.get(first)
    theirs = None if beside is None else beside.take(nonmembers.ids)
    found = _mean(measure, control, None if theirs is None else _mean(measure, theirs).value)
    yield filled(replace(blank, slice=CONTROL), measure.metric, found)
    if beside is not None and theirs is not None:  # a model that got worse says more wrong labels of all records
        excess = _difference(measure, here - beside.take(members.ids))
        control_excess = _difference(measure, control - theirs)
        yield filled(replace(blank, slice=CONTROL), f"{measure.metric}-vs-{first}", control_excess)
        beyond = difference_of_estimates(excess, control_excess)
        yield filled(blank, f"{measure.metric}-excess-vs-nonmembers", beyond)
    yield filled(blank, f"{measure.metric}-vs-nonmembers", difference_of_means(here, control))
    for name, column in nulls.items():
        yield filled(blank, f"{measure.metric}@{name}", _mean(measure, column.take(members.ids)))
        yield filled(blank, f"{measure.metric}-vs-{name}", _difference(measure, here - column.take(members.ids)))
    if "left-out" in nulls:
        yield from _against_no_privacy(
            evidence, cell, measure, epoch, blank, here - nulls["left-out"].take(members.ids)
        )
    if not measure.is_share:
        yield from _auc_rows(evidence, cell, measure, epoch, blank, ours, nulls)


def _against_no_privacy(
    evidence: Evidence, cell: Cell, measure: Poisoning, epoch: int, blank: Row, excess: Floats
) -> Iterator[Row]:
    """How much less of the wrong labels a private run took over than the same run without privacy, by record."""
    twin = twin_of(evidence, cell) if cell.privacy != "none" else None
    if twin is None:
        return
    at = epoch if epoch != evidence.last_epoch(cell) else evidence.last_epoch(twin)
    if at is None:
        return
    theirs, null = _column(evidence, twin.run_id, measure, at), _null(evidence, twin, "left-out", measure, at)
    if theirs is None or null is None:
        return
    ids = evidence.part_of(cell.seed, "member", MISLABELLED).ids
    other = theirs.take(ids) - null.take(ids)
    yield filled(blank, f"{measure.metric}-excess-vs-none", _difference(measure, excess - other, 2.0))


def _auc_rows(
    evidence: Evidence, cell: Cell, measure: Poisoning, epoch: int, blank: Row, ours: Column, nulls: dict[str, Column]
) -> Iterator[Row]:
    """Mislabelled members against mislabelled nonmembers, and the same by each null."""
    member, nonmember = (evidence.part_of(cell.seed, side, MISLABELLED) for side in ("member", "nonmember"))
    sides = Sides.of(ours, member, nonmember)
    aucs = {name: _auc(Sides.of(column, member, nonmember)) for name, column in nulls.items()}
    first = aucs.get(first_null(evidence))
    yield filled(blank, "auc", replace(_auc(sides), null_value=None if first is None else first.value))
    for name, column in nulls.items():
        yield filled(blank, f"auc@{name}", aucs[name])
        base = Sides.of(column, member, nonmember)
        mine, theirs = sides.scored(base), base.scored(sides)
        yield filled(
            blank,
            f"auc-vs-{name}",
            auc_lift(mine.members, mine.nonmembers, theirs.members, theirs.nonmembers, *mine.groups),
        )
    if "rightly-labelled" in nulls:
        true_labels = _auc(Sides.of(nulls["rightly-labelled"], _as_drawn(member), _as_drawn(nonmember)))
        yield filled(blank, MIRRORED, _mirrored(true_labels))


def _as_drawn(part: Part) -> Part:
    """The same records under the labels that the data gave them: see `Record.score_id`."""
    return replace(part, ids=part.records)


def _mirrored(auc: Estimate) -> Estimate:
    if auc.value is None:
        return auc
    low, high = (None if limit is None else 1.0 - limit for limit in (auc.high, auc.low))
    return replace(auc, value=1.0 - auc.value, low=low, high=high)


def _null(evidence: Evidence, cell: Cell, name: str, measure: Poisoning, epoch: int) -> Column | None:
    """The measure of one null at the same epoch, or at its own last one where that ended before."""
    if name == "untuned":
        return _column(evidence, cell.base_run_id, measure, 0)
    run_id = cell.nulls.get(name)
    if run_id is None:
        return None
    ends = [epoch_ for epoch_ in evidence.pieces[run_id].epochs if epoch_ <= epoch]
    return _column(evidence, run_id, measure, max(ends, default=epoch))


def _column(evidence: Evidence, run_id: str, measure: Poisoning, epoch: int) -> Column | None:
    return evidence.pieces[run_id].scores.get(Series(epoch, measure.name, measure.settings))


def _mean(measure: Poisoning, values: Floats, null: float | None = None) -> Estimate:
    kept = values[np.isfinite(values)]
    if measure.is_share:
        return rate_estimate(kept, null_value=null)
    return weighted_mean_estimate(kept, np.ones(len(kept)), null_value=null)


def _difference(measure: Poisoning, values: Floats, largest: float = 1.0) -> Estimate:
    """The mean difference by record, of which none is larger than `largest` where the measure is a share."""
    kept = values[np.isfinite(values)]
    if measure.is_share and largest == 1.0:
        return difference_of_rates(kept)
    bounds = (-largest, largest) if measure.is_share else None
    return weighted_mean_estimate(kept, np.ones(len(kept)), bounds=bounds, null_value=0.0)


def _auc(sides: Sides) -> Estimate:
    known = sides.scored()
    return auc_estimate(known.members, known.nonmembers, *known.groups, null_value=None)
