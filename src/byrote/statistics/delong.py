"""AUC with an interval, and its lift over the same attack on the untuned base model.

Intervals are those of DeLong, DeLong and Clarke-Pearson 1988 on the logit scale, where records are
independent, and a bootstrap over whole groups where some are copies. Both rest on the records that
are out of order, and claim too much when there are few: by simulation (1,000 a side, members twice as
spread out as nonmembers) DeLong's 95% interval covers an AUC of .999 in 87% of repeats, and it has no
width at 1. So near 0 and 1 the score-type interval of Newcombe 2006 takes over ("newcombe").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.groups import Grouping
from byrote.statistics.interval import newcombe, normal_quantile
from byrote.statistics.roc import as_scores, auc, missing, placements
from byrote.types import Estimate, Floats

EDGE = 0.02  # an AUC this close to 0 or 1 is left to Newcombe
FEW_OUT_OF_ORDER = 20  # and so is one with fewer members (or nonmembers) than this out of order


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """Scores of both sides and their placements (see `roc.placements`)."""

    members: Floats
    nonmembers: Floats
    of_members: Floats
    of_nonmembers: Floats
    auc: float

    @classmethod
    def of(cls, members: Floats, nonmembers: Floats) -> _Ranking:
        return cls(members, nonmembers, *placements(members, nonmembers), auc(members, nonmembers))

    def at_edge(self, grouping: Grouping) -> bool:
        """Whether too few records, copies counted once, are out of order to tell how AUC varies."""
        best = 1.0 if self.auc >= 0.5 else 0.0
        out_of_order = min(
            len(np.unique(grouping.member[self.of_members != best])),
            len(np.unique(grouping.nonmember[self.of_nonmembers != best])),
        )
        return out_of_order < FEW_OUT_OF_ORDER or min(self.auc, 1.0 - self.auc) < EDGE

    def resampled(self, member_weights: Floats, nonmember_weights: Floats) -> Floats:
        """The AUC of each replicate, shape (R,), from weights of shape (R, M) and (R, N)."""
        order = np.argsort(self.nonmembers)
        ordered = self.nonmembers[order]
        below = np.zeros((len(nonmember_weights), len(ordered) + 1))
        np.cumsum(nonmember_weights[:, order], axis=1, out=below[:, 1:])
        left, right = (np.searchsorted(ordered, self.members, side) for side in ("left", "right"))
        pairs = (member_weights * (below[:, left] + below[:, right])).sum(axis=1) / 2.0
        total: Floats = member_weights.sum(axis=1) * nonmember_weights.sum(axis=1)
        return np.asarray(pairs / total)


def delong_covariance(first: _Ranking, second: _Ranking) -> float:
    """The covariance of two AUCs on the same records; of one with itself, its variance (DeLong 1988)."""
    parts = ((first.of_members, second.of_members), (first.of_nonmembers, second.of_nonmembers))
    return sum(float((a - a.mean()) @ (b - b.mean())) / (len(a) - 1) / len(a) for a, b in parts)


def auc_estimate(
    members: ArrayLike,
    nonmembers: ArrayLike,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    null_value: float | None = 0.5,
    level: float = 0.95,
    seed: int = 0,
    replicates: int = 2000,
) -> Estimate:
    """AUC of member scores (M,) against nonmember scores (N,), with its interval; n is M + N.

    Absent when a side is empty or every score is the same. `seed` and `replicates` matter only
    where groups repeat. Raises ValueError on a score that is not finite.
    """
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    grouping = Grouping.of(len(positive), len(negative), member_groups, nonmember_groups)
    n = len(positive) + len(negative)
    if problem := missing(positive, negative):
        return Estimate.absent(problem, n)
    ranking = _Ranking.of(positive, negative)
    low, high, interval = _interval(ranking, grouping, level, seed, replicates)
    return Estimate(ranking.auc, low, high, n, interval, null_value)


def auc_lift(
    members: ArrayLike,
    nonmembers: ArrayLike,
    base_members: ArrayLike,
    base_nonmembers: ArrayLike,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    against: str = "base model",
    level: float = 0.95,
    seed: int = 0,
    replicates: int = 2000,
) -> Estimate:
    """How far the AUC rose above that of the base model on the same records; null 0, n is M + N.

    Or above that of any other model: `against` names it where it has no AUC.

    Element i of `members` and of `base_members` is the same record, and so for nonmembers. The
    interval ("delong-paired") combines those of the two AUCs and DeLong's correlation of them by square-and-add
    (Zou 2007, "MOVER"), which equals DeLong's own away from 0 and 1 and keeps its coverage there.
    """
    target = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    base = as_scores(base_members, "base member"), as_scores(base_nonmembers, "base nonmember")
    if [len(side) for side in target] != [len(side) for side in base]:
        raise ValueError(f"the target and the {against} must score the same records")
    grouping = Grouping.of(len(target[0]), len(target[1]), member_groups, nonmember_groups)
    n = len(target[0]) + len(target[1])
    for which, scores in (("", target), (f"{against}: ", base)):
        if problem := missing(*scores):
            return Estimate.absent(which + problem, n)
    tuned, untuned = _Ranking.of(*target), _Ranking.of(*base)
    lift = tuned.auc - untuned.auc
    if grouping.repeats and not tuned.at_edge(grouping) and not untuned.at_edge(grouping):
        draws = [tuned.resampled(*w) - untuned.resampled(*w) for w in grouping.resample(seed, replicates)]
        (low, high), interval = _percentiles(np.concatenate(draws), level), "group-bootstrap"
    else:
        limits = [_interval(ranking, grouping, level, seed, replicates)[:2] for ranking in (tuned, untuned)]
        low, high = _square_and_add(tuned, untuned, limits)
        interval = "delong-paired"
    return Estimate(lift, max(low, -1.0), min(high, 1.0), n, interval, 0.0)


def _percentiles(draws: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def _interval(
    ranking: _Ranking, grouping: Grouping, level: float, seed: int, replicates: int
) -> tuple[float, float, str]:
    """Newcombe's interval near 0 and 1; elsewhere a bootstrap of copies, or DeLong's on the logit scale."""
    value = ranking.auc
    if ranking.at_edge(grouping):
        return *newcombe(value, *grouping.counts, level), "newcombe"
    if grouping.repeats:
        draws = [ranking.resampled(*weights) for weights in grouping.resample(seed, replicates)]
        return *_percentiles(np.concatenate(draws), level), "group-bootstrap"
    logit = math.log(value / (1.0 - value))
    half = normal_quantile(level) * math.sqrt(delong_covariance(ranking, ranking)) / (value * (1.0 - value))
    return 1.0 / (1.0 + math.exp(half - logit)), 1.0 / (1.0 + math.exp(-half - logit)), "delong"


def _square_and_add(tuned: _Ranking, untuned: _Ranking, limits: list[tuple[float, float]]) -> tuple[float, float]:
    (low_1, high_1), (low_2, high_2) = limits
    down, up = (tuned.auc - low_1, high_2 - untuned.auc), (high_1 - tuned.auc, untuned.auc - low_2)
    r, lift = _correlation(tuned, untuned), tuned.auc - untuned.auc
    below, above = (math.sqrt(max(a * a - 2.0 * r * a * b + b * b, 0.0)) for a, b in (down, up))
    return lift - below, lift + above


def _correlation(first: _Ranking, second: _Ranking) -> float:
    """DeLong's correlation of two AUCs; 0 where one of them does not vary or has a single record a side."""
    if min(len(first.members), len(first.nonmembers)) < 2:
        return 0.0
    scale = delong_covariance(first, first) * delong_covariance(second, second)
    return delong_covariance(first, second) / math.sqrt(scale) if scale > 0.0 else 0.0
