"""The confidence margin."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from byrote.attacks.base import Evidence, MembershipAttack, label_and_others
from byrote.registry import register


@register("attack", "confidence-margin")
class ConfidenceMargin(MembershipAttack):
    """A record whose own label beats every other class by far was trained on.

    Score: log p(y) - log(1 - p(y)), the log-odds of the record's label; unlike the loss it does not saturate at
    probabilities near 1, and its distribution is nearly normal.

    Carlini et al. 2022, arXiv 2112.03570 (the logit-scaled confidence).
    """

    access: ClassVar[str] = "class probabilities"
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    def score(self, evidence: Evidence) -> float:
        """Log-odds of the label, from the log-probabilities of all classes."""
        right, others = label_and_others(evidence.target)
        # Summed over the other classes: 1 - p(y) would be 0 in floating point where p(y) is near 1.
        return right - float(np.logaddexp.reduce(others))
