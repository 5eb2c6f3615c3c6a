"""Discoverable extraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import Form, SuffixMeasure
from byrote.registry import register


@register("attack", "k-extractable")
class KExtractable(SuffixMeasure):
    """The share of records whose suffix the model writes word for word when it is given the prefix.

    Greedily, so it is written exactly where each of its tokens is the likeliest one after those before it: one pass
    over the record itself tells that, and nothing is generated. Where two tokens are equally likely, either counts.

    Carlini et al. 2023, "Quantifying memorization across neural language models", arXiv 2202.07646.
    """

    metrics: ClassVar[Mapping[str, Form]] = {"share": "share"}

    def measure(self, evidence: Evidence) -> tuple[float, ...]:
        """1 or 0."""
        return (float((evidence.target.rank[self.suffix(evidence)] == 0).all()),)
