"""The mean of numbers that lie between bounds, most of which may lie on one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.interval import (
    clopper_pearson,
    too_few,
    units_of,
    weighted_mean_estimate,
)
from byrote.types import Estimate

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
        sides = ((value, high), (-value, -low))
        up, down = (bounded_mean(np.maximum(side, 0.0), groups, (0.0, end), level=level) for side, end in sides)
        return replace(_less(up, high, down, -low), n=len(value), null_value=null_value)
    effective = len(value) ** 2 / float(np.square(np.bincount(labels)).sum())
    share = min(max((mean - low) / (high - low), 0.0), 1.0)
    limits = clopper_pearson(share * effective, effective, level)
    first, last = (low + limit * (high - low) for limit in limits)
    return Estimate(mean, first, last, len(value), "clopper-pearson", null_value)


def _less(up: Estimate, most: float, down: Estimate, least: float) -> Estimate:
    """What lies above 0 less what lies below it: no value does both, so of two shares one can only rise at the other's
    cost, with the correlation of two cells of a multinomial law (Zou & Donner 2008, section 2, with it).
    """
    known = [limit or 0.0 for one in (up, down) for limit in (one.value, one.low, one.high)]
    a, a_low, a_high, b, b_low, b_high = known
    odds = [part / max(1.0 - part, 1e-12) for part in (a / most, b / least)]
    against = min(math.sqrt(odds[0] * odds[1]), 1.0)

    def joined(one: float, other: float) -> float:
        return math.sqrt(one**2 + other**2 + 2.0 * against * one * other)

    below, above = joined(a - a_low, b_high - b), joined(a_high - a, b - b_low)
    return Estimate(a - b, max(a - b - below, -least), min(a - b + above, most), interval="mover")
