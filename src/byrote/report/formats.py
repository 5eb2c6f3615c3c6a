"""Numbers as people read them. An absent number is an en dash, never 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from byrote.types import Estimate

ABSENT = "–"
MOST_LISTED = 24
"""What one sentence names."""


def rate(value: float | None) -> str:
    """An AUC or a rate: three decimals."""
    return ABSENT if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference of AUCs: three decimals and its sign."""
    if value is None:
        return ABSENT
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")  # never "−0.000"


def measure(value: float | None) -> str:
    """A measurement of any size: about three digits."""
    if value is None:
        return ABSENT
    size = abs(value)
    if size >= 10_000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.{1 if size >= 10 else 2 if size >= 1 else 3}f}"


def count(value: float | None) -> str:
    """A count of things: 1,382,784 as '1.38 M'."""
    if value is None:
        return ABSENT
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def percent(share: float) -> str:
    """A share in [0, 1] as '2.3%'."""
    value = 100.0 * share
    return f"{value:.0f}%" if value >= 10 or value == round(value) else f"{value:.2g}%"


def size(value: float | None) -> str:
    """Bytes in decimal units: '412 MB'."""
    if value is None:
        return ABSENT
    for unit_size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit_size:
            return f"{value / unit_size:.3g} {unit}"
    return f"{value:.0f} B"


def seconds(value: float | None) -> str:
    """A duration: '4.9 s', '3 min 20 s', '2 h 05 min'."""
    if value is None:
        return ABSENT
    if value < 99.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def limits(estimate: Estimate | None, spell: Callable[[float | None], str] = rate) -> str:
    """The 95% interval as '[0.983, 0.999]'; empty where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{spell(estimate.low)}, {spell(estimate.high)}]"


def with_limits(estimate: Estimate | None, spell: Callable[[float | None], str] = rate) -> str:
    """Value and interval: '0.996 [0.983, 0.999]'."""
    if estimate is None or estimate.value is None:
        return ABSENT
    return f"{spell(estimate.value)} {limits(estimate, spell)}".rstrip()


def listed(words: Sequence[str], last: str = "and") -> str:
    """'a', 'a and b', 'a, b and c'; of many, the first and how many more."""
    if len(words) > MOST_LISTED + 1:
        words = [*words[:MOST_LISTED], f"{len(words) - MOST_LISTED:,} more"]
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def rounded_up(value: float, digits: int = 3) -> str:
    """So many digits, rounded up, so that a bound that is printed holds: 7.993 is "8.00"."""
    places = max(digits - 1 - math.floor(math.log10(value)), 0) if value > 0 else 0
    up = math.ceil(value * 10**places - 1e-6) / 10**places
    return f"{up:,.0f}" if up >= 10 ** (digits - 1) else f"{up:#.{digits}g}"
