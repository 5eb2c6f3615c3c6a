"""The neighbourhood attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import Query, Record, Unscorable


@register("attack", "neighbourhood")
class Neighbourhood(MembershipAttack):
    """A text that the model predicts better than texts which differ from it in a few words was trained on.

    Score: the mean of l(x') over neighbours x' minus l(x), mean losses per token in nats. A neighbour has a tenth of
    the tokens replaced by others that the untuned base model finds likely at their place; the paper replaces one word
    at a time by those of a masked language model, which would be a second model to fetch.

    Mattern et al. 2023, "Membership Inference Attacks against Language Models via Neighbourhood Comparison", ACL
    Findings, arXiv 2305.18462.
    """

    access: ClassVar[str] = "log-probs of changed texts, and base model"
    needs: ClassVar[frozenset[Need]] = frozenset({"neighbours", "queries"})
    neighbours: int = Field(10, ge=1, le=200, description="neighbours of each record")

    @property
    def neighbours_read(self) -> int:
        """As set."""
        return self.neighbours

    @property
    def cost(self) -> str:
        """In passes."""
        return f"{1 + self.neighbours} passes, and 1 of the base model"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The neighbours."""
        return nearby(record, background, self.neighbours)

    def score(self, evidence: Evidence) -> float:
        """How much the loss grows around the text, in nats per token."""
        return variation(evidence, self.queries(evidence.record, evidence.background), "target")


def nearby(record: Record, background: Background, count: int) -> list[Query]:
    """So many neighbours of a record, or as many as there are. Raises Unscorable where none can be made."""
    if background.no_neighbours:
        raise Unscorable(background.no_neighbours)
    texts = background.neighbours.get(record.id, ())[:count]
    return [Query(record.rewritten(lambda _, text=text: text, background.of)) for text in texts]  # type: ignore[misc]


def variation(evidence: Evidence, queries: Sequence[Query], by: Literal["target", "base"]) -> float:
    """The mean loss of these texts above that of the record itself, in nats per token."""
    own = (evidence.target if by == "target" else evidence.untuned()).loss
    if not queries:
        raise Unscorable("none of its tokens could be replaced: it has no neighbours")
    return sum(evidence.answer(query, by=by).loss for query in queries) / len(queries) - own
