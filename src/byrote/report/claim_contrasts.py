"""The difference that a claim is about: seed by seed on the same records, and over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from byrote.claims import UNTUNED, Claim, Measure
from byrote.report.claim_sides import Instance, Pair, Side
from byrote.report.extraction_rows import extraction_difference
from byrote.report.measures import Attack, Extraction, Utility, merged_settings
from byrote.report.privacy_rows import difference_of_sides
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.utility_rows import utility_difference
from byrote.statistics.interval import difference_of_estimates, logarithm, pool_over_seeds
from byrote.store import Cell
from byrote.types import Estimate

COUNTED = ("trainable_parameters", "total_parameters", "stored_bytes")
"""Costs that are known, and not measured: their differences need no interval."""
ACCOUNTS = ("epsilon", "training")
"""Names of privacy numbers that the ledger states; the audit's bounds are estimates."""
MATCHED = 0.02
"""How far apart two validation losses may lie and still count as matched, in nats: 2% of a perplexity."""


class At(NamedTuple):
    """One run of a side, at one of its epochs."""

    results: Results
    cell: Cell
    epoch: int
    slice: str


class Contrast(NamedTuple):
    """What one pair of a claim came to: `one` less `other`, or the logarithm of their ratio where `is_ratio`."""

    pair: Pair
    estimate: Estimate
    seeds: int
    is_ratio: bool
    ends: tuple[float | None, float | None]
    """The two numbers themselves, as means over the seeds that both have."""
    epochs: tuple[str, str]
    """Which epochs were compared."""


class _Book:
    """Rows by what they are about, made once for each results."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[tuple[object, ...], Row]] = {}

    def row(self, at: At, measure: Measure, own: str) -> Row | None:
        """The row of one run, epoch and slice; own are the measure's settings."""
        known = self.rows.get(id(at.results))
        if known is None:
            known = {_key(row): row for row in at.results.rows if row.seed is not None}
            self.rows[id(at.results)] = known
        settings = merged_settings(at.cell.settings, measure.name, own)
        of = (at.cell.method, settings, at.cell.privacy, at.cell.delta, at.cell.seed, at.epoch)
        return known.get((*of, *measure, at.slice))


def _key(row: Row) -> tuple[object, ...]:
    return (row.method, row.settings, row.privacy, row.delta, row.seed, row.epoch, row.kind, row.name, row.metric,
            row.slice)  # fmt: skip


class Contrasts:
    """Makes the contrasts of a study's claims."""

    def __init__(self) -> None:
        self.book = _Book()

    def of(self, claim: Claim, pair: Pair) -> Contrast:
        """The pair over all seeds that both sides have."""
        is_ratio = claim.measured.kind == "cost" or (isinstance(pair.measure, Utility) and pair.measure.form == "exp")
        alone, ends, epochs = [], [], []
        reasons = []
        for one, other in _runs(pair):
            chosen = self._epochs(claim, pair, one, other)
            if isinstance(chosen, str):
                reasons.append(chosen)
                continue
            here, there = chosen
            found, numbers = self._difference(claim.measured, pair, here, there, is_ratio)
            if found.value is None:
                reasons.append(found.reason)
                continue
            alone.append(_exact(found) if _is_known(claim.measured) else found)
            ends.append(numbers)
            epochs.append((here.epoch, there.epoch if there is not None else None))
        estimate = _pooled(alone, reasons or [_why_none(pair)])
        return Contrast(pair, estimate, len(alone), is_ratio, _means(ends), _spans(epochs))

    def _epochs(self, claim: Claim, pair: Pair, one: Cell, other: Cell | None) -> tuple[At, At | None] | str:
        """The epochs at which one seed's two runs are compared, or why there are none."""
        side, against = pair.one, pair.other if isinstance(pair.other, Side) else None
        free = side.epoch is None and (against is None or against.epoch is None)
        if claim.at == "matched" and free and against is not None and other is not None:
            return self._matched(side, one, against, other)
        here = self._epoch(side, one, side.epoch or claim.at)
        there = None if against is None or other is None else self._epoch(against, other, against.epoch or claim.at)
        if here is None or (against is not None and there is None):
            best = "best" in (side.epoch or claim.at, against is not None and (against.epoch or claim.at))
            return "no validation loss, or not measured at that epoch" if best else "not measured at that epoch"
        return At(side.results, one, here, side.slice), (
            None
            if against is None or other is None or there is None
            else At(against.results, other, there, against.slice)
        )

    def _epoch(self, side: Side, cell: Cell, wanted: object) -> int | None:
        epochs = side.results.evidence.epochs(cell)
        if isinstance(wanted, int):
            return wanted if wanted in epochs else None
        if wanted == "best":
            losses = _losses(side, cell)
            return min(losses, key=lambda epoch: losses[epoch], default=None)
        return max(epochs, default=None)

    def _matched(self, side: Side, one: Cell, against: Side, other: Cell) -> tuple[At, At] | str:
        """The two epochs of the lowest validation loss that both models reach, within MATCHED of each other."""
        ours, theirs = _losses(side, one), _losses(against, other)
        if not ours or not theirs:
            return "no validation loss was measured"
        pairs = [(a, b) for a in ours for b in theirs if abs(ours[a] - theirs[b]) <= MATCHED]
        if not pairs:
            return "no two epochs at which both are equally useful"
        a, b = min(pairs, key=lambda at: (max(ours[at[0]], theirs[at[1]]), sum(at)))
        return At(side.results, one, a, side.slice), At(against.results, other, b, against.slice)

    def _difference(
        self, measure: Measure, pair: Pair, here: At, there: At | None, is_ratio: bool
    ) -> tuple[Estimate, tuple[float | None, float | None]]:
        """One seed's difference, and its two numbers."""
        own = pair.measure.settings if pair.measure is not None else ""
        row = self.book.row(here, measure, own)
        if row is None or row.value is None:
            return Estimate.absent(row.reason if row is not None and row.reason else "not measured"), (None, None)
        if there is None:
            return self._against(measure, pair, here, row, is_ratio)
        other = self.book.row(there, measure, own)
        if other is None or other.value is None:
            return Estimate.absent(other.reason if other is not None and other.reason else "not measured"), (None, None)
        found = _paired(measure, pair.measure, here, there)
        if found is None:
            pair_of = (
                (logarithm(row.estimate), logarithm(other.estimate)) if is_ratio else (row.estimate, other.estimate)
            )
            found = _apart(*pair_of)
        elif is_ratio:
            found = logarithm(found)
        return found, (row.value, other.value)

    def _against(
        self, measure: Measure, pair: Pair, here: At, row: Row, is_ratio: bool
    ) -> tuple[Estimate, tuple[float | None, float | None]]:
        """Against a number, or against the untuned model on the same records."""
        is_auc = measure.kind == "membership" and measure.metric == "auc"
        untuned = self._untuned(measure, pair, here) if pair.other == UNTUNED and not is_auc else None
        if untuned is not None:
            return self._difference(measure, pair, here, untuned, is_ratio)
        number = row.null_value if pair.other == UNTUNED else pair.other
        if not isinstance(number, int | float):
            return Estimate.absent("the untuned model has no such number here"), (None, None)
        if is_ratio and number <= 0:
            return Estimate.absent(f"to {number:g} there is no ratio"), (row.value, number)
        if pair.other == UNTUNED and measure.metric == "auc":
            lift = self.book.row(
                here, measure._replace(metric="auc-lift"), pair.measure.settings if pair.measure else ""
            )
            if lift is not None and lift.value is not None:
                return lift.estimate, (row.value, number)
        estimate, null = (logarithm(row.estimate), math.log(number)) if is_ratio else (row.estimate, float(number))
        return _less(estimate, null), (row.value, number)

    def _untuned(self, measure: Measure, pair: Pair, here: At) -> At | None:
        """The untuned model's run on the same split, where it has the number: this is measured too, and not known.

        None where the null is stated, as 0.5 is for an attack that compares with the untuned model.
        """
        cells = [cell for cell in here.results.evidence.done() if cell.method == "none"]
        base = next((cell for cell in cells if cell.seed == here.cell.seed), None)
        if base is None or base.run_id != here.cell.base_run_id:
            return None
        there = At(here.results, base, 0, here.slice)
        row = self.book.row(there, measure, pair.measure.settings if pair.measure is not None else "")
        return there if row is not None and row.value is not None else None


def _why_none(pair: Pair) -> str:
    """Why there is no seed to compare."""
    sides = [side for side in (pair.one, pair.other) if isinstance(side, Side)]
    failed = [side.configuration.label for side in sides if not side.configuration.done]
    return f"every run of {failed[0]} failed" if failed else "no seed has both"


def _runs(pair: Pair) -> Iterable[tuple[Cell, Cell | None]]:
    """The runs of both sides, seed by seed."""
    if not isinstance(pair.other, Side):
        return [(cell, None) for cell in pair.one.configuration.done]
    others = {cell.seed: cell for cell in pair.other.configuration.done}
    return [(cell, others[cell.seed]) for cell in pair.one.configuration.done if cell.seed in others]


def _losses(side: Side, cell: Cell) -> dict[int, float]:
    """The validation loss by epoch, in nats: epochs are chosen on other records than those that they are judged on."""
    evidence = side.results.evidence
    measured, known = set(evidence.epochs(cell)), evidence.pieces[cell.run_id].training.get("validation") or []
    return {
        one["epoch"]: one["loss"]
        for one in known
        if one["epoch"] in measured and one["loss"] is not None and math.isfinite(one["loss"])
    }


def _paired(measure: Measure, instance: Instance, here: At, there: At) -> Estimate | None:
    """The difference on the same records, where it can be paired; else None."""
    ours, theirs = here.results.evidence, there.results.evidence
    if isinstance(instance, Attack) and measure.metric == "auc":
        parts = [
            [evidence.part_of(at.cell.seed, side, at.slice).ids for side in ("member", "nonmember")]
            for evidence, at in ((ours, here), (theirs, there))
        ]
        if parts[0] == parts[1]:
            one = ours.sides(here.cell, instance, here.epoch, here.slice)
            other = theirs.sides(there.cell, instance, there.epoch, there.slice)
            return difference_of_sides(one, other, "the other")
    if isinstance(instance, Utility) and ours is theirs and measure.metric == instance.metric:
        return utility_difference(ours, (here.cell, here.epoch), (there.cell, there.epoch), instance)
    if (
        isinstance(instance, Extraction)
        and ours is theirs
        and here.slice == there.slice
        and measure.metric in instance.metrics
    ):
        part = ours.part_of(here.cell.seed, "member", here.slice).first(None if here.slice else instance.records)
        runs = ((ours, here.cell, here.epoch), (theirs, there.cell, there.epoch))
        return extraction_difference(instance, measure.metric, part, *runs)
    return None


def _apart(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two numbers as if of different records; without limits where these have none."""
    known = all(limit is not None for limit in (one.low, one.high, other.low, other.high))
    if known or one.value is None or other.value is None:
        return difference_of_estimates(one, other)
    return Estimate(one.value - other.value, n=1, null_value=0.0)


def _is_known(measure: Measure) -> bool:
    """Whether a number is counted or accounted, and not estimated: its differences need no interval."""
    return measure.metric in COUNTED or (measure.kind == "privacy" and measure.name in ACCOUNTS)


def _exact(estimate: Estimate) -> Estimate:
    """What is counted is known: its limits are itself."""
    return replace(estimate, low=estimate.value, high=estimate.value, interval="counted")


def _less(estimate: Estimate, number: float) -> Estimate:
    value, low, high = (
        limit if limit is None else limit - number for limit in (estimate.value, estimate.low, estimate.high)
    )
    return replace(estimate, value=value, low=low, high=high, null_value=0.0)


def _pooled(alone: Sequence[Estimate], reasons: Sequence[str]) -> Estimate:
    if not alone:
        return Estimate.absent("; ".join(sorted(set(filter(None, reasons)))) or "not measured")
    if len(alone) == 1:
        return replace(alone[0], null_value=0.0)
    pooled = pool_over_seeds(alone)
    if pooled.low is None and all(one.interval == "counted" for one in alone):
        pooled = _exact(pooled)
    return replace(pooled, null_value=0.0)


def _means(ends: Sequence[tuple[float | None, float | None]]) -> tuple[float | None, float | None]:
    if not ends:
        return None, None
    columns = list(zip(*ends, strict=True))
    ours, theirs = ([number for number in column if number is not None] for column in columns)
    return (float(np.mean(ours)) if ours else None, float(np.mean(theirs)) if theirs else None)


def _spans(epochs: Sequence[tuple[int, int | None]]) -> tuple[str, str]:
    """'4', or '2 to 4' where seeds differ."""
    found = []
    for column in zip(*epochs, strict=True) if epochs else ((), ()):
        known = sorted({epoch for epoch in column if epoch is not None})
        found.append("" if not known else f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}")
    return found[0], found[1]
