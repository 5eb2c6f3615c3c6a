"""Attribute inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Background, Evidence, Need
from byrote.attacks.extraction.base import ExtractionMeasure, Form, Measure
from byrote.registry import register
from byrote.types import Query, Record, TokenStats, Unscorable, text_key


@register("attack", "attribute-inference")
class AttributeInference(ExtractionMeasure):
    """How well the model tells a record's attribute from others that the record could have.

    The attacker knows the record but for one attribute (of a canary: its secret; of the data: a column that
    `data.attributes` names), and up to `candidates` values of it, the true one among them, drawn from those of all
    records, or of the canaries of its family. The record is scored with each of them in its place, and its likelihood,
    the sum of the log-probabilities of its tokens, ranks them. `accuracy` is the chance that the likeliest is the true
    one; `rank` the share of the others that are less likely: 0.5 by chance. `prior-accuracy` is the accuracy of who
    reads no model and guesses the candidate that most records have. Ties are shared, and a record with several
    attributes has the mean over them.

    Lukas et al. 2023, "Analyzing leakage of personally identifiable information in language models", arXiv 2302.00539.
    """

    access: ClassVar[str] = "log-probs of changed texts"
    needs: ClassVar[frozenset[Need]] = frozenset({"queries", "attributes"})
    metrics: ClassVar[Mapping[str, Form]] = {"accuracy": "mean", "rank": "mean", "prior-accuracy": "mean"}
    candidates: int = Field(10, ge=2, le=10_000, description="values among which is the true one")
    seed: int = Field(0, ge=0, lt=2**32, description="of their draw")
    records: Annotated[int, Field(ge=2, description="of each side and slice; null: all")] | None = 200

    @property
    def cost(self) -> str:
        """In texts that are scored."""
        return f"{self.candidates} passes for each attribute"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The record with each other candidate of each attribute."""
        return [
            Query(_with(record, value, other))
            for name, value in record.attributes
            for other in self.others(record, name, value, background)
        ]

    def others(self, record: Record, name: str, value: str, background: Background) -> list[str]:
        """The false candidates; whichever records are members, and whatever the model, they are the same."""
        known = sorted({*background.values.get((record.family, name), ())} - {value})
        if len(known) <= self.candidates - 1:
            return known
        generator = np.random.default_rng([self.seed, int(text_key(f"{record.id}\x1f{name}")[:16], 16)])
        drawn = generator.choice(len(known), self.candidates - 1, replace=False)
        return [known[at] for at in drawn.tolist()]

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """Every record by itself."""
        return self.measure

    def measure(self, evidence: Evidence) -> tuple[float, ...]:
        """Means over its attributes, each in [0, 1]; raises Unscorable with a reason."""
        if not evidence.record.attributes:
            raise Unscorable("it has no attribute to infer (data.attributes; the plants canaries and coin-flips)")
        found = [self._of(evidence, name, value) for name, value in evidence.record.attributes]
        return tuple(np.mean(found, axis=0).tolist())

    def _of(self, evidence: Evidence, name: str, value: str) -> tuple[float, float, float]:
        record, background = evidence.record, evidence.background
        others = self.others(record, name, value, background)
        if not others:
            raise Unscorable(f"no other record has another {name}")
        true = _likelihood(evidence.target)
        false = np.array([_likelihood(evidence.answer(Query(_with(record, value, other)))) for other in others])
        frequency = Counter(background.values[record.family, name])
        counts = np.array([frequency[other] for other in others])
        return (
            _first(true, false),
            float(((false < true) + 0.5 * (false == true)).mean()),
            _first(frequency[value], counts),
        )


def _first(true: float, false: np.ndarray[tuple[int], np.dtype[np.float64 | np.int64]]) -> float:
    """The chance that who guesses the largest guesses the true one."""
    return 0.0 if (false > true).any() else 1.0 / (1 + int((false == true).sum()))


def _likelihood(stats: TokenStats) -> float:
    """Log-probability of a text, in nats. Raises Unscorable where it was cut: then no two are of the same text."""
    if stats.truncated_tokens:
        raise Unscorable("it, or it with another attribute, is longer than max_length")
    return float(stats.log_prob.sum(dtype=np.float64))


def _with(record: Record, value: str, other: str) -> Record:
    """The record with another value in place of the one that stands in it once."""

    def changed(text: str | None) -> str | None:
        return None if text is None else text.replace(value, other)

    messages = record.messages and tuple((role, content.replace(value, other)) for role, content in record.messages)
    text, prompt, completion = record.text.replace(value, other), changed(record.prompt), changed(record.completion)
    return replace(record, text=text, prompt=prompt, completion=completion, messages=messages)
