"""What a utility measurement is: a value and a weight per record, and how their mean is read."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple

from byrote.registry import Component
from byrote.types import Record, TokenStats


class Measurement(NamedTuple):
    """One record's value, and its weight in the mean."""

    value: float
    weight: float


class Utility(Component):
    """Abstract: one number for a set of records, transform(sum(weight * value) / sum(weight)).

    A subclass is final, frozen, and registered with `@register`; its docstring says what the number means.
    """

    kind: ClassVar[str] = "utility"
    metric: ClassVar[str]
    """The column `metric` of the results."""
    unit: ClassVar[str]
    """What the number counts, in words; empty for a pure number."""
    higher_is_better: ClassVar[bool]
    transform: ClassVar[Literal["identity", "exp"]] = "identity"
    """Applied to the weighted mean, and to the limits of its interval."""

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "tokens"
    """What the statistics must be of: a text's tokens, a record's label, or either."""

    @abstractmethod
    def measure(self, record: Record, stats: TokenStats) -> Measurement:
        """Value and weight of one record; raises Unscorable with a reason."""
