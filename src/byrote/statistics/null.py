"""What an attack's AUC would be if membership meant nothing, by permuting the labels.

An attack that compares a model with its base ties with itself on the base, and one that is fitted
learns nothing there that holds of other records, so their null of 0.5 is stated, not measured. What
permuted labels give is the range that their AUC is read beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from byrote.statistics.groups import Grouping
from byrote.statistics.roc import as_scores, auc, missing
from byrote.types import Floats

CHUNK = 200  # permutations held in memory at once


class PermutationNull(NamedTuple):
    """AUC under permuted labels: its mean, its central 95% range, and the two-sided p-value of the real one."""

    mean: float
    low: float
    high: float
    p_value: float


def permutation_null(
    members: ArrayLike,
    nonmembers: ArrayLike,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    permutations: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> PermutationNull:
    """Shuffle which scores are called members and take the AUC again, `permutations` times.

    Scores are ranked once. Copies keep one label: whole groups are shuffled. The p-value counts the
    permutations at least as far from 0.5 as the real labels, plus one (Phipson and Smyth 2010), so
    it is never 0. Raises ValueError when a side is empty, a score is not finite, or a group is on both sides.
    """
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    if problem := missing(positive, negative) if not (len(positive) and len(negative)) else "":
        raise ValueError(problem)
    grouping = Grouping.of(len(positive), len(negative), member_groups, nonmember_groups)
    if np.intersect1d(grouping.member, grouping.nonmember).size:
        raise ValueError("a group is on both sides, so its label cannot be shuffled")
    codes = np.concatenate((grouping.member, grouping.nonmember))
    sizes = np.bincount(codes)
    ranks = _midranks(np.concatenate((positive, negative)))
    rank_sums = np.bincount(codes, weights=ranks).astype(np.float64)
    is_member = np.zeros(len(sizes))
    is_member[grouping.member] = 1.0
    rng = np.random.default_rng(seed)
    chunks = [min(CHUNK, permutations - start) for start in range(0, permutations, CHUNK)]
    draws = np.concatenate([_permuted(rng, rows, is_member, sizes, rank_sums) for rows in chunks])
    # Half a pair's worth of slack: rank sums are exact, their division is not.
    slack = 0.25 / (len(positive) * len(negative))
    as_far = np.count_nonzero(np.abs(draws - 0.5) >= abs(auc(positive, negative) - 0.5) - slack)
    low, high = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return PermutationNull(float(draws.mean()), float(low), float(high), float((1 + as_far) / (1 + permutations)))


def _permuted(
    rng: np.random.Generator,
    rows: int,
    is_member: Floats,
    sizes: NDArray[np.intp],
    rank_sums: Floats,
) -> Floats:
    """AUCs of shape (rows,) under shuffled group labels, from the rank sum of each group."""
    labels = rng.permuted(np.tile(is_member, (rows, 1)), axis=1)
    members = labels @ sizes
    return np.asarray((labels @ rank_sums - members * (members + 1) / 2) / (members * (sizes.sum() - members)))


def _midranks(scores: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean."""
    ordered = np.sort(scores)
    left, right = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return (left + right + 1) / 2.0
