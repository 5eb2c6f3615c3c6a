"""The SPV-MIA attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need
from byrote.attacks.membership.neighbourhood import nearby, variation
from byrote.registry import register
from byrote.types import Query, Record


@register("attack", "spv-mia")
class ProbabilisticVariation(MembershipAttack):
    """A text around which the loss rises more steeply than it does for the base model was trained on.

    Score: v(x) - v_base(x), where the probabilistic variation v is the mean over `pairs` of neighbours of the mean of
    their two losses, minus l(x). The two of a pair replace the same tokens by different ones: they stand for the
    paper's x + z and x - z. The reference is the untuned base model. The paper tunes a reference of its own on texts
    that it draws from the target (self-prompt), for an attacker who lacks both the base model and such texts.

    Fu et al. 2024, "Membership Inference Attacks against Fine-tuned Large Language Models via Self-prompt Calibration",
    NeurIPS, arXiv 2311.06062.
    """

    access: ClassVar[str] = "log-probs of changed texts, and base model"
    needs: ClassVar[frozenset[Need]] = frozenset({"base", "neighbours", "queries"})
    pairs: int = Field(5, ge=1, le=100, description="pairs of neighbours of each record")

    @property
    def neighbours_read(self) -> int:
        """Two of each pair."""
        return 2 * self.pairs

    @property
    def cost(self) -> str:
        """In passes."""
        return f"{1 + 2 * self.pairs} passes, and {2 + 2 * self.pairs} of the base model"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The neighbours, pair after pair."""
        return nearby(record, background, 2 * self.pairs)

    def score(self, evidence: Evidence) -> float:
        """How much more the loss grows around the text than for the base model, in nats per token."""
        queries = self.queries(evidence.record, evidence.background)
        return variation(evidence, queries, "target") - variation(evidence, queries, "base")
