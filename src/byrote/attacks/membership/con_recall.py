"""The Con-ReCall attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from byrote.attacks.base import LEAST_LOSS, Background, Evidence, MembershipAttack, Need
from byrote.attacks.membership.recall import shown
from byrote.registry import register
from byrote.types import Query, Record, Unscorable


@register("attack", "con-recall")
class ContrastiveRecall(MembershipAttack):
    """A text that the model predicts worse behind texts it was not trained on than behind its members was trained on.

    Score: [LL(x | p) - gamma LL(x | m)] / LL(x), with LL the mean log p_t, p a prefix of `shots` records that no model
    was trained on and m one of as many members that are known. These members, and whatever shares a group with one,
    have no score.

    Wang et al. 2024, "Con-ReCall: Detecting Pre-training Data in LLMs via Contrastive Decoding", arXiv 2409.03363.
    """

    access: ClassVar[str] = "log-probs behind a prefix, and texts known to be members or not"
    needs: ClassVar[frozenset[Need]] = frozenset({"queries"})
    shots: int = Field(4, ge=1, le=1000, description="records of each prefix")
    gamma: float = Field(0.5, ge=0, description="weight of the members' prefix")
    seed: int = Field(0, ge=0, lt=2**32, description="of the choice of these records")

    @property
    def cost(self) -> str:
        """Two passes more; the prefixes themselves are read once for all."""
        return "3 passes"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The record behind either prefix; none of a record that is known."""
        others = shown(background, "outsiders", self.shots, self.seed)
        members = shown(background, "insiders", self.shots, self.seed)
        if not others or not members or record.group_id in {member.group_id for member in members}:
            return []
        return [Query(record, others), Query(record, members)]

    def score(self, evidence: Evidence) -> float:
        """How much more the loss grows behind nonmembers than behind members, as a share of it."""
        loss = evidence.target.loss
        queries = self.queries(evidence.record, evidence.background)
        if not queries:
            if not evidence.background.outsiders:
                raise Unscorable("there is no record to show: con-recall needs validation or test records")
            raise Unscorable("it is, or shares a group with, one of the members that this attacker knows already")
        behind_others, behind_members = (evidence.answer(query).loss for query in queries)
        return (behind_others - self.gamma * behind_members) / max(loss, LEAST_LOSS)
