"""Cross-entropy on the test records."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.utility.base import Observation, Reads, Utility


@register("utility", "cross-entropy")
class CrossEntropy(Utility):
    """The mean negative log-probability of the test records' labels: what training minimises, on new records."""

    metric: ClassVar[str] = "cross-entropy"
    unit: ClassVar[str] = "nats"
    higher_is_better: ClassVar[bool] = False
    reads: ClassVar[Reads] = "labels"

    def measure(self, seen: Observation) -> tuple[float, ...]:
        """Nats; every record weighs the same."""
        return seen.stats.loss, 1.0
