"""Discoverable extraction from text that is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from byrote.attacks.base import Evidence, Need
from byrote.attacks.extraction.base import Form, SuffixMeasure
from byrote.registry import register
from byrote.types import Decoding, Unscorable


@register("attack", "discoverable")
class Discoverable(SuffixMeasure):
    """The share of records whose suffix comes out at least once in `n` drawn continuations, with probability `p`.

    A suffix that a draw writes with probability q comes out of n draws with 1 - (1 - q)^n; the record counts where that
    is at least p. q is the product of the tokens' probabilities in that way of drawing, from one pass over the record:
    nothing is generated. `probability` is the mean over records of 1 - (1 - q)^n.

    Hayes et al. 2025, "Measuring memorization in language models via probabilistic extraction", arXiv 2410.19482.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"chances"})
    metrics: ClassVar[Mapping[str, Form]] = {"share": "share", "probability": "mean"}
    n: int = Field(100, ge=1, le=10**9, description="continuations that are drawn")
    p: float = Field(0.5, gt=0, lt=1, description="probability that it comes out at least once")
    temperature: float = Field(1.0, gt=0, description="of the draws")
    top_k: Annotated[int, Field(ge=1, description="draw among so many of the likeliest tokens")] | None = 40
    top_p: float = Field(1.0, gt=0, le=1, description="draw among those that together reach this probability")

    @property
    def drawing(self) -> Decoding:
        """Its way of drawing; where a continuation ends makes no difference."""
        return Decoding(1, True, self.temperature, self.top_k, self.top_p)

    @property
    def cost(self) -> str:
        """A pass of its own."""
        return "1 pass more"

    def measure(self, evidence: Evidence) -> tuple[float, ...]:
        """1 or 0, and the probability."""
        if evidence.chances is None:
            raise Unscorable("the model was not asked how likely its tokens are to be drawn")
        suffix = float(evidence.chances[self.suffix(evidence)].sum())
        # 1 - (1 - q)^n, exact where q is tiny: log(1 - q) by its own function, and the difference from 1 too.
        comes = 1.0 if math.exp(suffix) >= 1.0 else -math.expm1(self.n * math.log1p(-math.exp(suffix)))
        return float(comes >= self.p), comes
