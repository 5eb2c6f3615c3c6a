"""Texts that differ from a record in a few words, made by the untuned base model and kept in its run's folder.

One pass says which tokens the base model would have found likeliest instead of each of a text. A neighbour has a share
of the tokens replaced by such ones. Two neighbours make a pair, which replaces the same tokens by different ones. What
is replaced turns on the text and the number of the pair alone, so that more neighbours begin with the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.runner.kept_tables import NEIGHBOURS_OF, Listen, in_parts
from byrote.store import RunFolder
from byrote.types import Unscorable, text_key

if TYPE_CHECKING:
    from byrote.runner.context import Context
    from byrote.target import Target

NEIGHBOURS, NO_NEIGHBOURS = "neighbours.parquet", "no-neighbours.json"
SHARE = 0.1
"""Of a text's tokens that are replaced; at least one."""
LIKELIEST = 12
"""Other tokens at each place, of which the first two that look like the one replaced are taken."""
PART = 512
"""Texts that are written at once: a kill loses no more."""
WORD_STARTS = "Ġ▁"
"""By which tokenizers mark a token that begins a word."""


@dataclass(frozen=True, slots=True)
class Place:
    """Characters of a text that one token holds, and one or two others that could stand there."""

    start: int
    end: int
    others: tuple[str, ...]


def read_neighbours(folder: RunFolder) -> dict[str, tuple[str, ...]]:
    """Neighbours by the key of what they are neighbours of."""
    return NEIGHBOURS_OF.of(folder, NEIGHBOURS)


def why_no_neighbours(folder: RunFolder) -> str:
    """The reason where none can be made with this model's tokenizer; else empty."""
    return str(folder.read_json(NO_NEIGHBOURS) or "")


def missing_neighbours(folder: RunFolder, texts: Iterable[str], count: int) -> list[str]:
    """Those of these texts that have fewer than so many neighbours, each once. A text in which no token can be
    replaced is known to have none."""
    if count and why_no_neighbours(folder):
        return []
    known = read_neighbours(folder) if count else {}
    wanted = {text_key(text): text for text in texts} if count else {}
    return [text for key, text in wanted.items() if key not in known or 0 < len(known[key]) < count]


def ensure_neighbours(
    context: Context, folder: RunFolder, target: Target, texts: Sequence[str], count: int, label: str
) -> None:
    """Make so many neighbours of each of these texts, where there are fewer."""
    missing = missing_neighbours(folder, texts, count)
    context.progress.start(f"{label}: making neighbours", len(missing))
    try:
        finder = Finder(context.tokenizer)
    except Unscorable as reason:  # for the attacks that read neighbours; all others go on
        folder.write_json(NO_NEIGHBOURS, str(reason))
        return
    known = read_neighbours(folder)

    def answer(part: Sequence[str], listen: Listen) -> dict[str, tuple[str, ...]]:
        found = {}
        for text, likely in zip(part, target.likeliest(target.encode(part), LIKELIEST), strict=True):
            before = known.get(text_key(text), ())  # what was asked already stays as it is
            found[text_key(text)] = before + neighbours_of(text, finder.places(text, likely), count)[len(before) :]
        return found

    NEIGHBOURS_OF.ask(folder, NEIGHBOURS, in_parts(missing, PART), answer, context.progress)


def neighbours_of(text: str, places: Sequence[Place], count: int) -> tuple[str, ...]:
    """So many texts with a share of the places filled otherwise; none where there is no place.

    The places are dealt to one pair after another until too few are left; then all are dealt anew.
    """
    if not places:
        return ()
    replaced = max(1, int(SHARE * len(places)))
    hands = len(places) // replaced
    found = []
    for pair in range(-(-count // 2)):
        deal, hand = divmod(pair, hands)
        order = np.random.default_rng([int(text_key(text)[:16], 16), deal]).permutation(len(places))
        chosen = [places[at] for at in sorted(order[hand * replaced : (hand + 1) * replaced].tolist())]
        found += [_filled(text, chosen, second) for second in (False, True)]
    return tuple(found[:count])


def _filled(text: str, places: Sequence[Place], second: bool) -> str:
    parts, end = [], 0
    for place in places:
        parts += [text[end : place.start], place.others[-1 if second else 0]]
        end = place.end
    return "".join([*parts, text[end:]])


class Finder:
    """Finds the places of a text whose token can be replaced, by what the tokenizer says of tokens and characters."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise Unscorable(
                f"{type(tokenizer).__name__} does not say which characters a token holds, so byrote cannot make the "
                "neighbours of a text; use a model with a fast tokenizer, or leave out neighbourhood and spv-mia"
            )
        self.tokenizer = tokenizer
        self.special = set(tokenizer.all_special_ids)
        self._words: dict[int, tuple[bool, str]] = {}

    def places(self, text: str, likely: np.ndarray[Any, np.dtype[np.int32]]) -> list[Place]:
        """From the (T, k) other tokens at the text's T targets: all its tokens but the first."""
        read = self.tokenizer(text, truncation=False, verbose=False, return_offsets_mapping=True)
        ids, spans = read["input_ids"], read["offset_mapping"]
        found, reached = [], 0
        for at, others in enumerate(likely.tolist(), start=1):
            start, end = spans[at]
            free = start >= reached and (at + 1 == len(spans) or spans[at + 1][0] >= end or spans[at + 1][1] == 0)
            reached = max(reached, end)
            words = self._others(ids[at], text[start:end], others) if free and text[start:end].strip() else ()
            if words:
                found.append(Place(start, end, words))
        return found

    def _others(self, own: int, piece: str, others: Sequence[int]) -> tuple[str, ...]:
        """The first two that begin a word where the token does, and are not the same word; with its white space."""
        begins, word = self._word(own)[0], piece.strip()
        left, right = piece[: len(piece) - len(piece.lstrip())], piece[len(piece.rstrip()) :]
        said = [self._word(other) for other in others if other not in self.special]
        words = [left + one + right for starts, one in said if starts == begins and one not in ("", word)]
        return tuple(dict.fromkeys(words))[:2]

    def _word(self, token: int) -> tuple[bool, str]:
        """Whether a token begins a word, and what it says; nothing, where it is but a part of a character."""
        if token not in self._words:
            raw = str(self.tokenizer.convert_ids_to_tokens(token))
            said = str(self.tokenizer.decode([token])).strip()
            self._words[token] = raw[:1] in WORD_STARTS, "" if "�" in said else said
        return self._words[token]
