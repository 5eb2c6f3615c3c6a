"""The PAC attack."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import NO_TARGET, Query, Record, TokenStats, Unscorable, text_key


@register("attack", "pac")
class PolarizedAugmentCalibration(MembershipAttack):
    """A text whose least likely tokens fall far behind once its words are swapped was trained on.

    Score: the mean of D(x') over texts x' with words of x swapped at random, minus D(x). D is the polarised distance:
    the mean log p_t of the `highest` share of tokens, at least one, minus that of the `lowest` share. (The paper
    takes the difference the other way round, lower for a member.) Of a prompt and a completion the completion's words
    alone are swapped.

    Ye et al. 2024, "Data Contamination Calibration for Black-box LLMs", Findings of ACL, arXiv 2405.11930.
    """

    access: ClassVar[str] = "log-probs of changed texts"
    needs: ClassVar[frozenset[Need]] = frozenset({"queries"})
    texts: int = Field(5, ge=1, le=100, description="swapped texts of each record")
    swaps: float = Field(0.3, gt=0, le=1, description="swaps of two words in a text, as a share of its words")
    highest: float = Field(0.05, gt=0, le=1, description="share of the tokens that counts as most likely")
    lowest: float = Field(0.3, gt=0, le=1, description="share of the tokens that counts as least likely")
    seed: int = Field(0, ge=0, lt=2**32, description="of the swaps")

    @property
    def cost(self) -> str:
        """In passes."""
        return f"{1 + self.texts} passes"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The record with words swapped, several times."""
        chance = random.Random(f"{self.seed} {text_key(record.text)}")
        return [
            Query(record.rewritten(lambda text: _swapped(text, self.swaps, chance), background.of))
            for _ in range(self.texts)
        ]

    def score(self, evidence: Evidence) -> float:
        """How much further apart likely and unlikely tokens are in the swapped texts, in nats."""
        own = self._distance(evidence.target)
        queries = self.queries(evidence.record, evidence.background)
        return float(np.mean([self._distance(evidence.answer(query)) for query in queries])) - own

    def _distance(self, stats: TokenStats) -> float:
        if not len(stats):
            raise Unscorable(NO_TARGET)
        ordered = np.sort(stats.log_prob.astype(np.float64))
        low, high = (max(1, int(share * len(ordered))) for share in (self.lowest, self.highest))
        return float(ordered[-high:].mean() - ordered[:low].mean())


def _swapped(text: str, share: float, chance: random.Random) -> str:
    """The text with its words at other places: max(1, floor(share * words)) times two of them change theirs."""
    words = text.split()
    if len(words) < 2:
        return text
    for _ in range(max(1, int(share * len(words)))):
        one, other = chance.sample(range(len(words)), 2)
        words[one], words[other] = words[other], words[one]
    return " ".join(words)
