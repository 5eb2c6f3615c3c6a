"""The gradient-norm attack."""

from __future__ import annotations

from typing import ClassVar

from byrote.attacks.base import Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import Unscorable


@register("attack", "gradient-norm")
class GradientNorm(MembershipAttack):
    """A text that would hardly change the model any more was trained on.

    Score: minus the Euclidean norm of the gradient of l(x), the mean loss per target token, in all weights of the tuned
    model, whether they were trained or not, without dropout.

    Wang et al. 2024, "Pandora's White-Box", arXiv 2402.17012.
    """

    access: ClassVar[str] = "weights"
    needs: ClassVar[frozenset[Need]] = frozenset({"gradients"})

    @property
    def cost(self) -> str:
        """In passes."""
        return "1 forward and backward pass, a record at a time"

    def score(self, evidence: Evidence) -> float:
        """Minus the norm, in nats per unit of weight."""
        _ = evidence.target.loss  # a text of no tokens has no gradient
        if evidence.gradient_norm is None:
            raise Unscorable("the gradient was not taken")
        return -evidence.gradient_norm
