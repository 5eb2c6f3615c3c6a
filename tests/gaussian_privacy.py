"""Privacy of one Gaussian mechanism in closed form (Dong et al. 2019, 1905.02383, corollary 2.13), for the tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

cdf, quantile = NormalDist().cdf, NormalDist().inv_cdf


def delta_at(mu: float, epsilon: float) -> float:
    """The smallest delta at which a mu-GDP mechanism has this epsilon."""
    return max(cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * cdf(-epsilon / mu - mu / 2), 1e-15)


def epsilon_at(mu: float, delta: float) -> float:
    """The smallest epsilon at this delta."""
    return _falling(lambda epsilon: delta_at(mu, epsilon), delta, 60.0)


def mu_for(epsilon: float, delta: float) -> float:
    """The mu of the mechanism that has exactly this epsilon at this delta."""
    return _falling(lambda inverse: delta_at(1 / inverse, epsilon), delta, 100.0) ** -1


def tpr_at(mu: float, fpr: float) -> float:
    """The largest true-positive rate of any test at this false-positive rate."""
    return 1 - cdf(quantile(1 - fpr) - mu)


def _falling(of: Callable[[float], float], wanted: float, high: float) -> float:
    """Where a falling function takes a value, by bisection."""
    low = 1e-3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) > wanted else (low, middle)
    return (low + high) / 2
