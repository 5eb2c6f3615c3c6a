"""The mean of numbers that lie between bounds, most of which may lie on one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from byrote.statistics.interval import (
    clopper_pearson,
    too_few,
    units_of,
    weighted_mean_estimate,
)
from byrote.types import Estimate, Floats

Share = tuple[float, float, float]
"""A share and the limits of its interval."""

FEW = 5
"""Groups that carry the spread, below which a normal interval knows too little of it."""


def bounded_mean(
    values: ArrayLike,
    groups: Sequence[str] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    null_value: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """The mean of N values between `bounds`, with its interval.

    Where few values carry the spread, and all others lie at one point, the sample says little of how far the next one
    may lie: the interval is then that of a share with the same mean, which no such mean spreads more than (Hoeffding
    1963, theorem 4, on sums of bounded variables against binomial ones). Elsewhere it is the linearised one, with
    Student's t. Values of one group count once.

    Differences, whose bounds lie on both sides of 0, are then the mean of what lies above 0 less the mean of what lies
    below it, each a share near 0 that few values carry, joined by square-and-add ("mover"; Zou & Donner 2008): one
    share between the two bounds would have its mean near a half, where a share is known worst.
    """
    value = np.asarray(values, dtype=np.float64)
    low, high = bounds
    labels, units = units_of(len(value), groups)
    if units < 2:
        return too_few(len(value), units)
    mean = float(value.mean())
    squares = np.square(np.bincount(labels, weights=value - mean))
    spread = float(squares.sum())
    carrying = spread**2 / float(np.square(squares).sum()) if spread > 0.0 else 0.0
    if carrying >= FEW:
        return weighted_mean_estimate(
            value, np.ones(len(value)), groups, bounds=bounds, null_value=null_value, level=level
        )
    if low < 0.0 < high:
        up, down = (_share(np.maximum(side, 0.0) / end, labels, level) for side, end in ((value, high), (-value, -low)))
        first, last = _limits(up, high, down, -low)
        return Estimate(mean, first, last, len(value), "mover", null_value)
    _, first, last = (low + limit * (high - low) for limit in _share((value - low) / (high - low), labels, level))
    return Estimate(mean, first, last, len(value), "clopper-pearson", null_value)


def _share(values: Floats, labels: NDArray[np.intp], level: float) -> Share:
    """The mean of values in [0, 1] with the limits of a share, which no such mean spreads more than."""
    share = min(max(float(values.mean()), 0.0), 1.0)
    effective = len(values) ** 2 / float(np.square(np.bincount(labels)).sum())
    return share, *clopper_pearson(share * effective, effective, level)


def _limits(up: Share, most: float, down: Share, least: float) -> tuple[float, float]:
    """Of `most` times what lies above 0 less `least` times what lies below it.

    No value does both, so of the two shares one can only rise at the other's cost: they have the correlation of two
    cells of a multinomial law (Zou & Donner 2008 give square-and-add with it).
    """
    (a, a_low, a_high), (b, b_low, b_high) = up, down
    odds = (a / max(1.0 - a, 1e-12)) * (b / max(1.0 - b, 1e-12))
    against = min(math.sqrt(odds), 1.0)

    def joined(one: float, other: float) -> float:
        return math.sqrt(one**2 + other**2 + 2.0 * against * one * other)

    mean = most * a - least * b
    below, above = joined(most * (a - a_low), least * (b_high - b)), joined(most * (a_high - a), least * (b - b_low))
    return max(mean - below, -least), min(mean + above, most)
