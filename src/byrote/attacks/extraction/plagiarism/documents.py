"""A text made ready once for every comparison: its words, sentences and bags of stems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.extraction.plagiarism.words import sentence_ends, words_of

Ints = NDArray[np.int64]
Span = tuple[int, int]
"""From where to where in the characters of a text, the second not included."""


class Numbers:
    """A number for each distinct string, in the order in which they come; `known` ones keep theirs."""

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self._known: Mapping[str, int] = known or {}
        self.own: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self.own)

    def of(self, strings: Iterable[str]) -> list[int]:
        """The numbers of strings, of which new ones are given the next."""
        known, own, first = self._known, self.own, len(self._known)
        return [known[one] if one in known else own.setdefault(one, first + len(own)) for one in strings]


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One text: W words in M marked-off sentences, which make S sentences that count."""

    words: Ints
    """(W,) the number of each word."""
    starts: Ints
    """(W,) from which character."""
    ends: Ints
    """(W,) to which."""
    lengths: Ints
    """(W,) characters of its form, and of the space after it."""
    gaps: Ints
    """(W,) 1 where a space parts it from the next word, else 0."""
    stems: Ints
    """(W,) the number of its stem; -1 where it is too short to count."""
    marked: Ints
    """(M + 1,) at which word each sentence begins, as they are marked off in the text, and W."""
    spans: Ints
    """(S, 2) the characters of the sentences that count, the white space around them left out."""
    sentence_of: Ints
    """(W,) which of the S sentences a word belongs to; -1 where none of its own has a word that counts."""


def read(text: str, words: Numbers, stems: Numbers, min_sentlen: int) -> Document:
    """A text with its words and stems by their numbers. A sentence of fewer counted words is joined to the next."""
    found = list(words_of(text))
    starts = np.array([one.start for one in found], dtype=np.int64)
    counted = np.array([one.word.stem is not None for one in found], dtype=bool)
    stem_numbers = np.full(len(found), -1, dtype=np.int64)
    stem_numbers[counted] = stems.of(one.word.stem for one in found if one.word.stem is not None)
    ends = sentence_ends(text)
    marked_of = np.searchsorted(np.array(ends, dtype=np.int64), starts, side="right")
    joined = join_short(np.bincount(marked_of[counted], minlength=len(ends)), min_sentlen)
    spans = [trimmed(text, ends[first - 1] if first else 0, ends[last]) for first, last in joined]
    sentence_of_marked = np.full(len(ends), -1, dtype=np.int64)
    for number, (first, last) in enumerate(joined):
        sentence_of_marked[first : last + 1] = number
    return Document(
        words=np.array(words.of(one.word.form for one in found), dtype=np.int64),
        starts=starts,
        ends=np.array([one.end for one in found], dtype=np.int64),
        lengths=np.array([one.word.length + one.word.gap for one in found], dtype=np.int64),
        gaps=np.array([one.word.gap for one in found], dtype=np.int64),
        stems=stem_numbers,
        marked=np.unique(np.append(np.searchsorted(marked_of, np.arange(len(ends))), len(found))),
        spans=np.array(spans, dtype=np.int64).reshape(-1, 2),
        sentence_of=sentence_of_marked[marked_of],
    )


def join_short(counts: Ints, least: int) -> list[tuple[int, int]]:
    """(first, last) of the marked-off sentences that each sentence is made of, by their counted words.

    One without such words is left out. One with fewer than `least` is joined to the next that has some; the last one
    has none to be joined to and stays.
    """
    joined: list[tuple[int, int]] = []
    first, total = -1, 0
    with_words = np.flatnonzero(counts).tolist()
    for number in with_words:
        first = number if total == 0 else first
        total += int(counts[number])
        if total >= least or number == with_words[-1]:
            joined.append((first, number))
            total = 0
    return joined


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends."""
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())


@dataclass(frozen=True, slots=True, eq=False)
class Bags:
    """How often S sentences have which stems, as a sparse matrix with L entries, sentence by sentence."""

    first: Ints
    """(S + 1,) the first entry of each sentence, and L."""
    stems: Ints
    """(L,)"""
    counts: NDArray[np.float64]
    """(L,)"""

    @property
    def rows(self) -> Ints:
        """(L,) the sentence of each entry."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    @classmethod
    def of(cls, sentences: Ints, stems: Ints, count: int) -> Bags:
        """From the sentence and the stem of each word; words without either (-1) are left out."""
        counted = (sentences >= 0) & (stems >= 0)
        width = int(stems.max(initial=0)) + 1
        keys, counts = np.unique(sentences[counted] * width + stems[counted], return_counts=True)
        first = np.searchsorted(keys // width, np.arange(count + 1))
        return cls(first, keys % width, counts.astype(np.float64))
