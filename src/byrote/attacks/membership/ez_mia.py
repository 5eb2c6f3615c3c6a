"""The EZ-MIA attack."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from byrote.attacks.base import Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import NO_TARGET, Unscorable


@register("attack", "ez-mia")
class ErrorZone(MembershipAttack):
    """A text whose hard tokens tuning made likelier, and seldom less likely, was trained on.

    Score: P / (P + N) with P the sum of max(d_t, 0) and N that of max(-d_t, 0) over the tokens that the tuned model
    would not have written (another one is likelier), d_t = log p_t - log p_t of the base model. It ranks texts as the
    paper's P / N does, and is defined where N is 0. A text of which the model gets all tokens right, or all but one,
    is known by heart: it is judged by all its tokens, where the paper gives it the lowest score. 0.5 where the two
    models do not differ.

    Ilić et al. 2026, "EZ-MIA", arXiv 2601.12104.
    """

    access: ClassVar[str] = "log-probs of the whole vocabulary, and base model"
    needs: ClassVar[frozenset[Need]] = frozenset({"base"})

    def score(self, evidence: Evidence) -> float:
        """The share of what went up; no unit."""
        if not len(evidence.target):
            raise Unscorable(NO_TARGET)
        moved = evidence.target.log_prob.astype(np.float64) - evidence.untuned().log_prob
        wrong = evidence.target.rank > 0
        if wrong.sum() >= 2:
            moved = moved[wrong]
        up, whole = moved.clip(min=0).sum(), np.abs(moved).sum()
        return 0.5 if whole == 0 else float(up / whole)
