"""The SaMIA attack."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need
from byrote.registry import register
from byrote.types import NO_TARGET, Decoding, Opening, Record, Unscorable


@register("attack", "samia")
class Samia(MembershipAttack):
    """A text whose beginning the model goes on from in the text's own words was trained on.

    Score: the mean over `samples` drawn continuations of ROUGE-1 recall: the share of the words of what truly follows
    that the continuation has too, each as often as it has it. The beginning is the first half of the words; of a prompt
    and a completion it is the prompt. A continuation counts up to as many words as truly follow. Words are split at
    white space and compared without case.

    Kaneko et al. 2024, "Sampling-based Pseudo-Likelihood for Membership Inference Attacks", arXiv 2404.11262.
    """

    access: ClassVar[str] = "generated text"
    needs: ClassVar[frozenset[Need]] = frozenset({"continuations"})
    least_tokens: ClassVar[int] = 2
    samples: int = Field(5, ge=1, le=100, description="continuations of each record")
    max_new_tokens: int = Field(64, ge=1, le=4096, description="tokens of a continuation")
    temperature: float = Field(1.0, gt=0, description="of the draws")
    top_k: int = Field(50, ge=1, description="draw among so many of the likeliest tokens")
    seed: int = Field(0, ge=0, lt=2**32, description="of the draws")

    @property
    def cost(self) -> str:
        """In texts that are generated."""
        return f"{self.samples} continuations of up to {self.max_new_tokens} tokens"

    def openings(self, record: Record, background: Background) -> Sequence[Opening]:
        """The beginning, once for each sample."""
        opening, _ = _halves(record, background)
        decoding = Decoding(self.max_new_tokens, True, self.temperature, self.top_k)
        draws = [replace(decoding, seed=self.seed + number) for number in range(self.samples)]
        return [] if opening is None else [Opening(opening, draw) for draw in draws]

    def score(self, evidence: Evidence) -> float:
        """Mean share of the words that follow which the model wrote, in [0, 1]."""
        if not len(evidence.target):
            raise Unscorable(NO_TARGET)
        opening, rest = _halves(evidence.record, evidence.background)
        if opening is None:
            raise Unscorable("it has fewer than two words, so it has no beginning to go on from")
        if len(evidence.continuations) != self.samples:
            raise Unscorable("the model was not asked to go on from it")
        if reasons := [one.reason for one in evidence.continuations if one.reason]:
            raise Unscorable(reasons[0])
        return sum(recall(one.text, rest) for one in evidence.continuations) / self.samples


def recall(said: str, wanted: str) -> float:
    """ROUGE-1 recall of the first words of what was said, as many as there are in what was wanted."""
    words = wanted.casefold().split()
    common = Counter(words) & Counter(said.casefold().split()[: len(words)])
    return common.total() / len(words)


def _halves(record: Record, background: Background) -> tuple[Record | None, str]:
    """What the model is given, as a record with an empty completion, and what follows; None where there is nothing."""
    follows = record.scored(background.of)
    if background.of == "completion":
        if not follows.split():
            return None, follows
        if record.messages is not None:
            return record, follows
        cut = len(record.text) - len(follows)
    else:
        ends = [word.end() for word in re.finditer(r"\S+", record.text)]
        if len(ends) < 2:
            return None, follows
        cut = ends[len(ends) // 2 - 1]
    beginning, follows = record.text[:cut], record.text[cut:]
    return replace(record, text=beginning, prompt=beginning, completion="", messages=None), follows
