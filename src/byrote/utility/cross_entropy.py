"""Cross-entropy on the test records."""

from __future__ import annotations

from typing import ClassVar, Literal

from byrote.registry import register
from byrote.types import Record, TokenStats
from byrote.utility.base import Measurement, Utility


@register("utility", "cross-entropy")
class CrossEntropy(Utility):
    """The mean negative log-probability of the test records' labels: what training minimises, on new records."""

    metric: ClassVar[str] = "cross-entropy"
    unit: ClassVar[str] = "nats"
    higher_is_better: ClassVar[bool] = False
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    def measure(self, record: Record, stats: TokenStats) -> Measurement:
        """Nats; every record weighs the same."""
        return Measurement(stats.loss, 1.0)
