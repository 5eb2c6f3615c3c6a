"""The Min-K% attack."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import register
from byrote.types import NO_TARGET, Floats, Unscorable


@register("attack", "min-k")
class MinK(MembershipAttack):
    """A text whose least likely tokens are still likely was trained on.

    Score: the mean of the lowest k of log p_t over the T target tokens, max(1, floor(k T)) of them.

    Shi et al. 2024, "Detecting Pretraining Data from Large Language Models", arXiv 2310.16789.
    """

    access: ClassVar[str] = "log-probs"
    k: float = Field(0.2, gt=0, le=1, description="share of the tokens that is kept")

    def score(self, evidence: Evidence) -> float:
        """Mean log-probability of the least likely tokens, in nats."""
        return mean_of_lowest(evidence.target.log_prob.astype(np.float64), self.k)


def mean_of_lowest(values: Floats, share: float) -> float:
    """The mean of the lowest max(1, floor(share * T)) of T values; raises Unscorable when T is 0."""
    if not len(values):
        raise Unscorable(NO_TARGET)
    kept = max(1, int(share * len(values)))
    return float(np.partition(values, kept - 1)[:kept].mean())
