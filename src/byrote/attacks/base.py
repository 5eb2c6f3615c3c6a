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


def label_and_others(evidence: Evidence) -> tuple[float, Floats]:
    """The log-probability of the record's own label, and (K - 1,) those of the other classes. Raises Unscorable."""
    classes = evidence.target.classes
    if classes is None:
        raise Unscorable("there are no class probabilities")
    logs, right = classes.astype(np.float64), float(evidence.target.log_prob[0])
    return right, np.delete(logs, int(np.argmin(np.abs(logs - right))))


class MembershipAttack(Component):
    """Abstract: was this record trained on? A subclass is final, frozen, and registered with `@register`.

    To add one, write one file in this folder's `membership/`: the fields are its settings, the
    docstring gives formula and paper, `score` gives one float, higher for "more likely trained on".
    """

    kind: ClassVar[str] = "membership"
    access: ClassVar[str]
    """What the attacker needs, in words: "log-probs", "log-probs and base model", "text", ..."""
    compares_with_base: ClassVar[bool] = False
    """True where the untuned base model ties with itself, so that the null is 0.5 by construction."""

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "tokens"
    """What the evidence must be of: a text's tokens, a record's label and its classes' probabilities, or either."""

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """The score of one record, from its evidence alone; raises Unscorable with a reason."""


class PoisoningMeasure(Component):
    """Abstract: what a model makes of the wrong label that a record was given on purpose.

    Measured on the mislabelled members, on the mislabelled nonmembers as their control, and on the same records with
    models that cannot have learned the wrong labels: the nulls.
    """

    kind: ClassVar[str] = "poisoning"
    access: ClassVar[str]
    """What the measurement needs, in words."""
    metric: ClassVar[str]
    """The column `metric` of its mean."""
    is_share: ClassVar[bool]
    """Whether the scores are 0 and 1."""
    compares_with_base: ClassVar[bool] = False
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
        except Unscorable as unscorable:
            reasons[index] = str(unscorable) or "cannot be scored"
            continue
        except Exception as error:  # one faulty attack must not cost the others their results
            reasons[index] = f"the attack failed: {type(error).__name__}: {' '.join(str(error).split())}"
            continue
        if math.isfinite(value):
            values[index] = value
        else:
            reasons[index] = f"the score is {value}: the model gives a log-probability that is not finite"
    return Scores(values, tuple(reasons))
