"""How often an attacker who must say yes or no is right, with a threshold that never saw the records it judges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from byrote.statistics.groups import Grouping
from byrote.statistics.interval import difference_of_estimates, rate_estimate
from byrote.statistics.roc import as_scores, missing
from byrote.types import Estimate, Floats

FEWEST = 4  # groups a side: two to choose the threshold on, two to judge with it


def balanced_accuracy(
    members: ArrayLike,
    nonmembers: ArrayLike,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    null_value: float | None = 0.5,
    level: float = 0.95,
) -> Estimate:
    """The mean of the shares of members and of nonmembers that are told rightly: (1 + TPR - FPR) / 2.

    Groups are cut into two halves, drawn from `seed` and of equal size on each side. The threshold that is best on
    one half judges the other, both ways, so that no record is judged by a threshold that it helped to choose; the
    best of many thresholds on the same records would show an advantage where there is none. n is M + N.

    What is estimated is the accuracy of the two thresholds so chosen, which on few records falls short of the best
    one's. The interval ("mover") joins the exact binomial ones of both shares. "Member" always means a higher score:
    an attack that ranks them the wrong way round is at 0.5 here, and below it by its AUC.
    """
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    n = len(positive) + len(negative)
    if problem := missing(positive, negative):
        return Estimate.absent(problem, n)
    grouping = Grouping.of(len(positive), len(negative), member_groups, nonmember_groups)
    if min(grouping.counts) < FEWEST:
        what = "groups on each side" if grouping.repeats else "members and as many nonmembers"
        return Estimate.absent(f"needs {FEWEST} {what}, has {' and '.join(map(str, grouping.counts))}", n)
    found, accused = (np.zeros(len(side), dtype=bool) for side in (positive, negative))
    first = halves(grouping, seed)
    for chosen in (first, ~first):
        mine, theirs = chosen[grouping.member], chosen[grouping.nonmember]
        threshold = best_threshold(positive[mine], negative[theirs])
        found[~mine], accused[~theirs] = positive[~mine] > threshold, negative[~theirs] > threshold
    rates = [
        rate_estimate(hits, groups, level=level)
        for hits, groups in ((found, member_groups), (accused, nonmember_groups))
    ]
    advantage = difference_of_estimates(*rates)
    value, low, high = ((1.0 + (one or 0.0)) / 2.0 for one in (advantage.value, advantage.low, advantage.high))
    return Estimate(value, max(low, 0.0), min(high, 1.0), n, advantage.interval, null_value)


def halves(grouping: Grouping, seed: int) -> NDArray[np.bool_]:
    """Which groups, shape (G,), are in the first half: half of those of each side, at random."""
    rng, first = np.random.default_rng(seed), np.zeros(grouping.size, dtype=bool)
    sides = [np.isin(np.arange(grouping.size), codes) for codes in (grouping.member, grouping.nonmember)]
    for stratum in (sides[0] & ~sides[1], sides[1] & ~sides[0], sides[0] & sides[1]):
        of_stratum = rng.permutation(np.flatnonzero(stratum))
        first[of_stratum[: len(of_stratum) // 2]] = True
    return first


def best_threshold(members: Floats, nonmembers: Floats) -> float:
    """Where "score > threshold" has the largest TPR - FPR, between two scores; the lowest of equally good ones."""
    scores = np.unique(np.concatenate((members, nonmembers)))
    cuts = np.concatenate(([scores[0] - 1.0], (scores[:-1] + scores[1:]) / 2.0, [scores[-1] + 1.0]))
    above = [1.0 - np.searchsorted(np.sort(side), cuts, "right") / len(side) for side in (members, nonmembers)]
    return float(cuts[np.argmax(above[0] - above[1])])
