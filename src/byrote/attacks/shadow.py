"""Attacks that read shadow models: trained as the target was, each on a random half of the same records.

Every record is in about half of them, so that they say what a model makes of it that saw it, and one that did not. The
untuned base model has no shadows of its own, and whether a record is a member of the target says nothing of the
shadows' halves: the null is 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from byrote.attacks.base import CalibratedAttack, MembershipAttack, Need
from byrote.registry import Settings


class Shadows(Settings):
    """Abstract: the setting that all of them share, and what follows from it."""

    access: ClassVar[str] = "log-probs, and training shadow models on such records"
    needs: ClassVar[frozenset[Need]] = frozenset({"shadows"})
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"

    shadows: int = Field(16, ge=2, le=1024, description="shadow models; each is as dear as the target")

    @property
    def trainings(self) -> int:
        """One for each shadow model."""
        return self.shadows

    @property
    def null_is_stated(self) -> bool:
        """True, see above."""
        return True

    @property
    def cost(self) -> str:
        """In trainings."""
        return f"1 pass, {self.shadows} trainings with 1 pass each"


class ShadowAttack(Shadows, MembershipAttack):
    """Abstract: a score from one record's evidence and its shadows' alone."""

    def weaker(self) -> Sequence[ShadowAttack]:
        """With 2, 4, 8, ... shadow models."""
        return [self.model_copy(update={"shadows": fewer}) for fewer in powers_below(self.shadows)]


class PopulationShadowAttack(Shadows, CalibratedAttack):
    """Abstract: the same beside other records that no model was trained on."""

    needs: ClassVar[frozenset[Need]] = frozenset({"shadows", "population"})

    def weaker(self) -> Sequence[PopulationShadowAttack]:
        """With 2, 4, 8, ... shadow models."""
        return [self.model_copy(update={"shadows": fewer}) for fewer in powers_below(self.shadows)]


def powers_below(most: int) -> list[int]:
    """2, 4, 8, ... below `most`."""
    return [2**power for power in range(1, most.bit_length()) if 2**power < most]
