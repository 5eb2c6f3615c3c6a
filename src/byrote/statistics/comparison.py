"""Claims from several intervals, or from how narrow one is: p-values, Holm's correction, equivalence, sample sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from byrote.statistics.interval import normal_quantile, t_quantile
from byrote.types import Estimate

SPREAD_OF_SEEDS = "t-over-seeds"
OVER_SEEDS = (SPREAD_OF_SEEDS, "within-seed")
"""How `pool_over_seeds` names its intervals."""
MANY = 1000  # seeds, beyond which nobody will go


def p_value(estimate: Estimate, level: float = 0.95) -> float:
    """The two-sided p-value of "the value is its null", read back from the interval.

    The width of the interval on the side of the null gives the standard error (Altman and Bland 2011, BMJ 343:d2304).
    So p is below 0.05 where the 95% interval excludes the null, and nowhere else. Where it is pooled over seeds, the
    curve is Student's t even if the interval is that of the seeds' own: that they agreed is known from them alone.
    Else it is the normal one. Raises ValueError without a value, interval or null.
    """
    from scipy.special import ndtr, stdtr

    value, low, high, null = _known(estimate)
    side = value - low if value > null else high - value
    if value == null or side <= 0.0:
        return 1.0 if value == null else 0.0
    distance = abs(value - null) / side
    if estimate.interval in OVER_SEEDS:
        degrees = (estimate.n or 2) - 1
        return float(2.0 * stdtr(degrees, -distance * t_quantile(level, degrees)))
    return float(2.0 * ndtr(-distance * normal_quantile(level)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for all of these being looked at at once (Holm 1979, Scand. J. Statist. 6:65-70), same order.

    Rejecting those at or below alpha errs in any of them with at most the chance alpha, however they hang together.
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError("p-values lie between 0 and 1")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def within_margin(estimate: Estimate, margin: float) -> bool:
    """Whether the interval lies within null ± margin: the value is shown to be next to its null.

    Two one-sided tests (Schuirmann 1987), by the 95% interval where the usual 90% one would do: what is judged is
    then the interval that the reader sees, and "equivalent" is wrong in at most 2.5% of samples instead of 5%.
    False without a value, interval or null.
    """
    if None in (estimate.value, estimate.low, estimate.high, estimate.null_value):
        return False
    _, low, high, null = _known(estimate)
    return null - margin <= low and high <= null + margin


def size_within(estimate: Estimate, margin: float, has: int | None = None, level: float = 0.95) -> int | None:
    """How many records, or seeds where it is pooled, would bring the interval within null ± margin.

    Were the value to stay where it is, and the interval to shrink with the root of their number, as it does; `has`
    is how many there are, n unless given. None where the value itself lies at the margin or beyond it: no number
    would do. At most `MANY` seeds.
    """
    value, low, high, null = _known(estimate)
    room, half, size = margin - abs(value - null), max(high - value, value - low), has or estimate.n or 1
    if room <= 0.0:
        return None
    if estimate.interval != SPREAD_OF_SEEDS:
        return max(size, math.ceil(size * (half / room) ** 2 - 1e-6))
    spread = half * math.sqrt(size) / t_quantile(level, size - 1)
    while t_quantile(level, size - 1) * spread / math.sqrt(size) > room and size < MANY:
        size += 1
    return size


def size_beyond(estimate: Estimate, has: int | None = None, level: float = 0.95) -> int | None:
    """How many records, or seeds where it is pooled, would take the interval clear of the null.

    Under the assumptions of `size_within`. None where the value is the null itself, or where `MANY` seeds would not do.
    """
    value, low, high, null = _known(estimate)
    distance, half, size = abs(value - null), max(high - value, value - low), has or estimate.n or 1
    if distance == 0.0:
        return None
    if estimate.interval != SPREAD_OF_SEEDS:
        wanted = max(size, math.floor(size * (half / distance) ** 2) + 1)
        return None if estimate.interval in OVER_SEEDS and wanted > MANY else wanted
    spread = half * math.sqrt(size) / t_quantile(level, size - 1)
    while t_quantile(level, size - 1) * spread / math.sqrt(size) >= distance:
        size += 1
        if size > MANY:
            return None
    return size


def _known(estimate: Estimate) -> tuple[float, float, float, float]:
    value, low, high, null = estimate.value, estimate.low, estimate.high, estimate.null_value
    if value is None or low is None or high is None or null is None:
        raise ValueError("a comparison needs a value with its interval and its null")
    return value, low, high, null
