"""Perplexity on the test records."""

from __future__ import annotations

from typing import ClassVar, Literal

from byrote.registry import register
from byrote.types import Record, TokenStats
from byrote.utility.base import Measurement, Utility


@register("utility", "perplexity")
class Perplexity(Utility):
    """The exponential of the mean loss per target token, over all tokens of the test records.

    Each record counts by its tokens. Perplexities can be compared between models only where the
    same tokenizer cuts the same texts: a coarser one has fewer, harder tokens.

    Jelinek, Mercer, Bahl and Baker 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
    """

    metric: ClassVar[str] = "perplexity"
    unit: ClassVar[str] = "per token"
    higher_is_better: ClassVar[bool] = False
    transform: ClassVar[Literal["identity", "exp"]] = "exp"

    def measure(self, record: Record, stats: TokenStats) -> Measurement:
        """Mean loss per token in nats, and the number of target tokens."""
        return Measurement(stats.loss, float(len(stats)))
