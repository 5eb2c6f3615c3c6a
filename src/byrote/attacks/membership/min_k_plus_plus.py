"""The Min-K%++ attack."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.attacks.membership.min_k import mean_of_lowest
from byrote.registry import register


@register("attack", "min-k++")
class MinKPlusPlus(MembershipAttack):
    """Min-K% with each token's log-probability measured against what the model expects there.

    Score: the mean of the lowest k of (log p_t - mu_t) / max(sigma_t, 0.001), with mu_t and sigma_t the
    mean and standard deviation of log p over the vocabulary under the model's own distribution. The
    floor, in nats, keeps rounding noise small where one token is certain.

    Zhang et al. 2025, "Min-K%++", ICLR, arXiv 2404.02936.
    """

    access: ClassVar[str] = "log-probs of the whole vocabulary"
    k: float = Field(0.2, gt=0, le=1, description="share of the tokens that is kept")

    def score(self, evidence: Evidence) -> float:
        """Mean standardised log-probability of the least likely tokens; no unit."""
        stats = evidence.target
        surprise = stats.log_prob.astype(np.float64) - stats.mean
        return mean_of_lowest(surprise / np.maximum(stats.std, 0.001), self.k)
