"""The line on a ROC curve that no attack can cross when training was differentially private.

A guarantee bounds every test of "was this unit trained on?": at each false-positive rate there is a largest
true-positive rate, whatever the attack, its knowledge and its compute. The bound is for one unit of the guarantee,
and for rates over the randomness of training: a measured curve may lie above it by chance, within its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.types import Floats

Profile = Sequence[tuple[float, float]]
"""Pairs (epsilon, delta) that hold at once, as `Ledger.profile` has them."""


def tpr_bound(fpr: ArrayLike, epsilon: float, delta: float) -> Floats:
    """The largest true-positive rate at each false-positive rate under (epsilon, delta).

    Kairouz et al. 2015 (1311.0776): both a test and its opposite obey TPR <= e^epsilon FPR + delta.
    Rates in [0, 1], same shape as `fpr`; rising with it.
    """
    rates = _rates(fpr)
    _check(epsilon, delta)
    # Beyond e^700 neither line says anything at a rate that can be written.
    grow = math.exp(min(epsilon, 700.0))
    bound: Floats = np.minimum(grow * rates + delta, 1.0 - (1.0 - delta - rates) / grow)
    bound = np.clip(bound, rates, 1.0)
    return bound


def tpr_bound_of_profile(fpr: ArrayLike, profile: Profile, copies: int = 1) -> Floats:
    """The same under a whole privacy profile, each pair of which holds: the lowest of their bounds.

    This is the trade-off function of Dong et al. 2019 (1905.02383), up to how densely the profile is sampled;
    fewer points only make it looser. For a record with `copies` copies, each of which is a unit, the bound is
    applied to itself that many times (their theorem 2.14). An empty profile is a ValueError.
    """
    _check_copies(copies)
    if not profile:
        raise ValueError("a privacy profile needs at least one pair of epsilon and delta")
    bound = _rates(fpr)
    for _ in range(copies):
        bound = np.min([tpr_bound(bound, epsilon, delta) for epsilon, delta in profile], axis=0)
        if (bound >= 1.0).all():
            break
    return bound


def advantage_bound(profile: Profile) -> float:
    """The largest TPR - FPR of any attack, in [0, 1]: the total variation, which is delta at epsilon 0.

    Where the profile has no point at 0, the least that its pairs say: (e^epsilon - 1 + 2 delta) / (e^epsilon + 1).
    """
    if not profile:
        raise ValueError("a privacy profile needs at least one pair of epsilon and delta")
    bounds = []
    for epsilon, delta in profile:
        _check(epsilon, delta)
        shrink = math.exp(-epsilon)
        bounds.append((1.0 - shrink + 2.0 * delta * shrink) / (1.0 + shrink))
    return min(bounds)


def group_bound(epsilon: float, delta: float, copies: int) -> tuple[float, float]:
    """The (epsilon, delta) of a record with `copies` copies, where each copy alone has (epsilon, delta).

    Group privacy: (k epsilon, delta (e^(k epsilon) - 1) / (e^epsilon - 1)) (Vadhan 2017, lemma 2.2). The copies may
    all be removed at once; delta is at most 1, which promises nothing.
    """
    _check(epsilon, delta)
    _check_copies(copies)
    total = copies * epsilon
    if delta == 0.0 or total >= 700.0:
        return total, float(delta > 0.0)
    factor = math.expm1(total) / math.expm1(epsilon) if epsilon > 0.0 else copies
    return total, min(delta * factor, 1.0)


def group_epsilon(profile: Profile, delta: float, copies: int) -> float | None:
    """The least epsilon at `delta` that group privacy gives a record with `copies` copies, each of which has `profile`.

    None where no pair of the profile has a delta small enough for that.
    """
    bounds = (group_bound(*pair, copies) for pair in profile)
    return min((epsilon for epsilon, total in bounds if total <= delta), default=None)


def _rates(fpr: ArrayLike) -> Floats:
    rates: Floats = np.asarray(fpr, dtype=np.float64)
    if not ((rates >= 0.0) & (rates <= 1.0)).all():
        raise ValueError("false-positive rates lie between 0 and 1")
    return rates


def _check(epsilon: float, delta: float) -> None:
    if not (epsilon >= 0.0 and 0.0 <= delta <= 1.0):
        raise ValueError(f"epsilon {epsilon} and delta {delta} are no guarantee")


def _check_copies(copies: int) -> None:
    if copies < 1:
        raise ValueError(f"a record has at least 1 copy, not {copies}")
