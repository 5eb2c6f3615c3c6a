"""Perplexity on the test records."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.utility.base import Form, Observation, Utility


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
    form: ClassVar[Form] = "exp"

    def measure(self, seen: Observation) -> tuple[float, ...]:
        """The loss over all target tokens in nats, and their number."""
        tokens = float(len(seen.stats))
        return seen.stats.loss * tokens, tokens
