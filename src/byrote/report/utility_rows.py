"""Utility from stored statistics: the number of the test records with its interval, and its paired difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from byrote.report.evidence import Evidence, coarser
from byrote.report.measures import Utility
from byrote.report.pieces import SETS, Column, Part, Series
from byrote.report.rows import Row, blank_row, filled
from byrote.statistics.interval import rate_estimate, too_few, weighted_mean_estimate
from byrote.statistics.jackknife import jackknife_estimate
from byrote.store import Cell
from byrote.types import Estimate, Floats


def utility_rows(evidence: Evidence, cell: Cell, utility: Utility, epoch: int) -> Iterator[Row]:
    """One utility measure on the test records; beside the untuned base model, that of the records' own text too."""
    yield utility_row(evidence, cell, utility, epoch)
    column, own = _column(evidence, cell.run_id, utility, epoch), utility.reference
    if own is not None and column is not None and (cell.method == "none" or not cell.base_run_id):
        test = evidence.part(cell.seed, "test")
        rows = column.take(test.ids)
        keep = _measured(rows)
        found = utility_estimate(replace(utility, value=own), rows[keep], _groups(test, keep), None)
        yield filled(blank_row(evidence, cell, epoch, "utility", utility), utility.of_the_records, found)


def utility_row(evidence: Evidence, cell: Cell, utility: Utility, epoch: int) -> Row:
    """One utility measure on the test records; its null is the untuned base model on the same records."""
    blank = replace(blank_row(evidence, cell, epoch, "utility", utility), metric=utility.metric)
    column = _column(evidence, cell.run_id, utility, epoch)
    pieces = evidence.pieces[cell.run_id]
    if column is None or pieces.unreadable(SETS):
        reason = pieces.unreadable("utility.parquet") or pieces.unreadable(SETS) or "not measured at this epoch"
        return replace(blank, reason=reason)
    test = evidence.resampled(cell, evidence.part(cell.seed, "test"))
    rows, null = column.take(test.ids), None
    keep = _measured(rows)
    base = _column(evidence, cell.base_run_id, utility, 0) if cell.method != "none" and cell.base_run_id else None
    if base is not None:
        before = base.take(test.ids)
        keep &= _measured(before)
        null = utility_estimate(utility, before[keep], _groups(test, keep), None).value
    return filled(blank, utility.metric, utility_estimate(utility, rows[keep], _groups(test, keep), null))


def utility_difference(
    evidence: Evidence,
    ours: tuple[Cell, int],
    theirs: tuple[Cell, int],
    utility: Utility,
    their_evidence: Evidence | None = None,
) -> Estimate:
    """The difference of two cells on the test records of the first; where the measure is an exponential, their ratio.

    The null is no difference. The records are the same on both sides, so each is left out, or weighed, on both;
    `their_evidence` is that of another study on the same records.
    """
    sources = (evidence, their_evidence or evidence)
    one, other = (
        _column(source, cell.run_id, utility, epoch)
        for source, (cell, epoch) in zip(sources, (ours, theirs), strict=True)
    )
    if one is None or other is None:
        return Estimate.absent(f"{'' if one is None else 'without privacy: '}not measured at this epoch")
    test = coarser(evidence.part(ours[0].seed, "test"), (evidence, ours[0]), (sources[1], theirs[0]))
    rows, twins = one.take(test.ids), other.take(test.ids)
    keep = _measured(rows) & _measured(twins)
    return paired_estimate(utility, rows[keep], twins[keep], _groups(test, keep))


def utility_estimate(utility: Utility, rows: Floats, groups: Sequence[str], null: float | None) -> Estimate:
    """The number of records whose statistics are `rows` (N, k), by the interval of its form."""
    value_of = utility.value
    if value_of is None:
        return Estimate.absent(f"{utility.name} is not installed here", len(rows))
    if not len(rows):
        return too_few(0, 0)
    if utility.form == "rate":
        return rate_estimate(rows[:, 0], groups, null_value=null)
    if utility.form == "sums":
        return jackknife_estimate(rows, value_of, groups, utility.bounds, null_value=null)
    return _mean(utility, _means(rows), rows[:, 1], groups, utility.bounds, null)


def paired_estimate(utility: Utility, rows: Floats, twins: Floats, groups: Sequence[str]) -> Estimate:
    """The number of `rows` less that of `twins`, both (N, k) and of the same records; of an exponential the ratio."""
    value_of, k = utility.value, rows.shape[1]
    if value_of is None:
        return Estimate.absent(f"{utility.name} is not installed here", len(rows))
    if not len(rows):
        return too_few(0, 0)
    if utility.form == "sums":
        return jackknife_estimate(
            np.hstack([rows, twins]), lambda sums: value_of(sums[..., :k]) - value_of(sums[..., k:]), groups,
            null_value=0.0,
        )  # fmt: skip
    null = 1.0 if utility.form == "exp" else 0.0
    size = None if utility.bounds is None else utility.bounds[1] - utility.bounds[0]
    bounds = None if size is None else (-size, size)
    return _mean(utility, _means(rows) - _means(twins), rows[:, 1], groups, bounds, null)


def _mean(
    utility: Utility, values: Floats, weights: Floats, groups: Sequence[str], bounds: tuple[float, float] | None,
    null: float | None,
) -> Estimate:  # fmt: skip
    transform = "exp" if utility.form == "exp" else "identity"
    try:
        return weighted_mean_estimate(values, weights, groups, transform, bounds=bounds, null_value=null)  # type: ignore[arg-type]
    except OverflowError:
        return Estimate.absent("too large to state: training has diverged", len(values))


def _means(rows: Floats) -> Floats:
    """(N,) each record's own value, of statistics (weight * value, weight); 0 where it weighs nothing."""
    return np.divide(rows[:, 0], rows[:, 1], out=np.zeros(len(rows)), where=rows[:, 1] > 0)


def _column(evidence: Evidence, run_id: str, utility: Utility, epoch: int) -> Column | None:
    return evidence.pieces[run_id].utility.get(Series(epoch, utility.name, utility.settings))


def _measured(rows: Floats) -> NDArray[np.bool_]:
    """(N,) which records have all their statistics."""
    return np.asarray(np.isfinite(rows).all(1))


def _groups(test: Part, keep: NDArray[np.bool_]) -> list[str]:
    return [group for group, kept in zip(test.groups, keep, strict=True) if kept]
