"""What says whether the other numbers can be trusted: the split without a model, and a run that surely leaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from byrote.report.evidence import Evidence
from byrote.report.extraction_rows import column_of
from byrote.report.formats import listed, rate, with_limits
from byrote.report.measures import Attack, label
from byrote.report.rows import Row
from byrote.statistics.delong import auc_estimate
from byrote.types import Estimate

SEEN = 0.95
"""The AUC that an attack must reach, within its interval, on members that were over-fitted on purpose."""


def broken_splits(evidence: Evidence, rows: Sequence[Row]) -> list[str]:
    """A banner where records alone tell members from nonmembers: then no membership number means what it says."""
    found = []
    for name, row in _blind_rows(evidence, rows):
        if row.low is not None and row.high is not None and not row.low <= 0.5 <= row.high:
            seed = "" if row.seed is None else f" of seed {row.seed}"
            found.append(
                f"Members and nonmembers{seed} can be told apart without any model: {name} has AUC "
                f"{with_limits(row.estimate, rate)} where a random split has 0.5. They are not from one population, so "
                "every membership number below measures that difference too."
            )
    return found


def control_sentences(evidence: Evidence, rows: Sequence[Row]) -> list[str]:
    """What the controls came to, each in a sentence."""
    return [*_blind(evidence, rows), *_positive(evidence), *_comes_out(evidence), *_copies(evidence)]


def _blind_rows(evidence: Evidence, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """The AUC of each attack that reads no model: pooled over seeds where there are several, else the seed's."""
    pooled = len(evidence.seeds) > 1
    for attack in evidence.controls:
        for row in rows:
            if (row.name, row.metric, row.slice, row.seed is None) == (attack.name, "auc", "", pooled):
                yield attack.label, row


def _blind(evidence: Evidence, rows: Sequence[Row]) -> Iterator[str]:
    for name, row in _blind_rows(evidence, rows):
        if row.value is None:
            yield f"{name}, which reads no model, could not say whether the split is random: {row.reason}."
        else:
            over = f"{row.n} records" if row.seed is not None else f"{row.n} seeds"
            yield (
                f"{name}, which reads the records and no model, tells members from nonmembers with AUC "
                f"{with_limits(row.estimate, rate)} ({over}; a random split has 0.5)."
            )


def unseen(evidence: Evidence) -> list[str]:
    """A warning for each attack that does not see members which were over-fitted on purpose."""
    cell = evidence.manifest.positive_control
    if cell is not None and cell.status == "failed":
        return [f"The positive control could not be made ({cell.error}), so the attacks' power is not known."]
    return [
        f"{attack.label} does not see even over-fitted members (AUC {with_limits(estimate, rate)} on the positive "
        "control): that it finds nothing elsewhere says nothing."
        for attack, estimate in on_positive(evidence)
        if estimate.high is not None and estimate.high < SEEN
    ]


def _positive(evidence: Evidence) -> Iterator[str]:
    cell, study = evidence.manifest.positive_control, evidence.manifest.study
    found = [(attack, one) for attack, one in on_positive(evidence) if one.value is not None]
    if cell is None and study.get("positive_control") and "none" not in study.get("privacy", ["none"]):
        yield (
            "No positive control: every level of this study is private, and over-fitting members without noise would "
            "undo that. Whether the attacks have power here is not shown."
        )
    if cell is None or not found:
        return
    each = [f"{attack.label} {with_limits(estimate, rate)}" for attack, estimate in found]
    others = [attack.label for attack in evidence.attacks if attack not in dict(found)]
    rest = f" Not tried on it, since they take passes or trainings of their own: {listed(others)}." if others else ""
    yield (
        f"Positive control: {label(cell.method, cell.settings)} trained on {' for '.join(cell.notes)} with seed "
        f"{cell.seed}; AUC against as many nonmembers: {listed(each)}. An attack that sees these can see.{rest}"
    )


def _comes_out(evidence: Evidence) -> Iterator[str]:
    """What comes out of the over-fitted members, and of nonmembers."""
    cell = evidence.manifest.positive_control
    if cell is None or cell.status == "failed":
        return
    epoch = max(evidence.pieces[cell.run_id].epochs, default=0)
    for measure in evidence.extractions:
        column = column_of(evidence, cell.run_id, cell.seed, measure, epoch)
        if column is None:
            continue
        said = []
        for place, metric in enumerate(measure.metrics):
            sides = [column.take(evidence.part_of(cell.seed, side).ids)[:, place] for side in ("member", "nonmember")]
            known = [side[np.isfinite(side)] for side in sides]
            if all(len(side) for side in known):
                members, nonmembers = (f"{rate(float(side.mean()))} of {len(side)}" for side in known)
                said.append(f"{metric} {members} members, {nonmembers} nonmembers")
        if said:
            yield f"{measure.label} on the positive control: {'; '.join(said)}."


def on_positive(evidence: Evidence) -> list[tuple[Attack, Estimate]]:
    """The AUC of each attack that was made on the positive control."""
    cell = evidence.manifest.positive_control
    if cell is None or cell.status == "failed":
        return []
    epochs = evidence.pieces[cell.run_id].epochs
    found = []
    for attack in evidence.attacks:
        sides = evidence.sides(cell, attack, max(epochs, default=0))
        scored = None if sides is None else sides.scored()
        if scored is not None and len(scored.members) and len(scored.nonmembers):
            estimate = auc_estimate(scored.members, scored.nonmembers, *scored.groups, null_value=0.5)
            found.append((attack, estimate))
    return found


def _copies(evidence: Evidence) -> Iterator[str]:
    """How many copies there were, and whether any are on both sides."""
    dropped: dict[str, int] = {}
    for sizes in evidence.manifest.splits.values():
        for name, count in sizes.items():
            if "duplicate" in name:
                dropped[name.removeprefix("dropped: ")] = max(count, dropped.get(name.removeprefix("dropped: "), 0))
    shared = 0
    for seed in evidence.split_seeds:
        member, nonmember = (set(evidence.part(seed, split).groups) for split in ("member", "nonmember"))
        shared += len(member & nonmember)
    counts = [f"{name} {count:,}" for name, count in dropped.items() if count]
    left = f"Copies left out before the split: {', '.join(counts)}. " if counts else "The data has no copies. "
    groups = {0: "None is", 1: "One group is"}.get(shared, f"{shared} groups are")
    yield f"{left}{groups} on both sides of a split."
