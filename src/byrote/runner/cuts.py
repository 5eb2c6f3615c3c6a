"""Records cut where a model goes on from them, by the tokens of a study's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from byrote.objectives.batching import encode
from byrote.types import Generation, Opening, text_key

if TYPE_CHECKING:
    from byrote.runner.context import Context


class Cut(NamedTuple):
    """A record where a model goes on from it."""

    given: str
    follows: str
    """As many tokens of what truly follows as the model may write."""
    rest: str
    """All that truly follows."""
    tokens: int
    """How many `follows` has."""


class Cuts:
    """Those of one study, each made once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._known: dict[tuple[str, int | None, int], Cut] = {}

    def of(self, opening: Opening) -> Cut:
        """A record cut where a model goes on from it; as far as the model reads it."""
        record, most = opening.record, opening.decoding.max_new_tokens
        key = (text_key(record.text), opening.prefix_tokens, most)
        if key not in self._known:
            if opening.prefix_tokens is None:
                rest = record.messages[-1][1] if record.messages is not None else record.completion or ""
                before, after = record.text.removesuffix(rest), self._ids(rest)
            else:
                ids = encode(self.context.tokenizer, [record.text], self.context.study.max_length)[0].ids
                before, after = self._text(ids[: opening.prefix_tokens]), ids[opening.prefix_tokens :]
                rest = self._text(after)
            self._known[key] = Cut(before, self._text(after[:most]), rest, len(after[:most]))
        return self._known[key]

    def as_long(self, said: Generation, cut: Cut) -> str:
        """What a model wrote, no further than as many tokens as truly follow."""
        return said.text if len(said.tokens) <= cut.tokens else self._text(said.tokens[: cut.tokens])

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.context.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.context.tokenizer.decode(list(ids), skip_special_tokens=True))
