"""The reference attack."""

from __future__ import annotations

from typing import ClassVar, Literal

from byrote.attacks.base import Evidence, MembershipAttack, Need
from byrote.registry import register


@register("attack", "reference")
class Reference(MembershipAttack):
    """A text that tuning made easier than it was for the base model was trained on.

    Score: l_base(x) - l(x), mean losses per target token in nats, on the same tokens.

    Carlini et al. 2021, arXiv 2012.07805; Mireshghallah et al. 2022, arXiv 2203.03929.
    """

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"
    access: ClassVar[str] = "log-probs and base model"
    needs: ClassVar[frozenset[Need]] = frozenset({"base"})

    def score(self, evidence: Evidence) -> float:
        """How much lower the loss is than under the base model, in nats per token."""
        return evidence.untuned().loss - evidence.target.loss
