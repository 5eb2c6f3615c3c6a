"""Repeated records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from byrote.plants.base import Plant, Tools, free
from byrote.registry import register
from byrote.types import Splits, StudyError


@register("plant", "duplicates")
class Duplicates(Plant):
    """Trains on chosen members several times an epoch: what is repeated is learned by rote first.

    Each number in `copies` is a tier of `members` records that stand in the training data so many times; every
    membership number is given per tier, in the slices "copies=1", "copies=2" and so on, against all nonmembers.
    A repeated record is scored once and counts once, so that its copies do not make an interval narrow.

    Lee et al. 2022, arXiv 2107.06499; Kandpal et al. 2022, arXiv 2202.06539.
    """

    copies: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    members: Annotated[int, Field(ge=1)]

    @field_validator("copies")
    @classmethod
    def _no_tier_twice(cls, copies: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(copies)) < len(copies):
            raise ValueError(f"a number of copies stands twice in {list(copies)}")
        return copies

    def added(self) -> int:
        """The copies beside the records themselves."""
        return self.members * sum(count - 1 for count in self.copies)

    def plant(self, splits: Splits, labels: Sequence[str], generator: np.random.Generator, tools: Tools) -> Splits:
        """Members with their number of copies. Raises StudyError where there are too few."""
        usable, wanted = free(splits.members), self.members * len(self.copies)
        if wanted > len(usable):
            raise StudyError(
                f"plants: duplicates wants {len(self.copies)} tiers of {self.members} members, {wanted} in all, but "
                f"there are {len(usable)} that stand alone. Lower duplicates.members, or raise data.members"
            )
        members = list(splits.members)
        chosen = generator.permutation(usable)[:wanted].reshape(len(self.copies), self.members)
        for count, tier in zip(self.copies, chosen.tolist(), strict=True):
            for at in tier:
                members[at] = replace(members[at], copies=count, planted_by=self.name, slice=f"copies={count}")
        return replace(splits, members=tuple(members))
