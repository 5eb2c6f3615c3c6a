"""The WBC attack."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from byrote.attacks.base import NOT_FINITE, Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import NO_TARGET, Unscorable


@register("attack", "wbc")
class WindowComparison(MembershipAttack):
    """A text that tuning made easier in most of its passages, whatever their length, was trained on.

    Score: for each window size, the share of the windows of so many consecutive tokens in which the base model's loss
    is above the tuned model's; the mean over the sizes. `sizes` lists them; by default ten from 2 to 40 in a geometric
    row. Sizes beyond the text's own length are left out; a text shorter than all of them is one window.

    Chen et al. 2026, "WBC", arXiv 2601.02751.
    """

    access: ClassVar[str] = "log-probs and base model"
    needs: ClassVar[frozenset[Need]] = frozenset({"base"})
    sizes: tuple[int, ...] = Field((2, 3, 4, 5, 8, 11, 15, 21, 29, 40), min_length=1, description="tokens of a window")

    @model_validator(mode="after")
    def _positive(self) -> WindowComparison:
        if min(self.sizes) < 1:
            raise ValueError(f"sizes: a window of {min(self.sizes)} tokens holds nothing")
        return self

    def score(self, evidence: Evidence) -> float:
        """Mean share of the windows that became easier, in [0, 1]."""
        tokens = len(evidence.target)
        if not tokens:
            raise Unscorable(NO_TARGET)
        gains = evidence.target.log_prob.astype(np.float64) - evidence.untuned().log_prob
        if np.isnan(gains).any():  # impossible to both models: neither easier nor harder
            raise Unscorable(NOT_FINITE)
        sizes = [size for size in self.sizes if size <= tokens] or [tokens]
        shares = [(np.lib.stride_tricks.sliding_window_view(gains, size).sum(axis=1) > 0).mean() for size in sizes]
        return float(np.mean(shares))
