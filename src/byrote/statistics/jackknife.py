"""Intervals for numbers of a whole set of records: any smooth function of sums over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.interval import t_quantile, too_few, units_of
from byrote.types import Estimate, Floats


def jackknife_estimate(
    statistics: ArrayLike,
    value_of: Callable[[Floats], Floats],
    groups: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
    *,
    null_value: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """`value_of` the sum of N records' statistics, with its interval.

    `statistics` are of shape (N, k), one row a record; `value_of` takes sums of shape (..., k) to
    numbers of shape (...). Each record, or each group where copies share one, is left out in turn
    (Quenouille 1956, Tukey 1958; Efron and Stein 1981 show that the variance errs on the high side),
    with Student's t. With `bounds` the interval is made on the logit scale between them: it stays
    inside, and near a bound it covers where the plain one does not. Where leaving out any record changes
    nothing, the sample says nothing of the spread and there are no limits. n is the number of records.
    """
    rows = np.asarray(statistics, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"statistics of shape {rows.shape}: finite ones of shape (N, k) are needed")
    labels, units = units_of(len(rows), groups)
    if units < 2:
        return too_few(len(rows), units)
    sums = np.zeros((units, rows.shape[1]))
    np.add.at(sums, labels, rows)
    whole = sums.sum(0)
    value, without = float(value_of(whole)), np.asarray(value_of(whole - sums), dtype=np.float64)
    if not math.isfinite(value):
        return Estimate.absent("it cannot be computed from these records", len(rows))
    error = math.sqrt((units - 1) / units * float(np.square(without - without.mean()).sum()))
    if error == 0.0 or not math.isfinite(error):
        return Estimate(value, n=len(rows), null_value=null_value)
    low, high = _limits(value, t_quantile(level, units - 1) * error, bounds)
    return Estimate(value, low, high, len(rows), "jackknife" if units == len(rows) else "group-jackknife", null_value)


def _limits(value: float, half: float, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """The interval of this half-width; between `bounds` its width is taken over to the logit scale."""
    if bounds is None:
        return value - half, value + half
    floor, ceiling = bounds
    if not floor < value < ceiling:
        return max(value - half, floor), min(value + half, ceiling)
    size = ceiling - floor
    share = (value - floor) / size
    odds, wide = share / (1.0 - share), math.exp(min(half / size / (share * (1.0 - share)), 700.0))
    low, high = odds / (odds + wide), odds * wide / (1.0 + odds * wide)
    return floor + size * low, floor + size * high
