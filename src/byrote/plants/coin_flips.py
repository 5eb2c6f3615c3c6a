"""Canaries that a coin puts into the training data, or leaves out."""

from __future__ import annotations

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

    `canaries` records of one family, drawn as those of the plant `canaries` are, each trained on once an epoch with
    probability one half, independently of all others. Both sides are the slice "coin-flip:FAMILY"; no other number of
    the study is of them.

    To the account of a private run half of them are declared, however the coins fell: the sampling rate and delta may
    not tell how many there are. Its guarantee is that of the declared rate, at which every record is drawn by itself.

    Steinke, Nasr & Jagielski 2023, arXiv 2305.08846.
    """

    family: FamilyName = "random-token"
    canaries: Annotated[int, Field(ge=1, le=100_000)]

    def added(self) -> int:
        """The expected number, rounded up."""
        return (self.canaries + 1) // 2

    def made(self, splits: Splits, generator: np.random.Generator, tools: Tools) -> Made:
        """All of them, each on its side."""
        drawn = self.records(self.family, self.canaries, COIN_FLIP, splits, generator, tools)
        heads = generator.random(len(drawn)) < 0.5
        return Made(
            tuple(record for record, head in zip(drawn, heads, strict=True) if head),
            tuple(record for record, head in zip(drawn, heads, strict=True) if not head),
        )
