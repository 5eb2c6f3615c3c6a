"""What plants may ask of the base model, and how what they made is kept beside the split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from byrote.objectives.batching import encode
from byrote.objectives.completion import encode_completions
from byrote.plants.base import Made, Plant, Tools
from byrote.store import Locked, identity
from byrote.study.experiment import RECIPE
from byrote.study.fields import as_spec
from byrote.types import Record, StudyError

if TYPE_CHECKING:
    from byrote.runner.context import Context

ENDLESS = 2**31
"""Tokens to which nothing is cut."""
TRIES = 10_000
"""Draws for one token."""


class StoredTools(Tools):
    """The tools of one seed of a study. Tokenizer and model are loaded when they are first asked."""

    def __init__(self, context: Context, seed: int) -> None:
        self.context, self.seed = context, seed
        study = context.study
        self.max_length = study.max_length
        self.shape: Literal["text", "completion", "messages"] = "text"
        if study.objective == "completion":
            self.shape = "messages" if study.data.messages is not None else "completion"

    def kept(self, plant: Plant, make: Callable[[], Made]) -> Made:
        """From the store where it is there: another device or library might draw others."""
        study, folder = self.context.study, self.context.split_folder(self.seed)
        decisive = {"recipe": RECIPE, "plant": as_spec(plant), "plants": [as_spec(one) for one in study.plants]}
        decisive |= {"model": self.context.model.fingerprint, "shape": self.shape}
        decisive |= {"max_length": study.max_length, "dtype": study.dtype}
        name = f"canaries-{identity(decisive)}.json"
        sides = folder.read_json(name)
        if sides is not None:
            return Made(*(tuple(_record(row) for row in side) for side in sides))
        made = make()
        if self.context.keeps_splits:
            with contextlib.suppress(Locked), folder.locked():  # who holds it writes the same
                folder.write_json(name, [[asdict(record) for record in side] for side in made])
        return made

    def tokens(self, records: Sequence[Record]) -> list[tuple[int, ...]]:
        """As training reads them."""
        if self.shape == "text":
            examples = encode(self._tokenizer, [record.text for record in records], ENDLESS)
        else:
            examples = encode_completions(self._tokenizer, records, ENDLESS)
        return [example.ids for example in examples]

    def pieces(self, count: int, generator: np.random.Generator) -> list[str]:
        """Token by token: each is drawn evenly from the vocabulary until the text with it reads back as drawn."""
        ids: list[int] = []
        pieces: list[str] = []
        while len(ids) < count:
            before = "".join(pieces)
            for _ in range(TRIES):
                tried = [*ids, self._vocabulary[int(generator.integers(len(self._vocabulary)))]]
                text = str(self._tokenizer.decode(tried, clean_up_tokenization_spaces=False))
                if text.startswith(before) and _is_plain(text) and self._read(text) == tried:
                    break
            else:
                raise StudyError(
                    "plants: no random text of this model's tokens is read back as these tokens: use a family of "
                    "canaries other than random-token"
                )
            ids = tried
            pieces.append(text[len(before) :])
        return pieces

    def losses(self, texts: Sequence[str]) -> list[float]:
        """One pass of the untuned model over whole texts."""
        from byrote.target import Target

        context = self.context
        progress, loaded = context.progress, context.load_model()
        progress.start("base model: scoring candidates for canaries", len(texts))
        target = Target(loaded.model, loaded.tokenizer, max_length=self.max_length, device=context.device)
        target.check()
        return [one.loss for one in target.token_stats(list(texts), progress.listener())]

    @property
    def _tokenizer(self) -> Any:
        return self.context.tokenizer

    @cached_property
    def _vocabulary(self) -> list[int]:
        """Every token that is a part of texts."""
        special = {*self._tokenizer.all_special_ids, *self._tokenizer.added_tokens_decoder}
        return sorted(set(self._tokenizer.get_vocab().values()) - special)

    def _read(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return ids


def _is_plain(text: str) -> bool:
    """Whether it can stand in a file as one line, with nothing lost at its ends."""
    return text == text.strip() and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text


def _record(row: Mapping[str, Any]) -> Record:
    pairs = {name: tuple(map(tuple, row[name])) for name in ("attributes", "messages") if row[name] is not None}
    return Record(**{**row, **pairs})
