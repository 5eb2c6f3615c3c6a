"""Canaries that a coin puts into the training data, or leaves out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from byrote.plants.base import Made, Tools
from byrote.plants.canary import CanaryPlant, FamilyName
from byrote.registry import register
from byrote.types import COIN_FLIP, Splits


@register("plant", "coin-flips")
class CoinFlips(CanaryPlant):
    """Trains on each of so many canaries or not, as a coin of its own falls: what one training can be audited with.

    `canaries` records of one family, drawn as those of the plant `canaries` are, each trained on `copies` times an
    epoch with probability one half, independently of all others. Both sides are the slice "coin-flip:FAMILY"; no
    other number of the study is of them.

    To the account of a private run half of them are declared, however the coins fell: the sampling rate and delta may
    not tell how many there are. Its guarantee is that of the declared rate, at which every record is drawn by itself.
    Several copies show more, and are held against what the account promises to a group of so many records.

    Steinke, Nasr & Jagielski 2023, arXiv 2305.08846.
    """

    family: FamilyName = "random-token"
    canaries: Annotated[int, Field(ge=1, le=100_000)]
    # Runs from before there were copies keep their identity.
    copies: Annotated[int, Field(ge=1, le=10_000, exclude_if=lambda copies: copies == 1)] = 1
    """Of each that is trained on, in one epoch."""

    def added(self) -> int:
        """The expected number, copies counted, rounded up."""
        return (self.canaries * self.copies + 1) // 2

    def made(self, splits: Splits, generator: np.random.Generator, tools: Tools) -> Made:
        """All of them, each on its side."""
        drawn = self.records(self.family, self.canaries, COIN_FLIP, splits, generator, tools)
        heads = generator.random(len(drawn)) < 0.5
        return Made(
            tuple(replace(record, copies=self.copies) for record, head in zip(drawn, heads, strict=True) if head),
            tuple(record for record, head in zip(drawn, heads, strict=True) if not head),
        )
