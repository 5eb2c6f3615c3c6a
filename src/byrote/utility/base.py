"""What a utility measure is: additive statistics of each test record, and the number that their sum gives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from byrote.registry import Component
from byrote.types import Floats, Generation, Record, TokenStats

Form = Literal["mean", "exp", "rate", "sums"]
Reads = Literal["tokens", "labels", "both", "completions", "generated text"]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What is known of one test record: how the model predicts it, and what it generated for its prompt."""

    record: Record
    stats: TokenStats
    labels: tuple[str, ...] = ()
    """The classes in the order of `stats.classes`; empty where nothing is classified."""
    generation: Generation | None = None
    follows: str | None = None
    """What truly follows the tokens that were given, no further than was to be generated; None: the completion."""


class Utility(Component):
    """Abstract: one number for a set of records, `value` of the sum of their statistics.

    To add one, write one file here: `measure` gives a record's statistics, which are summed over any set of
    records, and `form` says how the number comes from the sums, and so how its interval is made. A subclass is
    final, frozen, and registered with `@register`; its docstring says what the number means.
    """

    kind: ClassVar[str] = "utility"
    metric: ClassVar[str]
    """The column `metric` of the results."""
    unit: ClassVar[str]
    """What the number counts, in words; empty for a pure number."""
    higher_is_better: ClassVar[bool | None]
    """None where the records' own text has such a number too, by a method `reference` of the same sums, and the
    nearest to that is best."""
    form: ClassVar[Form] = "mean"
    """`mean`: statistics (weight * value, weight), and the number is their ratio. `exp`: its exponential.
    `rate`: (1 or 0, 1), a share of the records. `sums`: any statistics, and a `value` of its own."""
    bounds: ClassVar[tuple[float, float] | None] = None
    """Between which the number lies; None where nothing bounds it on both sides."""
    reads: ClassVar[Reads] = "tokens"
    """What is measured: the prediction of a text's tokens, of a record's label, of either, generated completions, or
    whatever is generated."""

    @property
    def conditions(self) -> str:
        """What the number turns on besides the model and the records, in words for the report; empty if nothing."""
        return ""

    @abstractmethod
    def measure(self, seen: Observation) -> tuple[float, ...]:
        """The statistics of one record, always of one length for one study; raises Unscorable with a reason."""

    def value(self, sums: Floats) -> Floats:
        """The number of records whose statistics sum to `sums`: shape (..., k) to (...)."""
        mean = sums[..., 0] / sums[..., 1]
        return np.exp(mean) if self.form == "exp" else mean
