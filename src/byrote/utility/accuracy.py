"""Accuracy on the test records."""

from __future__ import annotations

from typing import ClassVar, Literal

from byrote.registry import register
from byrote.types import Record, TokenStats
from byrote.utility.base import Measurement, Utility


@register("utility", "accuracy")
class Accuracy(Utility):
    """The share of test records whose own label has the highest score; a tie with another class counts as right."""

    metric: ClassVar[str] = "accuracy"
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    def measure(self, record: Record, stats: TokenStats) -> Measurement:
        """1 or 0; every record weighs the same."""
        return Measurement(float(stats.rank[0] == 0), 1.0)
