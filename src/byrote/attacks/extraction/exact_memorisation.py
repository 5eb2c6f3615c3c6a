"""Exact memorisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import Form, SuffixMeasure
from byrote.registry import register


@register("attack", "exact-memorisation")
class ExactMemorisation(SuffixMeasure):
    """The share of a suffix's tokens that the model finds likeliest, each after the true tokens before it.

    Unlike extraction it does not end at the first wrong token. A model that learned nothing gets common words right
    too, so the number means something only beside those of nonmembers and of the untuned model.

    Tirumala et al. 2022, "Memorization without overfitting", arXiv 2205.10770.
    """

    access: ClassVar[str] = "log-probs"
    metrics: ClassVar[Mapping[str, Form]] = {"token-share": "mean"}

    def measure(self, evidence: Evidence) -> tuple[float, ...]:
        """In [0, 1]."""
        return (float((evidence.target.rank[self.suffix(evidence)] == 0).mean()),)
