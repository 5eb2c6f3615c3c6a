"""The ROC curve of member and nonmember scores: AUC, curve, true-positive rate at a false-positive rate.

Scores are float arrays, members of shape (M,) and nonmembers of shape (N,); higher means "more
likely trained on". Rates are in [0, 1]. Every function raises ValueError on a score that is not
finite: a record without a score is left out by the caller, who says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.interval import binomial_range, clopper_pearson
from byrote.types import Estimate, Floats

SAME_SCORES = "every score is the same, so nothing can be ranked"


def as_scores(values: ArrayLike, side: str) -> Floats:
    """A one-dimensional float array of finite scores; raises ValueError that names the side otherwise."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{side} scores have shape {scores.shape}, not (N,)")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ValueError(f"{side} score {bad[0]} is {scores[bad[0]]}: leave out what could not be scored")
    return scores


def missing(members: Floats, nonmembers: Floats) -> str:
    """Why these scores cannot be ranked; empty when they can."""
    if not len(members) or not len(nonmembers):
        return f"no {'nonmember' if len(members) else 'member'} has a score"
    return SAME_SCORES if np.ptp(np.concatenate((members, nonmembers))) == 0.0 else ""


def placements(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """How each score places itself against the other side, in [0, 1]; ties count half.

    Returns, of shape (M,), the share of nonmembers below each member and, of shape (N,), the share
    of members above each nonmember: the structural components of DeLong 1988, in O(n log n) as Sun
    and Xu 2014 showed. The mean of either is the AUC.
    """
    return share_below(members, nonmembers), share_below(-nonmembers, -members)


def share_below(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others below it, ties counted half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return twice / (2.0 * len(others))


def auc(members: ArrayLike, nonmembers: ArrayLike) -> float:
    """The chance that a member scores above a nonmember, ties counted half (Mann-Whitney), in [0, 1].

    Raises ValueError when a side is empty.
    """
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    if not len(positive) or not len(negative):
        raise ValueError(missing(positive, negative))
    ordered = np.sort(negative)
    # Counted in integers, so that auc(a, b) and 1 - auc(b, a) agree to the last bit but rounding.
    twice = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(int(twice.sum(dtype=np.int64)) / (2 * len(positive) * len(negative)))


def roc_curve(members: ArrayLike, nonmembers: ArrayLike) -> tuple[Floats, Floats]:
    """False-positive and true-positive rates, from (0, 0) to (1, 1), one point per distinct score.

    Both arrays are of shape (D + 1,) for D distinct scores, at falling thresholds ("score >=
    threshold is called a member"). Raises ValueError when a side is empty.
    """
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    if not len(positive) or not len(negative):
        raise ValueError(missing(positive, negative))
    thresholds = np.unique(np.concatenate((positive, negative)))[::-1]
    return _share_at_least(negative, thresholds), _share_at_least(positive, thresholds)


def _share_at_least(scores: Floats, thresholds: Floats) -> Floats:
    above = len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")
    return np.concatenate(([0.0], above / len(scores)))


def tpr_at_fpr(
    members: ArrayLike,
    nonmembers: ArrayLike,
    fpr: float,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    null_value: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """The largest share of members found while at most `fpr` of the nonmembers are called members.

    The rule is "score > threshold", with the threshold at the first nonmember score that would
    exceed `fpr`, so ties never do. Absent unless the sample resolves it: 10 / fpr nonmembers.

    The interval joins two exact binomial ones by square-and-add (Zou and Donner 2008, "MOVER"):
    Clopper-Pearson for the rate at the threshold, and the order statistics of the nonmembers for the
    threshold itself. The first alone covers the rate at a true false-positive rate of 1% in about
    half of the repeats, because the threshold is an estimate too. Copies add no information, so where
    groups repeat, groups are counted in place of records. `null_value` is `fpr` unless given.
    """
    if not 0.0 < fpr < 1.0:
        raise ValueError(f"a false-positive rate is between 0 and 1, not {fpr}")
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    n = len(positive) + len(negative)
    if problem := missing(positive, negative) if not (len(positive) and len(negative)) else "":
        return Estimate.absent(problem, n)
    found, controls = _count(positive, member_groups), _count(negative, nonmember_groups)
    if problem := unresolved(negative, controls, fpr):
        return Estimate.absent(problem, n)
    if problem := missing(positive, negative):
        return Estimate.absent(problem, n)
    value = _share_above(positive, negative, math.floor(fpr * len(negative) + 1e-9))
    fewest, most = (round(k * len(negative) / controls) for k in binomial_range(controls, fpr, level))
    exact_low, exact_high = clopper_pearson(value * found, found, level)
    low = value - math.hypot(value - exact_low, value - _share_above(positive, negative, max(fewest - 1, 0)))
    high = value + math.hypot(exact_high - value, _share_above(positive, negative, most) - value)
    return Estimate(
        value,
        low=max(low, 0.0),
        high=min(high, 1.0),
        n=n,
        interval="clopper-pearson",
        null_value=fpr if null_value is None else null_value,
    )


def unresolved(nonmembers: Floats, controls: int, fpr: float) -> str:
    """Why so many independent nonmembers cannot tell what happens at this rate; empty when they can."""
    needed = math.ceil(10.0 / fpr - 1e-9)
    what = "groups of nonmembers" if controls < len(nonmembers) else "nonmembers"
    return f"needs {needed} {what}, has {controls}" if controls < needed else ""


def _share_above(members: Floats, nonmembers: Floats, allowed: int) -> float:
    """The share of members above the threshold that lets at most `allowed` nonmembers through."""
    if allowed >= len(nonmembers):
        return 1.0
    threshold = np.sort(nonmembers)[len(nonmembers) - 1 - allowed]
    return float(np.count_nonzero(members > threshold) / len(members))


def _count(scores: Floats, groups: Sequence[str] | None) -> int:
    if groups is None:
        return len(scores)
    if len(groups) != len(scores):
        raise ValueError(f"{len(scores)} scores but {len(groups)} groups")
    return len(set(groups))
