"""Accuracy on the test records."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.utility.base import Form, Observation, Reads, Utility


@register("utility", "accuracy")
class Accuracy(Utility):
    """The share of test records whose own label has the highest score; a tie with another class counts as right."""

    metric: ClassVar[str] = "accuracy"
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    form: ClassVar[Form] = "rate"
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    reads: ClassVar[Reads] = "labels"

    def measure(self, seen: Observation) -> tuple[float, ...]:
        """1 or 0; every record counts the same."""
        return float(seen.stats.rank[0] == 0), 1.0
