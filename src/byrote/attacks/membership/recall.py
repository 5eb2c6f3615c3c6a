"""The ReCaLL attack."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need, of_losses
from byrote.registry import register
from byrote.types import Query, Record, Unscorable


@register("attack", "recall")
class Recall(MembershipAttack):
    """A text that the model predicts much worse behind texts which it was not trained on was itself trained on.

    Score: LL(x | p) / LL(x), with LL the mean log p_t and p a prefix of `shots` records of the population that no model
    was trained on, the same for all records and closed by an empty line each. None of them is ever scored itself.

    Xie et al. 2024, "ReCaLL: Membership Inference via Relative Conditional Log-Likelihoods", EMNLP, arXiv 2406.15968.
    """

    access: ClassVar[str] = "log-probs behind a prefix, and texts known not to be members"
    needs: ClassVar[frozenset[Need]] = frozenset({"queries"})
    shots: int = Field(4, ge=1, le=1000, description="records of the prefix")
    seed: int = Field(0, ge=0, lt=2**32, description="of the choice of these records")

    @property
    def cost(self) -> str:
        """One pass more; the prefix itself is read once for all."""
        return "2 passes"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The record behind the prefix."""
        prefix = shown(background, "outsiders", self.shots, self.seed)
        return [Query(record, prefix)] if prefix else []

    def score(self, evidence: Evidence) -> float:
        """How many times the loss grows behind the prefix."""
        loss = evidence.target.loss
        queries = self.queries(evidence.record, evidence.background)
        if not queries:
            raise Unscorable("there is no record to show: recall needs validation or test records")
        return of_losses(evidence.answer(queries[0]).loss, loss)


def shown(background: Background, who: Literal["outsiders", "insiders"], shots: int, seed: int) -> tuple[Record, ...]:
    """So many records of a background, the same ones in the same order whoever asks."""
    drawn = background.drawn.get((who, shots, seed))
    if drawn is None:
        of = background.outsiders if who == "outsiders" else background.insiders
        records = sorted(of, key=lambda record: record.id)
        drawn = tuple(random.Random(f"{seed} {who}").sample(records, min(shots, len(records))))
        background.drawn[who, shots, seed] = drawn
    return drawn
