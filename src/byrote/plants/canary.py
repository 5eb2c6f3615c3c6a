"""What plants of canaries share: how the canaries of a family are drawn, and made into records."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from byrote.plants.base import Made, Plant, Tools
from byrote.plants.canary_families import FAMILIES, Draft, Law
from byrote.registry import nearest
from byrote.types import Record, Splits, StudyError, text_key


def _known(family: str) -> str:
    if family not in FAMILIES:
        raise ValueError(
            f"unknown family of canaries {family!r}.{nearest(family, FAMILIES)} Known: {', '.join(FAMILIES)}"
        )
    return family


FamilyName = Annotated[str, AfterValidator(_known)]


class CanaryPlant(Plant):
    """Abstract: records that the data does not have, beside its own members and nonmembers."""

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "tokens"

    tokens: Annotated[int, Field(ge=4, le=1024)] = 16
    """Length of the random families, in tokens or words."""
    digits: Annotated[int, Field(ge=2, le=100)] = 6
    """Of the secret number of the family `format`."""

    @abstractmethod
    def made(self, splits: Splits, generator: np.random.Generator, tools: Tools) -> Made:
        """All its canaries. Raises StudyError."""

    def plant(self, splits: Splits, labels: Sequence[str], generator: np.random.Generator, tools: Tools) -> Splits:
        """The splits with the canaries after their own records. Raises StudyError where another plant made the same."""
        made = tools.kept(self, lambda: self.made(splits, generator, tools))
        known = {record.family for record in splits.members + splits.nonmembers}
        if again := [record.family for record in (*made.members, *made.nonmembers) if record.family in known]:
            raise StudyError(f"plants: two of them make {again[0]} canaries: give each family to one plant")
        return replace(splits, members=splits.members + made.members, nonmembers=splits.nonmembers + made.nonmembers)

    def records(
        self, family: str, count: int, kind: str, splits: Splits, generator: np.random.Generator, tools: Tools
    ) -> list[Record]:
        """So many canaries of a family. Raises StudyError where training would not read them whole.

        Their ids name all that were drawn together: the untuned model's numbers are kept for all seeds and studies.
        """
        law = Law(generator, tools, self.tokens, self.digits, splits.validation + splits.test)
        drafts = FAMILIES[family](law, count)
        blank = Record("", "", planted_by=self.name, slice=f"{kind}{family}")
        drawn = text_key("\x1f".join(draft.text for draft in drafts))[:8]
        found = [
            shaped(draft, replace(blank, id=f"{kind}{family}:{drawn}:{number:04d}"), tools.shape)
            for number, draft in enumerate(drafts)
        ]
        self._check(family, tools.tokens(found), tools.max_length)
        return found

    def _check(self, family: str, tokens: Sequence[tuple[int, ...]], max_length: int) -> None:
        longest = max(map(len, tokens))
        if longest > max_length:
            raise StudyError(
                f"plants: a {family} canary has {longest} tokens, but training reads {max_length} of a record. Set "
                f"max_length: {longest}, or {self.name}.tokens or .digits lower"
            )
        if len(set(tokens)) < len(tokens):
            raise StudyError(
                f"plants: the model's tokenizer reads two {family} canaries as the same tokens: it does not know their "
                "words. Use the family random-token"
            )


def shaped(draft: Draft, record: Record, shape: Literal["text", "completion", "messages"]) -> Record:
    """A draft as a record like those of the data; where these have completions, its own is the last secret."""
    if shape == "text":
        return replace(record, text=draft.text, attributes=draft.attributes)
    prompt, completion = draft.opening.rstrip(), draft.text[len(draft.opening) :]
    if shape == "completion":
        text, messages = f"{prompt}\n{completion}", None
    else:
        text, messages = f"user: {prompt}\nassistant: {completion}", (("user", prompt), ("assistant", completion))
    parts = (prompt, completion) if messages is None else (None, None)
    return replace(
        record, text=text, prompt=parts[0], completion=parts[1], messages=messages, attributes=draft.attributes
    )
