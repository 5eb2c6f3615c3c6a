"""Canaries in tiers of copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from byrote.plants.base import Made, Tools
from byrote.plants.canary import CanaryPlant, FamilyName
from byrote.registry import register
from byrote.types import CANARY, Record, Splits


@register("plant", "canaries")
class Canaries(CanaryPlant):
    """Trains on made-up records with a secret, and asks beside them about others of the same law that it kept out.

    `canaries` records of each family and each tier of `copies` are trained on besides the members, so many times an
    epoch, and `controls` records of each family nowhere. A tier is the slice "canary:FAMILY copies=N", and is compared
    with the controls of its family; no other number of the study is of canaries.

    Families: `random-token` (tokens drawn evenly from the model's vocabulary), `random-word` (words drawn evenly from
    those of the validation and test records), `high-perplexity` (of texts of random words those that the untuned model
    finds least likely), `format` ("The secret number of account 48151 is 6 2 3 4 2 1") and `personal-data` (a name,
    e-mail address, telephone and card number of nobody). The secret of a random text is its second half. Where the
    data has prompts and completions, the completion is the last secret.

    Carlini et al. 2019, arXiv 1802.08232.
    """

    families: Annotated[tuple[FamilyName, ...], Field(min_length=1)] = ("random-token", "format")
    copies: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(min_length=1)] = (1, 4, 16)
    canaries: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Of each family and tier."""
    controls: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Of each family, never trained on."""

    @field_validator("families", "copies")
    @classmethod
    def _nothing_twice(cls, values: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"one stands twice in {list(values)}")
        return values

    def added(self) -> int:
        """The canaries that are trained on, with their copies."""
        return len(self.families) * self.canaries * sum(self.copies)

    def made(self, splits: Splits, generator: np.random.Generator, tools: Tools) -> Made:
        """Of each family the tiers and the controls."""
        members: list[Record] = []
        nonmembers: list[Record] = []
        for family in self.families:
            inserted = self.canaries * len(self.copies)
            drawn = self.records(family, inserted + self.controls, CANARY, splits, generator, tools)
            places = generator.permutation(len(drawn)).tolist()
            for at, place in enumerate(places[:inserted]):
                copies, record = self.copies[at // self.canaries], drawn[place]
                members.append(replace(record, copies=copies, slice=f"{record.slice} copies={copies}"))
            nonmembers += [drawn[place] for place in sorted(places[inserted:])]
        return Made(tuple(members), tuple(nonmembers))
