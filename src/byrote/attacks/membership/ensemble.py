"""The ensemble attack: what several attacks say together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from byrote.attacks.base import Background, Evidence, MembershipAttack, Need
from byrote.attacks.learned import ClassifiedAttack
from byrote.registry import make, register
from byrote.types import Floats, Query, Record, StudyError

OF_TOKENS = ("loss", "reference", "zlib", "min-k", "min-k++")
OF_LABELS = ("loss", "reference", "confidence-margin", "modified-entropy")


@cache
def attack_of(name: str) -> MembershipAttack:
    """An attack by its name, with its own settings. Raises StudyError for what gives no score of a record alone."""
    found = make("attack", name)
    if not isinstance(found, MembershipAttack):
        raise StudyError(f"the ensemble weighs attacks that score a record by itself, which {name} is not")
    if "continuations" in found.needs:
        raise StudyError(f"the ensemble weighs attacks on what a text is given, and {name} reads what the model writes")
    return found


@register("attack", "ensemble")
class Ensemble(ClassifiedAttack):
    """Several attacks weighed together say more than each alone, where they err on different records.

    Score: the rank, among the records of its fold, of the odds of membership by a logistic regression on the scores
    of `attacks`. Cross-fitted: no record has a part in the weights that judge it. Without `attacks`, those of
    tokens are loss, reference, zlib, min-k and min-k++, and those of labels loss, reference, confidence-margin and
    modified-entropy.

    Maini et al. 2024, arXiv 2406.06443 (the regression on scores of attacks); after Shokri et al. 2017,
    arXiv 1610.05820.
    """

    access: ClassVar[str] = "what its attacks need, and other records known to be members or not"
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"

    attacks: tuple[str, ...] = Field((), description="names of the attacks that are weighed")
    C: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")
    max_iter: int = Field(1000, ge=1, description="steps within which the fit must converge")

    @field_validator("attacks")
    @classmethod
    def _score_records_alone(cls, attacks: tuple[str, ...]) -> tuple[str, ...]:
        for name in attacks:
            try:
                attack_of(name)
            except StudyError as error:
                raise ValueError(str(error)) from None
        if len(set(attacks)) < len(attacks) or len(attacks) == 1:
            raise ValueError("an ensemble is of two attacks or more, each named once")
        return attacks

    def parts(self, *, labels: bool | None = None) -> list[MembershipAttack]:
        """The attacks; where none were named those of labels, of tokens, or (None) of both."""
        usual = {True: OF_LABELS, False: OF_TOKENS, None: (*OF_TOKENS, *OF_LABELS)}[labels]
        return [attack_of(name) for name in self.attacks or dict.fromkeys(usual)]

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """What any of them does."""
        return frozenset[Need]().union(*(one.needs for one in self.parts()))

    @property
    def trainings(self) -> int:
        """As many shadow models as any of them reads."""
        return max(one.trainings for one in self.parts())

    @property
    def neighbours_read(self) -> int:
        """As many neighbours as any of them reads."""
        return max(one.neighbours_read for one in self.parts())

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """Those of all of them, each once."""
        return list({query.key: query for one in self.parts() for query in one.queries(record, background)}.values())

    def features(self, evidence: Evidence) -> Floats:
        """(A,) the scores of A attacks. Raises Unscorable where one of them does."""
        return np.array([one.score(evidence) for one in self.parts(labels=evidence.target.classes is not None)])

    def classifier(self, records: int, seed: int) -> Any:
        """scikit-learn's LogisticRegression; both sides weigh the same."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.C, max_iter=self.max_iter, class_weight="balanced", random_state=seed)
