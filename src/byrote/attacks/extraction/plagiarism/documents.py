"""A text made ready once for every comparison: its words, sentences and bags of stems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.extraction.plagiarism.words import sentence_ends, spellings_of, word_of

Ints = NDArray[np.int64]
Span = tuple[int, int]
"""From where to where in the characters of a text, the second not included."""


class Vocabulary:
    """Numbers for words and stems in the order in which they come, and what counts of each spelling.

    One that is built on another one knows what that knows, and leaves it as it is.
    """

    def __init__(self, known: Vocabulary | None = None) -> None:
        self._known = known
        self._known_rows: Mapping[str, int] = known._rows if known else {}
        self._known_words: Mapping[str, int] = known.words if known else {}
        self._known_stems: Mapping[str, int] = known.stems if known else {}
        self._rows: dict[str, int] = {}
        self._facts = np.zeros((64, 4), dtype=np.int64)
        self.words: dict[str, int] = {}
        self.stems: dict[str, int] = {}

    def facts(self, spellings: Iterable[str]) -> Ints:
        """(W, 4): the numbers of the word and the stem of each (-1: none), and the word's length and gap."""
        known, own, size = self._known_rows, self._rows, len(self._known_rows)
        found = (
            known[one] if one in known else size + (own[one] if one in own else self._add(one)) for one in spellings
        )
        rows = np.fromiter(found, dtype=np.int64)
        facts = self._facts[np.maximum(rows - size, 0)]
        if self._known is not None:
            old = rows < size
            facts[old] = self._known._facts[rows[old]]
        return facts

    def _add(self, spelling: str) -> int:
        """A new row for a spelling that is not known."""
        row = self._rows[spelling] = len(self._rows)
        if row == len(self._facts):
            self._facts = np.concatenate([self._facts, np.zeros_like(self._facts)])
        word = word_of(spelling)
        if word is None:
            self._facts[row] = -1, -1, 0, 0
        else:
            number = _number(word.form, self._known_words, self.words)
            stem = -1 if word.stem is None else _number(word.stem, self._known_stems, self.stems)
            self._facts[row] = number, stem, word.length, word.gap
        return row


def _number(form: str, known: Mapping[str, int], own: dict[str, int]) -> int:
    return known[form] if form in known else own.setdefault(form, len(known) + len(own))


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


def read(text: str, vocabulary: Vocabulary, min_sentlen: int) -> Document:
    """A text with the numbers of its words and stems. A sentence of fewer counted words is joined to the next."""
    spellings, begins = spellings_of(text)
    facts = vocabulary.facts(spellings)
    is_word = facts[:, 0] >= 0
    words, stems, lengths, gaps = facts[is_word].T
    starts = np.array(begins, dtype=np.int64)[is_word]
    sizes = np.array([len(one) for one in spellings], dtype=np.int64)[is_word]
    ends = sentence_ends(text)
    marked_of = np.searchsorted(np.array(ends, dtype=np.int64), starts, side="right")
    joined = join_short(np.bincount(marked_of[stems >= 0], minlength=len(ends)), min_sentlen)
    spans = [trimmed(text, ends[first - 1] if first else 0, ends[last]) for first, last in joined]
    sentence_of_marked = np.full(len(ends), -1, dtype=np.int64)
    for number, (first, last) in enumerate(joined):
        sentence_of_marked[first : last + 1] = number
    return Document(
        words=words,
        starts=starts,
        ends=starts + sizes,
        lengths=lengths + gaps,
        gaps=gaps,
        stems=stems,
        marked=np.unique(np.append(np.searchsorted(marked_of, np.arange(len(ends))), len(starts))),
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
