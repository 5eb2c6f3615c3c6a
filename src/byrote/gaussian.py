"""What a Gaussian mechanism guarantees, exactly: its delta at an epsilon, and its epsilon at a delta.

A mechanism is mu-GDP where telling two neighbouring inputs apart is no easier than telling N(0, 1) from N(mu, 1)
(Dong et al. 2019, 1905.02383). Its privacy profile is their corollary 2.13, the closed form of Balle and Wang 2018
(1805.06530).
"""

from __future__ import annotations

import math


def delta_of(mu: float, epsilon: float) -> float:
    """The smallest delta at which a mu-GDP mechanism has this epsilon."""
    from scipy.special import log_ndtr

    if mu == 0.0:
        return 0.0
    first = float(log_ndtr(mu / 2.0 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2.0 - epsilon / mu))
    return -math.exp(first) * math.expm1(min(second - first, 0.0))


def epsilon_of(mu: float, delta: float) -> float:
    """The smallest epsilon that a mu-GDP mechanism has at this delta, from below: no audit claims more."""
    return _between(mu, delta)[0]


def epsilon_above(mu: float, delta: float) -> float:
    """The same from above: no account claims less."""
    return _between(mu, delta)[1]


def _between(mu: float, delta: float) -> tuple[float, float]:
    """Two numbers between which it lies, a billionth apart.

    Raises ValueError without a delta in (0, 1): at 0 no Gaussian mechanism has an epsilon, however little it tells.
    """
    if not (mu >= 0.0 and 0.0 < delta < 1.0):
        raise ValueError(f"mu {mu} at delta {delta} has no epsilon")
    if delta_of(mu, 0.0) <= delta:
        return 0.0, 0.0
    low, high = 0.0, 1.0
    while delta_of(mu, high) > delta:
        low, high = high, 2.0 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if delta_of(mu, middle) <= delta else (middle, high)
    return low, high
