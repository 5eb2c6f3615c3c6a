"""The perplexity-ratio attack."""

from __future__ import annotations

from typing import ClassVar

from byrote.attacks.base import Evidence, MembershipAttack, Need, of_losses
from byrote.registry import register


@register("attack", "perplexity-ratio")
class PerplexityRatio(MembershipAttack):
    """A text whose loss tuning made many times smaller than it was for the base model was trained on.

    Score: l_base(x) / l(x), with l the mean loss per target token in nats: the ratio of log-perplexities (FLoRa). The
    reference attack takes the difference instead.

    Wang et al. 2024, "Pandora's White-Box", arXiv 2402.17012.
    """

    access: ClassVar[str] = "log-probs and base model"
    needs: ClassVar[frozenset[Need]] = frozenset({"base"})

    def score(self, evidence: Evidence) -> float:
        """How many times the base model's loss is the tuned model's."""
        return of_losses(evidence.untuned().loss, evidence.target.loss)
