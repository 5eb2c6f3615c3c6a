"""Two models of two studies on the same records: the difference of one number, record by record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byrote.report.evidence import Evidence, Sides
from byrote.report.extraction_rows import extraction_difference
from byrote.report.measures import Extraction, Poisoning
from byrote.report.pieces import SPLITS, Part, Series
from byrote.report.privacy_rows import difference_of_sides
from byrote.report.selection import Identity
from byrote.report.utility_rows import utility_difference
from byrote.statistics.interval import difference_of_rates, weighted_mean_estimate
from byrote.store import Cell
from byrote.types import Estimate

Texts = Mapping[tuple[int, str], Mapping[str, str]]
"""By seed and split: the key of each record's text, by its id."""


class At(NamedTuple):
    """One run at one epoch, with the texts of its study's splits."""

    evidence: Evidence
    texts: Texts
    cell: Cell
    epoch: int


def texts_of(folder: Path) -> Texts:
    """What each record's text is, by its key: an id alone may be another record of another file."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / SPLITS, columns=["seed", "split", "record_id", "text_key"]).to_pydict()
    found: dict[tuple[int, str], dict[str, str]] = {}
    for seed, split, record, key in zip(*table.values(), strict=True):
        found.setdefault((int(seed), split), {})[record] = key
    return found


def paired(identity: Identity, here: At, there: At) -> Estimate | None:
    """The number of `here` less that of `there` (of an exponential the ratio); None where it cannot be paired."""
    if identity.kind == "membership" and identity.metric == "auc":
        return _membership(identity, here, there)
    if identity.kind == "utility":
        return _utility(identity, here, there)
    if identity.kind == "extraction":
        return _extraction(identity, here, there)
    return _poisoning(identity, here, there) if identity.kind == "poisoning" else None


def _same(here: At, there: At, side: str, slice_: str, most: int | None = None) -> Part | None:
    """The records of a side and slice where both studies have the very same; else None."""
    parts = [at.evidence.part_of(at.cell.seed, side, slice_).first(most) for at in (here, there)]
    keys = [at.texts.get((at.cell.seed, side), {}) for at in (here, there)]
    known = [
        {(id_, record, of.get(record)) for id_, record in zip(part.ids, part.records, strict=True)}
        for part, of in zip(parts, keys, strict=True)
    ]
    return parts[0] if known[0] and known[0] == known[1] else None


def _membership(identity: Identity, here: At, there: At) -> Estimate | None:
    parts = [_same(here, there, side, identity.slice) for side in ("member", "nonmember")]
    members, nonmembers = parts
    if members is None or nonmembers is None:
        return None
    sides = []
    for at in (here, there):
        column = at.evidence.pieces[at.cell.run_id].scores.get(Series(at.epoch, identity.name, identity.settings))
        if column is None:
            return None
        sides.append(Sides.of(column, *(at.evidence.resampled(at.cell, part) for part in (members, nonmembers))))
    return difference_of_sides(sides[0], sides[1], "the other")


def _utility(identity: Identity, here: At, there: At) -> Estimate | None:
    found = [one for one in here.evidence.utilities if (one.name, one.settings) == (identity.name, identity.settings)]
    if not found or identity.metric != found[0].metric or _same(here, there, "test", "") is None:
        return None
    ours, theirs = (here.cell, here.epoch), (there.cell, there.epoch)
    return utility_difference(here.evidence, ours, theirs, found[0], there.evidence)


def _extraction(identity: Identity, here: At, there: At) -> Estimate | None:
    found = [one for one in here.evidence.extractions if (one.name, one.settings) == (identity.name, identity.settings)]
    if not found or identity.metric not in found[0].metrics:
        return None
    measure: Extraction = found[0]
    part = _same(here, there, "member", identity.slice, None if identity.slice else measure.records)
    if part is None:
        return None
    ours, theirs = ((at.evidence, at.cell, at.epoch) for at in (here, there))
    return extraction_difference(measure, identity.metric, part, ours, theirs)


def _poisoning(identity: Identity, here: At, there: At) -> Estimate | None:
    found = [one for one in here.evidence.poisonings if (one.name, one.settings) == (identity.name, identity.settings)]
    part = _same(here, there, "member", identity.slice)
    if not found or identity.metric != found[0].metric or part is None:
        return None
    measure: Poisoning = found[0]
    series = [Series(at.epoch, measure.name, measure.settings) for at in (here, there)]
    columns = [at.evidence.pieces[at.cell.run_id].scores.get(of) for at, of in zip((here, there), series, strict=True)]
    if columns[0] is None or columns[1] is None:
        return None
    differences = columns[0].take(part.ids) - columns[1].take(part.ids)
    kept = differences[np.isfinite(differences)]
    if measure.is_share:
        return difference_of_rates(kept)
    return weighted_mean_estimate(kept, np.ones(len(kept)), null_value=0.0)
