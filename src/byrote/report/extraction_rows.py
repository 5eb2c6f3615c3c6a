"""Rows about what comes out of a model: of members, of nonmembers, and how far the two are apart.

The same is asked of the untuned model, which cannot have learned any of it: that is each number's null. What members
have more than nonmembers, less what they have more by the untuned model, is what was learned by rote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import compress
from typing import NamedTuple

import numpy as np

from byrote.report.evidence import Evidence, coarser
from byrote.report.measures import Extraction
from byrote.report.pieces import EXTRACTION, Column, Part, Series
from byrote.report.rows import Row, blank_row, filled
from byrote.statistics.bounded import bounded_mean
from byrote.statistics.interval import difference_of_estimates, difference_of_rates, rate_estimate
from byrote.store import Cell
from byrote.types import Estimate, Floats, family_of

NONMEMBERS = "nonmembers"
UNMEASURED = "not measured at this epoch, or by another version of byrote: run the study again"


class _Side(NamedTuple):
    """One metric of one side's records by the tuned and the untuned model, of those that both could be asked."""

    here: Floats
    base: Floats | None
    groups: list[str]


def extraction_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """Every measure of a cell at every epoch that it was made at, for all records and each slice."""
    epochs = evidence.epochs(cell)
    for measure in evidence.extractions:
        for epoch in epochs:
            if measure.at_the_end and epoch != epochs[-1]:
                continue
            column = column_of(evidence, cell.run_id, cell.seed, measure, epoch)
            if column is None:
                blank = blank_row(evidence, cell, epoch, "extraction", measure)
                reason = evidence.pieces[cell.run_id].unreadable(_file(evidence, cell.seed)) or UNMEASURED
                yield replace(blank, metric=next(iter(measure.metrics)), reason=reason)
                continue
            for slice_ in ("", *evidence.slices(cell.seed)):
                yield from _rows(evidence, cell, measure, epoch, slice_, column)


def _rows(
    evidence: Evidence, cell: Cell, measure: Extraction, epoch: int, slice_: str, column: Column
) -> Iterator[Row]:
    limits = (None if slice_ else measure.records, None if family_of(slice_) else measure.records)
    members, nonmembers = (
        evidence.resampled(cell, evidence.part_of(cell.seed, side, slice_).first(most))
        for side, most in zip(("member", "nonmember"), limits, strict=True)
    )
    base = None
    if cell.method != "none" and cell.base_run_id:
        base = column_of(evidence, cell.base_run_id, cell.seed, measure, 0)
        base = base if base is not None and np.isfinite(base.values).any() else None
    blank = replace(blank_row(evidence, cell, epoch, "extraction", measure), slice=slice_)
    if reason := _why_not(column, members):
        yield replace(blank, metric=next(iter(measure.metrics)), reason=reason)
        return
    for place, (metric, form) in enumerate(measure.metrics.items()):
        ours, theirs = (_side(column, base, part, place) for part in (members, nonmembers))
        yield filled(blank, metric, _value(ours, form == "share"))
        if not slice_ or family_of(slice_):  # every tier of copied members is compared with the same nonmembers
            yield filled(
                replace(blank, slice=f"{slice_} {NONMEMBERS}".strip()), metric, _value(theirs, form == "share")
            )
        yield filled(blank, f"{metric}-vs-{NONMEMBERS}", _between(ours, theirs, form == "share"))
        if base is not None:
            beyond = difference_of_estimates(_gain(ours, form == "share"), _gain(theirs, form == "share"))
            yield filled(blank, f"{metric}-excess-vs-{NONMEMBERS}", beyond)


def _why_not(column: Column, part: Part) -> str:
    """Why no record of a part has numbers; empty where any has."""
    if np.isfinite(column.take(part.ids)).any():
        return ""
    reasons = sorted(set(column.why(part.ids)) - {"not scored"})
    return reasons[0] if reasons else "no record of it was asked about"


def _side(column: Column, base: Column | None, part: Part, place: int) -> _Side:
    here = column.take(part.ids)[:, place]
    keep = np.isfinite(here)
    before = None if base is None else base.take(part.ids)[:, place]
    if before is not None:
        keep &= np.isfinite(before)
    groups = [group for group, kept in zip(part.groups, keep, strict=True) if kept]
    return _Side(here[keep], None if before is None else before[keep], groups)


def _value(side: _Side, is_share: bool) -> Estimate:
    """Of one side; the null is the untuned model's on the same records."""
    null = float(side.base.mean()) if side.base is not None and len(side.base) else None
    if is_share:
        return rate_estimate(side.here, side.groups, null_value=null)
    return bounded_mean(side.here, side.groups, null_value=null)


def _between(ours: _Side, theirs: _Side, is_share: bool) -> Estimate:
    """Members less nonmembers; the null is that of the untuned model."""
    found = difference_of_estimates(_value(ours, is_share), _value(theirs, is_share))
    if ours.base is None or theirs.base is None or not len(ours.base) or not len(theirs.base):
        return found
    return replace(found, null_value=float(ours.base.mean() - theirs.base.mean()))


def _gain(side: _Side, is_share: bool) -> Estimate:
    """The tuned model less the untuned one on one side's records, by record."""
    assert side.base is not None
    return _by_record(side.here - side.base, side.groups, is_share)


def extraction_difference(
    measure: Extraction, metric: str, part: Part, ours: tuple[Evidence, Cell, int], theirs: tuple[Evidence, Cell, int]
) -> Estimate | None:
    """What comes out of the same records by two models, each at an epoch, record by record; None where not measured."""
    runs = (ours, theirs)
    columns = [column_of(evidence, cell.run_id, cell.seed, measure, epoch) for evidence, cell, epoch in runs]
    known = [column for column in columns if column is not None and column.values.shape[1] == len(measure.metrics)]
    if len(known) < 2:
        return None
    place = list(measure.metrics).index(metric)
    one, other = (column.take(part.ids)[:, place] for column in known)
    keep = np.isfinite(one) & np.isfinite(other)
    groups = compress(coarser(part, *((evidence, cell) for evidence, cell, _ in runs)).groups, keep)
    return _by_record((one - other)[keep], list(groups), measure.metrics[metric] == "share")


def _by_record(differences: Floats, groups: list[str], is_share: bool) -> Estimate:
    if is_share and len(set(groups)) == len(groups):
        return difference_of_rates(differences)
    return bounded_mean(differences, groups, (-1.0, 1.0), null_value=0.0)


def column_of(evidence: Evidence, run_id: str, seed: int, measure: Extraction, epoch: int) -> Column | None:
    """A measure's numbers by one run on the split of a seed; None too where another byrote made others of it."""
    measured = evidence.pieces[run_id].extraction.get(evidence.manifest.extractions.get(str(seed), ""), {})
    found = measured.get(Series(epoch, measure.name, measure.settings))
    if found is None or not np.isfinite(found.values).any():
        return found  # reasons alone
    return found if found.values.shape[1] == len(measure.metrics) else None


def _file(evidence: Evidence, seed: int) -> str:
    return f"{EXTRACTION}/{evidence.manifest.extractions.get(str(seed), '')}.parquet"
