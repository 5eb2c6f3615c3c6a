"""The lower-case attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need, of_losses
from byrote.registry import register
from byrote.types import Query, Record


@register("attack", "lower-case")
class LowerCase(MembershipAttack):
    """A text that the model predicts much better with its capitals than without was trained on.

    Score: l(lower(x)) / l(x), with l the mean loss per target token in nats and lower(x) the text in lower case. A
    text without capitals has 1. Of a prompt and a completion the completion alone is lowered.

    Carlini et al. 2021, "Extracting Training Data from Large Language Models", arXiv 2012.07805.
    """

    access: ClassVar[str] = "log-probs of changed texts"
    needs: ClassVar[frozenset[Need]] = frozenset({"queries"})

    @property
    def cost(self) -> str:
        """One text more."""
        return "2 passes"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The record in lower case."""
        return [Query(record.rewritten(str.lower, background.of))]

    def score(self, evidence: Evidence) -> float:
        """How many times the loss grows without capitals."""
        loss = evidence.target.loss
        (query,) = self.queries(evidence.record, evidence.background)
        return of_losses(evidence.answer(query).loss, loss)
