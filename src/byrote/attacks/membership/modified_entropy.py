"""The modified entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from byrote.attacks.base import Evidence, MembershipAttack, label_and_others
from byrote.registry import register


@register("attack", "modified-entropy")
class ModifiedEntropy(MembershipAttack):
    """A record that is classified with little doubt, and rightly, was trained on.

    Score: (1 - p(y)) log p(y) + sum over other classes c of p(c) log(1 - p(c)), the negative of the modified
    entropy. Plain entropy is as low for a confident mistake as for a confident hit; this is not.

    Song & Mittal 2021, arXiv 2003.10595.
    """

    access: ClassVar[str] = "class probabilities"
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    def score(self, evidence: Evidence) -> float:
        """Minus the modified entropy, in nats."""
        right, others = label_and_others(evidence.target)
        # log(1 - p) by log1p, and bounded where p rounds to 1.
        doubt = np.log1p(-np.minimum(np.exp(others), 1 - 1e-12))
        return float(-np.expm1(right) * right + (np.exp(others) * doubt).sum())
