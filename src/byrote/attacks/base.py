"""What an attack is: a pure function from the evidence on one record to one score."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from byrote.registry import Component
from byrote.types import Floats, Record, Scores, TokenStats, Unscorable


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of one record: its text, and how the tuned and the untuned base model predict its tokens."""

    record: Record
    target: TokenStats
    base: TokenStats | None = None
    of: Literal["text", "completion"] = "text"
    """What of the record the statistics cover: under `objective: completion` its completion alone."""

    @property
    def text(self) -> str:
        """The text that the statistics cover."""
        record = self.record
        if self.of == "text":
            return record.text
        return record.messages[-1][1] if record.messages is not None else record.completion or record.text


def label_and_others(evidence: Evidence) -> tuple[float, Floats]:
    """The log-probability of the record's own label, and (K - 1,) those of the other classes. Raises Unscorable."""
    classes = evidence.target.classes
    if classes is None:
        raise Unscorable("there are no class probabilities")
    logs, right = classes.astype(np.float64), float(evidence.target.log_prob[0])
    return right, np.delete(logs, int(np.argmin(np.abs(logs - right))))


class Attack(Component):
    """Abstract: what every attack says of itself, however it comes to its scores."""

    kind: ClassVar[str] = "membership"
    access: ClassVar[str]
    """What the attacker needs, in words: "log-probs", "log-probs and base model", "text", ..."""
    compares_with_base: ClassVar[bool] = False
    """True where the evidence must hold the untuned base model's statistics, to read the tuned model's beside."""

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "tokens"
    """What the evidence must be of: a text's tokens, a record's label and its classes' probabilities, or either."""

    @property
    def null_is_stated(self) -> bool:
        """True where the null is 0.5 by construction, so that the untuned base model is not attacked to measure it."""
        return self.compares_with_base  # the base model ties with itself


class MembershipAttack(Attack):
    """Abstract: was this record trained on? A subclass is final, frozen, and registered with `@register`.

    To add one, write one file in this folder's `membership/`: the fields are its settings, the
    docstring gives formula and paper, `score` gives one float, higher for "more likely trained on".
    """

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """The score of one record, from its evidence alone; raises Unscorable with a reason."""


class PoisoningMeasure(Attack):
    """Abstract: what a model makes of the wrong label that a record was given on purpose.

    Measured on the mislabelled members, on the mislabelled nonmembers as their control, and on the same records with
    models that cannot have learned the wrong labels: the nulls.
    """

    kind: ClassVar[str] = "poisoning"
    metric: ClassVar[str]
    """The column `metric` of its mean."""
    is_share: ClassVar[bool]
    """Whether the scores are 0 and 1."""
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """The score of one mislabelled record, higher for "learned the wrong label"; raises Unscorable."""


def score_all(attack: MembershipAttack | PoisoningMeasure, evidence: Sequence[Evidence]) -> Scores:
    """One score per record, shape (N,): finite, or NaN with the reason."""
    values, reasons = np.full(len(evidence), np.nan), [""] * len(evidence)
    for index, one in enumerate(evidence):
        try:
            # inf - inf gives NaN, which is reported below; numpy's warning would name no record.
            with np.errstate(invalid="ignore", over="ignore"):
                value = float(attack.score(one))
        except Exception as error:  # one faulty attack must not cost the others their results
            reasons[index] = reason_of(error)
            continue
        if math.isfinite(value):
            values[index] = value
        else:
            reasons[index] = f"the score is {value}: the model gives a log-probability that is not finite"
    return Scores(values, tuple(reasons))


def reason_of(error: Exception) -> str:
    """Why a record has no score, from what was raised."""
    if isinstance(error, Unscorable):
        return str(error) or "cannot be scored"
    return f"the attack failed: {type(error).__name__}: {' '.join(str(error).split())}"
