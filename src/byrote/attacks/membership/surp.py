"""The SURP attack."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import register
from byrote.types import NO_TARGET, Unscorable


@register("attack", "surp")
class Surp(MembershipAttack):
    """A text that holds few bad surprises, where the model was sure and wrong, was trained on.

    Score: the mean of log p_t over the tokens that are among the lowest k of the text, max(1, floor(k T)) of them, and
    stand where the model's entropy is below `max_entropy` nats. Where none of the lowest stands so, the score is
    log p_t of the one with the lowest entropy; the paper leaves that case open.

    Zhang et al. 2024, "Adaptive Pre-training Data Detection via Surprising Tokens", arXiv 2407.21248.
    """

    access: ClassVar[str] = "log-probs of the whole vocabulary"
    k: float = Field(0.2, gt=0, le=1, description="share of the tokens that count as unlikely")
    max_entropy: float = Field(2.0, gt=0, description="entropy in nats below which the model counts as sure")

    def score(self, evidence: Evidence) -> float:
        """Mean log-probability of the surprising tokens, in nats."""
        log_prob, entropy = evidence.target.log_prob.astype(np.float64), -evidence.target.mean.astype(np.float64)
        if not len(log_prob):
            raise Unscorable(NO_TARGET)
        kept = max(1, int(self.k * len(log_prob)))
        lowest = np.argsort(log_prob, kind="stable")[:kept]
        surprising = lowest[entropy[lowest] < self.max_entropy]
        if not len(surprising):
            surprising = lowest[[np.argmin(entropy[lowest])]]
        return float(log_prob[surprising].mean())
