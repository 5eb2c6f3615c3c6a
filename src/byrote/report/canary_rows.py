"""Rows about canaries: by how many bits those that were trained on are better known than others of their law.

Each tier of a family is ranked among the family's controls, which nothing was trained on. The null is what the untuned
model makes of the same canaries among the same controls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from byrote.report.evidence import Evidence
from byrote.report.measures import Attack, headline, merged_settings
from byrote.report.pieces import Part, Series
from byrote.report.rows import Row, blank_row, filled
from byrote.statistics.exposure import (
    UNSEEN,
    Exposures,
    exposure_by_rank,
    exposure_estimate,
    extrapolated_exposure,
    left_out_exposure,
    most_exposed,
    unlike,
    unseen_exposure,
)
from byrote.statistics.interval import weighted_mean_estimate
from byrote.store import Cell, canonical_json
from byrote.types import CANARY, Estimate, Floats, family_of

NAME = "exposure"
MAXIMUM = "exposure-maximum"
METRICS: dict[str, Exposures] = {"exposure": exposure_by_rank, "exposure-extrapolated": extrapolated_exposure}
LOG_LIKELIHOOD = "loss"


class Scored(NamedTuple):
    """The scores of some canaries, (C,), and their groups."""

    scores: Floats
    groups: tuple[str, ...]


def exposure_attack(evidence: Evidence) -> Attack | None:
    """The attack whose scores rank the canaries: their log-likelihood where the study has it, else the headline."""
    own = (attack for attack in evidence.attacks if attack.name == LOG_LIKELIHOOD)
    return next(own, headline(evidence.attacks))


def exposure_settings(cell_settings: str, attack: Attack) -> str:
    """The settings column of the rows: by which scores canaries were ranked."""
    return merged_settings(cell_settings, NAME, canonical_json({"scores": attack.label}))


def tiers_of(evidence: Evidence, seed: int) -> dict[str, list[str]]:
    """By family, "canary:format", the slices of its canaries that were trained on, in order."""
    found: dict[str, list[str]] = {}
    for slice_ in evidence.slices(seed):
        if slice_.startswith(CANARY):
            found.setdefault(family_of(slice_), []).append(slice_)
    return found


def canary_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """The mean exposure of every tier, by rank and extrapolated, and of the controls by each other; what it can be."""
    attack, families = exposure_attack(evidence), tiers_of(evidence, cell.seed)
    if attack is None or not families or (cell.method == "none" and attack.null_is_stated):
        return
    epochs = evidence.epochs(cell)
    for epoch in epochs[-1:] if attack.at_the_end else epochs:
        settings = exposure_settings(cell.settings, attack)
        blank = blank_row(evidence, cell, epoch, "extraction", None)
        blank = replace(blank, name=NAME, settings=settings, access=attack.access)
        for family, tiers in families.items():
            yield from _of_family(evidence, cell, replace(blank, slice=family), attack, epoch, tiers)


def _of_family(
    evidence: Evidence, cell: Cell, blank: Row, attack: Attack, epoch: int, tiers: list[str]
) -> Iterator[Row]:
    part = evidence.part(cell.seed, "nonmember").only(lambda name: name == blank.slice)
    controls = _scored(evidence, cell.run_id, attack, epoch, part)
    if controls is None or not len(controls.scores):
        reason = evidence.pieces[cell.run_id].unreadable("scores.parquet") or "no control of this family has a score"
        yield replace(blank, metric=NAME, reason=reason)
        return
    yield replace(blank, metric=MAXIMUM, value=most_exposed(len(controls.scores)), n=len(controls.scores))
    for metric, of in METRICS.items():
        yield filled(blank, metric, _of_controls(controls, of))
    untuned = None
    if cell.method != "none" and cell.base_run_id and not attack.null_is_stated:
        untuned = _scored(evidence, cell.base_run_id, attack, 0, part)
    for tier in tiers:
        yield from _of_tier(evidence, cell, replace(blank, slice=tier), attack, epoch, (controls, untuned))


def _of_tier(
    evidence: Evidence, cell: Cell, blank: Row, attack: Attack, epoch: int, controls: tuple[Scored, Scored | None]
) -> Iterator[Row]:
    part = evidence.part_of(cell.seed, "member", blank.slice)
    inserted = _scored(evidence, cell.run_id, attack, epoch, part)
    before = None if controls[1] is None else _scored(evidence, cell.base_run_id, attack, 0, part)
    for metric, of in METRICS.items():
        if inserted is None:
            yield replace(blank, metric=metric, reason="not scored at this epoch")
            continue
        null: float | None = UNSEEN if of is extrapolated_exposure else unseen_exposure(len(controls[0].scores))
        if before is not None and controls[1] is not None:
            null = exposure_estimate(before.scores, controls[1].scores, before.groups, of).value
        found = exposure_estimate(inserted.scores, controls[0].scores, inserted.groups, of, null_value=null)
        yield filled(blank, metric, found)


def _of_controls(controls: Scored, of: Exposures) -> Estimate:
    """Each control among the others. By rank these are the same numbers whatever the scores, unless scores are tied."""
    scores, n = controls.scores, len(controls.scores)
    if n < 3:
        return Estimate.absent(f"needs 3 canaries that were never inserted, has {n}", n)
    if of is extrapolated_exposure and (problem := unlike(scores)):
        return Estimate.absent(problem, n)
    null = UNSEEN if of is extrapolated_exposure else unseen_exposure(n - 1)
    values = left_out_exposure(scores, of)
    return weighted_mean_estimate(values, np.ones(n), controls.groups, null_value=null)


def _scored(evidence: Evidence, run_id: str, attack: Attack, epoch: int, part: Part) -> Scored | None:
    """Those of a part that have a score; None where the run was not scored at this epoch."""
    column = evidence.pieces[run_id].scores.get(Series(epoch, attack.name, attack.settings))
    if column is None:
        return None
    values = column.take(part.ids)
    keep = np.isfinite(values)
    groups = tuple(group for group, kept in zip(part.groups, keep, strict=True) if kept)
    return Scored(values[keep], groups)
