"""The loss attack."""

from __future__ import annotations

from typing import ClassVar, Literal

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import register


@register("attack", "loss")
class Loss(MembershipAttack):
    """A text that the model predicts well was trained on.

    Score: -l(x), where l is the mean negative log-probability per target token, in nats.

    Yeom, Giacomelli, Fredrikson, Jha 2018, "Privacy Risk in Machine Learning", arXiv 1709.01604.
    """

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"
    access: ClassVar[str] = "log-probs"

    def score(self, evidence: Evidence) -> float:
        """Minus the mean loss per token, in nats."""
        return -evidence.target.loss
