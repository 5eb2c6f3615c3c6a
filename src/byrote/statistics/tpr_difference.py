"""Two attacks on the same records: how many more members one finds at the same false-positive rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.groups import Grouping
from byrote.statistics.roc import as_scores, tpr_at_fpr
from byrote.types import Estimate, Floats

REPLICATES = 2000


def tpr_difference(
    members: ArrayLike,
    nonmembers: ArrayLike,
    other_members: ArrayLike,
    other_nonmembers: ArrayLike,
    fpr: float,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
    """TPR of one attack less that of another at `fpr`, both on the same records in the same order; null 0, n is M + N.

    Each attack has its own threshold, by the rule of `tpr_at_fpr`. Whole groups are drawn with replacement, members
    and nonmembers apart, and both attacks are measured on each draw, with the threshold found anew: so their common
    chance cancels, and that of the thresholds counts. The limits are those of the middle `level` of the draws
    (Efron 1979, Annals of Statistics 7:1-26). Absent where either rate is, so with fewer than 10 / fpr nonmembers.
    """
    one = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    other = as_scores(other_members, "member"), as_scores(other_nonmembers, "nonmember")
    sizes = len(one[0]), len(one[1])
    if (len(other[0]), len(other[1])) != sizes:
        raise ValueError("a paired difference needs the scores of both attacks on the same records")
    for scores in (one, other):
        found = tpr_at_fpr(scores[0], scores[1], fpr, member_groups, nonmember_groups)
        if found.reason:
            return Estimate.absent(found.reason, sum(sizes))
    ours, theirs = _Ranked(*one, fpr), _Ranked(*other, fpr)
    grouping = Grouping.of(*sizes, member_groups, nonmember_groups)
    draws = [ours.tpr(*weights) - theirs.tpr(*weights) for weights in grouping.resample(seed, replicates)]
    whole = np.ones((1, sizes[0])), np.ones((1, sizes[1]))
    value = float((ours.tpr(*whole) - theirs.tpr(*whole))[0])
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(draws), [tail, 1.0 - tail])
    if low == high:  # the two agree on every draw: an interval would be a point, which says too much
        return Estimate(value, n=sum(sizes), null_value=0.0)
    return Estimate(value, min(float(low), value), max(float(high), value), sum(sizes), "group-bootstrap", 0.0)


class _Ranked:
    """One attack's scores, sorted once for all draws."""

    def __init__(self, members: Floats, nonmembers: Floats, fpr: float) -> None:
        self.members, self.nonmembers, self.fpr = np.argsort(-members), np.argsort(-nonmembers), fpr
        # How many members lie above each nonmember, the highest nonmember first.
        ordered = np.sort(members)
        self.above = len(members) - np.searchsorted(ordered, nonmembers[self.nonmembers], "right")

    def tpr(self, of_members: Floats, of_nonmembers: Floats) -> Floats:
        """(R,) true-positive rates, records counted with weights (R, M) and (R, N)."""
        false = np.cumsum(of_nonmembers[:, self.nonmembers], axis=1)
        allowed = np.floor(self.fpr * false[:, -1:] + 1e-9)
        first = np.minimum((false <= allowed).sum(axis=1), false.shape[1] - 1)  # the one that would be too many
        true = np.cumsum(of_members[:, self.members], axis=1)
        counted = np.concatenate((np.zeros((len(true), 1)), true), axis=1)
        found = np.take_along_axis(counted, self.above[first][:, None], axis=1)[:, 0]
        return np.asarray(found / true[:, -1])
