"""Intervals for rates, AUCs and means, and pooling over seeds.

`level` is the nominal coverage of the two-sided interval, 0.95 unless said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from byrote.types import Estimate

FEW_SEEDS = 5


def normal_quantile(level: float) -> float:
    """The half-width, in standard errors, of a normal interval: 1.96 at 0.95."""
    return NormalDist().inv_cdf(0.5 + _checked(level) / 2.0)


def t_quantile(level: float, degrees: float) -> float:
    """The half-width, in standard errors, of Student's t interval."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + _checked(level) / 2.0))


def _checked(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ValueError(f"a confidence level is between 0 and 1, not {level}")
    return level


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a rate (Clopper and Pearson 1934): coverage is never below `level`.

    `successes` and `n` may be fractions, for a rate over records that count as fewer groups.
    """
    from scipy.special import betaincinv

    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a rate")
    tail = (1.0 - _checked(level)) / 2.0
    low = betaincinv(successes, n - successes + 1.0, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1.0, n - successes, 1.0 - tail) if successes < n else 1.0
    return float(low), float(high)


def binomial_range(n: int, rate: float, level: float = 0.95) -> tuple[int, int]:
    """The counts (fewest, most) between which a binomial count of n trials falls with at least `level`."""
    from scipy.special import bdtr

    tail = (1.0 - _checked(level)) / 2.0
    cumulative = bdtr(np.arange(n + 1), n, rate)
    fewest, most = np.searchsorted(cumulative, [tail, 1.0 - tail], "left")
    return int(fewest), int(most)


def newcombe(auc: float, members: float, nonmembers: float, level: float = 0.95) -> tuple[float, float]:
    """A score-type interval of an AUC that stays within [0, 1] and has width even at 0 and 1.

    Method 5 of Newcombe 2006 (Statistics in Medicine 25:559-573): the AUCs that lie within a normal
    quantile of the estimate, in units of Hanley and McNeil's standard error *at that AUC*.
    """
    z, half = normal_quantile(level), (members + nonmembers) / 2.0 - 1.0

    def outside(guess: float) -> bool:
        spread = 1.0 + half * (1.0 - guess) / (2.0 - guess) + half * guess / (1.0 + guess)
        variance = guess * (1.0 - guess) * spread / (members * nonmembers)
        return abs(auc - guess) > z * math.sqrt(variance)

    limits = []
    for edge in (0.0, 1.0):
        far, near = edge, auc
        for _ in range(60 if outside(edge) else 0):
            middle = (far + near) / 2.0
            far, near = (middle, near) if outside(middle) else (far, middle)
        limits.append(far)
    return limits[0], limits[1]


def few_seeds(n: int) -> str:
    """The warning that belongs beside a number pooled over fewer than five seeds; empty from five on."""
    if n >= FEW_SEEDS:
        return ""
    seeds = f"{n} seed" if n == 1 else f"{n} seeds"
    return f"pooled over {seeds}: fewer than five, so the interval rests on a rough estimate of their spread"


def pool_over_seeds(
    values: Sequence[Estimate], bounds: tuple[float, float] | None = None, level: float = 0.95
) -> Estimate:
    """The mean over seeds with Student's t interval; n is the number of seeds that have a value.

    A seed redraws split and training, so the spread of the seeds holds both kinds of chance. But a
    few seeds agree by luck now and then, and no pooling can know more than their own intervals give
    it: where those, averaged over independent seeds, are wider, they are kept ("within-seed").
    Limits are clipped to `bounds`, and the null is the mean of the nulls.
    """
    present = [estimate for estimate in values if estimate.value is not None]
    numbers = [estimate.value for estimate in present if estimate.value is not None]
    if len(numbers) < 2:
        reasons = sorted({estimate.reason for estimate in values if estimate.reason})
        why = f" ({'; '.join(reasons)})" if reasons else ""
        return Estimate.absent(f"needs 2 seeds with a value, has {len(numbers)}{why}", len(numbers))
    nulls = [estimate.null_value for estimate in present if estimate.null_value is not None]
    mean, spread = float(np.mean(numbers)), float(np.std(numbers, ddof=1))
    limits = zip(numbers, present, strict=True)
    halves = [max(e.high - x, x - e.low) for x, e in limits if e.low is not None and e.high is not None]
    within = math.sqrt(float(np.mean(np.square(halves))) / len(numbers)) if len(halves) == len(numbers) else 0.0
    between = t_quantile(level, len(numbers) - 1) * spread / math.sqrt(len(numbers))
    half, interval = max((between, "t-over-seeds"), (within, "within-seed"))
    if half == 0.0:
        low, high, interval = None, None, ""
    else:
        low, high = mean - half, mean + half
    if bounds is not None and low is not None and high is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    null_value = float(np.mean(nulls)) if len(nulls) == len(present) else None
    return Estimate(mean, low, high, len(numbers), interval, null_value)


def pool_logs_over_seeds(values: Sequence[Estimate], level: float = 0.95) -> Estimate:
    """The same for what is positive and multiplies, such as perplexities and their ratios: the geometric mean.

    Pooled as it is, one seed that went astray would take the interval below 0.
    """
    return exponential(pool_over_seeds([logarithm(estimate) for estimate in values], level=level))


def logarithm(estimate: Estimate) -> Estimate:
    """Of what multiplies, such as perplexities and their ratios; absent where it is 0, or too large to state."""
    if estimate.value is not None and not 0.0 < estimate.value < math.inf:
        return Estimate.absent(f"it is {estimate.value:g}, and has no ratio to anything", estimate.n)
    return _mapped(estimate, lambda number: math.log(number) if 0.0 < number < math.inf else None)


def exponential(estimate: Estimate) -> Estimate:
    """Back from the logarithm; a limit that is too large to write is left out."""
    if estimate.value is not None and _transformed(estimate.value, "exp") is None:
        return Estimate.absent(f"the exponential of {estimate.value:.0f} is too large to write", estimate.n)
    return _mapped(estimate, lambda number: _transformed(number, "exp"))


def _mapped(estimate: Estimate, of: Callable[[float], float | None]) -> Estimate:
    value, low, high, null_value = (
        None if number is None else of(number)
        for number in (estimate.value, estimate.low, estimate.high, estimate.null_value)
    )
    return replace(estimate, value=value, low=low, high=high, null_value=null_value)


def units_of(records: int, groups: Sequence[str] | None) -> tuple[NDArray[np.intp], int]:
    """The number of each record's group, shape (N,), and how many there are; without groups each record is its own.

    Raises ValueError where the count of groups is not that of the records.
    """
    if groups is None:
        return np.arange(records), records
    if len(groups) != records:
        raise ValueError(f"{records} values but {len(groups)} groups")
    labels = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1] if records else np.arange(0)
    return labels, int(labels.max(initial=-1)) + 1


def too_few(records: int, units: int) -> Estimate:
    """The absent estimate of a sample without two records that are not copies."""
    return Estimate.absent(f"needs 2 records{' that are not copies' if records > units else ''}, has {units}")


def rate_estimate(
    hits: ArrayLike, groups: Sequence[str] | None = None, *, null_value: float | None = None, level: float = 0.95
) -> Estimate:
    """The share of N records that are hits (1, and 0 the others), with the exact binomial interval.

    Unlike the interval of a mean it has width where every record is a hit, or none. Copies may add nothing: where
    groups repeat, records count as N^2 / sum(size of group^2) (Kish 1965), as many as there are groups if they are
    of one size.
    """
    hit = np.asarray(hits, dtype=np.float64)
    if hit.ndim != 1 or not np.isin(hit, (0.0, 1.0)).all():
        raise ValueError("a rate is of hits that are 1 or 0, of shape (N,)")
    labels, units = units_of(len(hit), groups)
    if units < 2:
        return too_few(len(hit), units)
    value, effective = float(hit.mean()), len(hit) ** 2 / float(np.square(np.bincount(labels)).sum())
    low, high = clopper_pearson(value * effective, effective, level)
    return Estimate(value, low, high, len(hit), "clopper-pearson", null_value)


def weighted_mean_estimate(
    values: ArrayLike,
    weights: ArrayLike,
    groups: Sequence[str] | None = None,
    transform: Literal["identity", "exp"] = "identity",
    *,
    bounds: tuple[float, float] | None = None,
    null_value: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """The ratio estimate sum(weights * values) / sum(weights) over N records, with its interval.

    `values` and `weights` are of shape (N,); a record of weight 0 is left out. The interval
    linearises the ratio (Taylor series; Cochran 1977, section 6.5) over independent records, or over groups
    where they repeat, with Student's t. "exp" gives the exponential of the mean and of its limits, as
    perplexity needs; `null_value` is on the transformed scale. n is the number of records.

    `bounds` are those of every value; the limits keep to them. Values that are all the same show no spread: with
    bounds, at least 0.05^(1 / n) of the population has that value (Clopper and Pearson 1934) and the others lie
    anywhere; without, there are no limits.
    """
    value, weight = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if value.shape != weight.shape or value.ndim != 1:
        raise ValueError(f"values of shape {value.shape} and weights of shape {weight.shape}, not (N,) both")
    if not (np.isfinite(value).all() and np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("values must be finite, and weights finite and not negative")
    if groups is not None and len(groups) != len(value):
        raise ValueError(f"{len(value)} values but {len(groups)} groups")
    kept = weight > 0
    value, weight = value[kept], weight[kept]
    own = None if groups is None else [group for group, keep in zip(groups, kept, strict=True) if keep]
    labels, units = units_of(len(value), own)
    if units < 2:
        return too_few(len(value), units)
    mean = float(weight @ value / weight.sum())
    residuals = np.bincount(labels, weights=weight * (value - mean)) / weight.sum()
    half = t_quantile(level, units - 1) * math.sqrt(units / (units - 1) * float(residuals @ residuals))
    interval = "group-linearised" if units < len(value) else "linearised"
    low, middle, high = (_transformed(x, transform) for x in (mean - half, mean, mean + half))
    if middle is None:
        return Estimate.absent(f"the exponential of {mean:.0f} is too large to write", len(value))
    if not np.ptp(value):
        if bounds is None:
            return Estimate(middle, n=len(value), null_value=null_value)
        others = 1.0 - (1.0 - _checked(level)) ** (1.0 / units)
        low, high = (mean + others * (bound - mean) for bound in bounds)
        return Estimate(mean, low, high, len(value), "clopper-pearson", null_value)
    if bounds is not None and low is not None and high is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(middle, low, high, len(value), interval, null_value)


def difference_of_rates(differences: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean of N paired differences of two 0-or-1 outcomes, each -1, 0 or 1; null 0.

    Agresti & Min 2005 (Statistics in Medicine 24:729-740): a normal interval with half a pair added to each cell of the
    two-by-two table, so that it has width, and covers, where hardly a pair differs.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isin(values, (-1.0, 0.0, 1.0)).all():
        raise ValueError("paired differences of outcomes are -1, 0 or 1, of shape (N,)")
    n = len(values)
    if n < 2:
        return too_few(n, n)
    up, down = float((values > 0).sum()), float((values < 0).sum())
    middle = (up - down) / (n + 2)
    half = normal_quantile(level) * math.sqrt(up + down + 1 - (up - down) ** 2 / (n + 2)) / (n + 2)
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate(float(values.mean()), low, high, n, "agresti-min", 0.0)


def difference_of_estimates(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two independent estimates, its interval recovered from theirs; null 0, n is the sum of theirs.

    MOVER: Zou & Donner 2008 (Statistics in Medicine 27:1693-1702). Absent where one of the two, or its interval, is.
    """
    n = (first.n or 0) + (second.n or 0)
    known = [limit for one in (first, second) for limit in (one.value, one.low, one.high) if limit is not None]
    if len(known) < 6:
        return Estimate.absent(first.reason or second.reason or "one of the two has no interval", n)
    a, a_low, a_high, b, b_low, b_high = known
    low, high = math.hypot(a - a_low, b_high - b), math.hypot(a_high - a, b - b_low)
    return Estimate(a - b, a - b - low, a - b + high, n, "mover", 0.0)


def difference_of_means(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean of (N,) values less that of (M,) others, records of two independent samples; null 0, n is N + M.

    Welch's interval, with Student's t (Welch 1947, Biometrika 34:28-35). What is not finite is left out.
    """
    a, b = (values[np.isfinite(values)] for values in (np.asarray(first, float), np.asarray(second, float)))
    if min(len(a), len(b)) < 2:
        return Estimate.absent(f"needs 2 records on each side, has {len(a)} and {len(b)}", len(a) + len(b))
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    difference, variance = float(a.mean() - b.mean()), float(parts.sum())
    if variance == 0.0:  # nothing varies: an interval would be a point, which says too much
        return Estimate(difference, n=len(a) + len(b), null_value=0.0)
    degrees = variance**2 / float((parts**2 / np.array([len(a) - 1, len(b) - 1])).sum())
    half = t_quantile(level, degrees) * math.sqrt(variance)
    return Estimate(difference, difference - half, difference + half, len(a) + len(b), "welch", 0.0)


def _transformed(value: float, transform: Literal["identity", "exp"]) -> float | None:
    """None where the exponential would overflow: such a limit is absent."""
    if transform == "identity":
        return value
    return math.exp(value) if value < 700.0 else None
