"""What it would take to show that something is next to nothing, in words."""

from __future__ import annotations

from byrote.statistics.comparison import OVER_SEEDS, size_beyond, size_within
from byrote.types import Estimate

MOST = 1_000_000
"""More than so many records nobody has: nothing is said to resolve what would need them."""


def would_show(estimate: Estimate, margin: float, what: str, has: int | None = None) -> str:
    """'about 40 seeds would show it, it has 5': what brings an interval within the margin, should the value stay.

    `what` is what is counted where the estimate is not pooled over seeds, and `has` how many of them there are.
    """
    if estimate.interval in OVER_SEEDS:
        what, has = "seeds", None
    size = size_within(estimate, margin, has)
    if size is None:
        return f"at the margin or beyond it: more {what} would not show its absence"
    if size > MOST:
        return f"so near the margin that more {what} than anybody has would be needed"
    return f"about {rounded(size):,} {what} would show it, it has {has or estimate.n:,}"


def would_tell(estimate: Estimate, what: str) -> str:
    """The same for what brings an interval clear of its null; empty where no number would, or that is not known."""
    if None in (estimate.value, estimate.low, estimate.high, estimate.null_value):
        return ""
    size, what = size_beyond(estimate), "seeds" if estimate.interval in OVER_SEEDS else what
    return "" if size is None or size > MOST else f"about {rounded(size):,} {what} would show it, it has {estimate.n:,}"


def rounded(size: int) -> int:
    """Two digits, rounded up: the rest would claim to know more."""
    unit = int(10 ** max(len(str(size)) - 2, 0))
    return -(-size // unit) * unit
