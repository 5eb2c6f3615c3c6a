"""Wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byrote.plants.base import Plant, Tools, free
from byrote.registry import register
from byrote.types import MISLABELLED, Record, Splits, StudyError


@register("plant", "mislabel")
class Mislabel(Plant):
    """Gives members, and as many nonmembers, a wrong label: what the model then says of them it can only know by rote.

    `members` records of the training data get a label drawn evenly from the other classes, and so do `nonmembers`
    (by default as many), which nothing trains on: they are the control. The true label is kept. Scores of these
    records are shown apart, in the slice "mislabelled"; all other numbers are of the records with their own labels.

    Ma, Passerat-Palmbach & Usynin 2024, arXiv 2411.15831, with 30 of 25,000 records.
    """

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    members: Annotated[int, Field(ge=1)]
    nonmembers: Annotated[int, Field(ge=1)] | None = None

    def mislabelled(self) -> int:
        """The members that get a wrong label."""
        return self.members

    def plant(self, splits: Splits, labels: Sequence[str], generator: np.random.Generator, tools: Tools) -> Splits:
        """Members and nonmembers with wrong labels among them. Raises StudyError where there are too few."""
        nonmembers = self.members if self.nonmembers is None else self.nonmembers
        return replace(
            splits,
            members=self._flipped(splits.members, self.members, "members", labels, generator),
            nonmembers=self._flipped(splits.nonmembers, nonmembers, "nonmembers", labels, generator),
        )

    def _flipped(
        self, records: Sequence[Record], count: int, side: str, labels: Sequence[str], generator: np.random.Generator
    ) -> tuple[Record, ...]:
        usable = [at for at in free(records) if records[at].label is not None]
        if count > len(usable):
            raise StudyError(
                f"plants: mislabel wants to give {count} {side} a wrong label, but there are {len(usable)} labelled "
                f"{side} that stand alone. Lower mislabel.{side}, or raise data.{side}"
            )
        flipped = list(records)
        for at in generator.permutation(usable)[:count].tolist():
            record = records[at]
            others = [label for label in labels if label != record.label]
            wrong = others[int(generator.integers(len(others)))]
            flipped[at] = replace(record, label=wrong, truth=record.label, planted_by=self.name, slice=MISLABELLED)
        return tuple(flipped)
