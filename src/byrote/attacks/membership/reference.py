"""The reference attack."""

from __future__ import annotations

from typing import ClassVar, Literal

from byrote.attacks.base import Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import Unscorable


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
        if evidence.base is None:
            raise Unscorable("the base model did not score this text")
        if len(evidence.base) != len(evidence.target):
            raise Unscorable(f"{len(evidence.target)} tokens here but {len(evidence.base)} for the base model")
        return evidence.base.loss - evidence.target.loss
