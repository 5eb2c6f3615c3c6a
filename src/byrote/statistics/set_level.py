"""Whether a whole set was trained on: many weak scores together can show what no single one does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.interval import units_of
from byrote.statistics.roc import as_scores
from byrote.types import Estimate, Floats


def set_level_p_value(
    members: ArrayLike,
    nonmembers: ArrayLike,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
) -> Estimate:
    """The p-value of "suspected members score no higher than nonmembers on average", one-sided; null 0.5, n is M + N.

    Dataset inference (Maini et al. 2021, 2104.10706; of language models 2024, 2406.06443): Welch's t test of the mean
    scores. The scores must be of records that nothing about the scores was chosen or fitted on: a held-out half.
    Copies and near-copies are no evidence of their own, so a group enters once, with the mean of its scores. A small
    p-value says that the set was seen, and nothing of any one record; a set that scores lower has one near 1.

    It has no interval: under the null every value in [0, 1] is equally likely. Absent with fewer than 2 groups on a
    side, and where no score differs.
    """
    from scipy.special import stdtr

    sides = [
        _of_groups(as_scores(members, "member"), member_groups),
        _of_groups(as_scores(nonmembers, "nonmember"), nonmember_groups),
    ]
    n, sizes = len(np.asarray(members)) + len(np.asarray(nonmembers)), [len(side) for side in sides]
    if min(sizes) < 2:
        return Estimate.absent(f"needs 2 records that are not copies on each side, has {sizes[0]} and {sizes[1]}", n)
    parts = np.array([side.var(ddof=1) / len(side) for side in sides])
    if not parts.sum() > 0.0:
        return Estimate.absent("no score differs within members or within nonmembers, so nothing can be tested", n)
    degrees = float(parts.sum() ** 2 / (parts**2 / (np.array(sizes) - 1)).sum())
    distance = float(sides[0].mean() - sides[1].mean()) / math.sqrt(parts.sum())
    return Estimate(float(stdtr(degrees, -distance)), n=n, null_value=0.5)


def _of_groups(scores: Floats, groups: Sequence[str] | None) -> Floats:
    """The mean score of each group."""
    labels, units = units_of(len(scores), groups)
    return np.bincount(labels, weights=scores, minlength=units) / np.bincount(labels, minlength=units)
