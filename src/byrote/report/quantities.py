"""What methods are chosen by, leakage and utility: the number of each, and by how much one beats another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from byrote.report.extraction_numbers import beyond, number_label
from byrote.report.findings import Configuration, Finding, judged_by, over_seeds
from byrote.report.measures import Attack, Extraction, Utility
from byrote.report.privacy_rows import auc_difference
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.report.utility_rows import utility_difference
from byrote.statistics.interval import FEW_SEEDS, difference_of_estimates, logarithm, pool_over_seeds
from byrote.store import Cell
from byrote.types import Estimate

Difference = Callable[[Cell, Cell], Estimate]


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """Something that every method has a number of."""

    label: str
    values: Mapping[Configuration, Row]
    sign: int
    """1 where higher is better, -1 where lower is."""
    margin: float
    """By how much a method may be worse and still count as no worse: on the scale of `Gain`."""
    is_ratio: bool
    """Whether two numbers are compared by the logarithm of their ratio."""
    difference: Difference
    """One cell's number less that of another cell of the same seed; their ratio where `is_ratio`."""


class Gain(NamedTuple):
    """By how much one method is better than another; negative where it is worse. The null is 0."""

    estimate: Estimate
    agreed: bool
    """False where so few seeds are pooled that one of them alone should show it too, and none does."""

    @property
    def is_better(self) -> bool:
        """By the interval alone; whoever asks of many pairs adjusts for that."""
        return self.agreed and self.estimate.low is not None and self.estimate.low > 0.0

    def is_no_worse(self, margin: float) -> bool:
        """Whether it is not shown to be worse, and shown not to be worse by more than the margin."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and high >= 0.0 and low >= -margin


def gain(quantity: Quantity, one: Finding, other: Finding) -> Gain:
    """Over the seeds that both have, at the last epoch of each, on the same records."""
    others = {cell.seed: cell for cell in other.configuration.done}
    found = [
        better(quantity, quantity.difference(cell, others[cell.seed]))
        for cell in one.configuration.done
        if cell.seed in others
    ]
    if not found:
        return Gain(Estimate.absent("no seed has both"), True)
    if not over_seeds(one.configuration, other.configuration):
        return Gain(found[0], True)
    pooled = pool_over_seeds(found)
    return Gain(replace(pooled, null_value=0.0) if pooled.value is not None else pooled, _agreed(pooled, found))


def better(quantity: Quantity, difference: Estimate) -> Estimate:
    """A difference as a gain."""
    if quantity.is_ratio:
        difference = logarithm(difference)
    value, low, high = (
        None if number is None else quantity.sign * number
        for number in (difference.value, difference.low, difference.high)
    )
    low, high = (low, high) if quantity.sign > 0 else (high, low)
    null = None if value is None else 0.0
    return replace(difference, value=value, low=low, high=high, null_value=null)


def _agreed(pooled: Estimate, alone: Sequence[Estimate]) -> bool:
    """As with verdicts: over fewer than five seeds, at least one seed's own interval says what theirs together says."""
    if len(alone) >= FEW_SEEDS or pooled.low is None or pooled.high is None or pooled.low <= 0.0 <= pooled.high:
        return True
    above = pooled.low > 0.0
    return any((one.low or 0.0) > 0.0 if above else (one.high or 0.0) < 0.0 for one in alone)


def leakage_of(summary: Summary) -> Quantity | None:
    """The headline attack's AUC; where no membership attack was made, what comes out of members; else None."""
    if summary.headline is not None:
        return _of_attack(summary, summary.headline)
    index = SlicedIndex(summary, "extraction")
    for measure in summary.results.evidence.extractions:
        for metric in measure.metrics:
            rows = {one.configuration: beyond(index, one, measure, metric) for one in summary.tuned}
            values = {of: row for of, row in rows.items() if row is not None and row.value is not None}
            if values:
                return _of_extraction(summary, measure, metric, values)
    return None


def _of_attack(summary: Summary, attack: Attack) -> Quantity:
    evidence = summary.results.evidence
    findings = {one.configuration: one for one in summary.findings}
    of_cells = {(cell.run_id, cell.seed): of for of in findings for cell in of.done}

    def difference(one: Cell, other: Cell) -> Estimate:
        ours, theirs = evidence.last_epoch(one), evidence.last_epoch(other)
        if ours is None or theirs is None:
            return Estimate.absent("not scored")
        if "none" in (one.method, other.method):  # against the untuned model: what the verdict rests on
            tuned, epoch, sign = (one, ours, 1) if other.method == "none" else (other, theirs, -1)
            of = of_cells[tuned.run_id, tuned.seed]
            return _lift(summary.index.one(of, tuned.seed, epoch, attack, judged_by(of, attack)), sign)
        return auc_difference(evidence, (one, ours), (other, theirs), attack, "the other")

    rows = {of: one.auc[attack] for of, one in findings.items() if attack in one.auc and of.method != "none"}
    return Quantity(f"AUC of {attack.label}", rows, -1, evidence.margin, False, difference)


def _lift(row: Row | None, sign: int) -> Estimate:
    """How far a row lies above its null, or with -1 its null above it."""
    if row is None or row.value is None or row.null_value is None:
        return Estimate.absent("not scored")
    value, low, high = (None if x is None else sign * (x - row.null_value) for x in (row.value, row.low, row.high))
    low, high = (low, high) if sign > 0 else (high, low)
    return replace(row.estimate, value=value, low=low, high=high, null_value=0.0)


def _of_extraction(summary: Summary, measure: Extraction, metric: str, rows: Mapping[Configuration, Row]) -> Quantity:
    """Members less nonmembers, beyond the untuned model where there is one."""
    index = SlicedIndex(summary, "extraction")
    of_cells = {(cell.run_id, cell.seed): one for one in summary.findings for cell in one.configuration.done}

    def of(cell: Cell) -> Estimate:
        if cell.method == "none":
            return Estimate(0.0, 0.0, 0.0, null_value=0.0)
        one = of_cells[cell.run_id, cell.seed]
        row = beyond(index, one, measure, metric, cell)
        return row.estimate if row is not None else Estimate.absent("not measured")

    def difference(one: Cell, other: Cell) -> Estimate:
        return difference_of_estimates(of(one), of(other))

    label = f"{number_label(measure, metric)}, members less nonmembers"
    return Quantity(label, rows, -1, summary.results.evidence.margin, False, difference)


def utility_of(summary: Summary) -> Quantity | None:
    """The utility measure that methods are chosen by; None where the study has none."""
    utility, evidence = summary.chosen_by, summary.results.evidence
    if utility is None:
        return None

    def difference(one: Cell, other: Cell) -> Estimate:
        ours, theirs = evidence.last_epoch(one), evidence.last_epoch(other)
        if ours is None or theirs is None:
            return Estimate.absent("not measured")
        return utility_difference(evidence, (one, ours), (other, theirs), utility)

    rows = {one.configuration: one.utility[utility] for one in summary.findings if utility in one.utility}
    sign = 1 if utility.higher_is_better else -1
    return Quantity(utility.label, rows, sign, _margin(utility, evidence.margin), utility.form == "exp", difference)


def _margin(utility: Utility, margin: float) -> float:
    """The study's margin as a gain of utility: of a perplexity such a share of it, else such a share of its range."""
    if utility.form == "exp":
        return math.log1p(margin)
    return margin * (utility.bounds[1] - utility.bounds[0]) if utility.bounds is not None else margin
