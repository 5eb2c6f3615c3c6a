"""Seeding: which sentences of a generated text and of training texts are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.extraction.plagiarism.documents import Bags, Document, Ints
from byrote.attacks.extraction.plagiarism.settings import Matching

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
BLOCK = 1 << 22
"""Pairs of sentences, or of a stem and a text, that are held at once: more would not fit memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """The bags of D training texts with V stems, and how many sentences have which stem."""

    bags: Bags
    sentence: Ints
    """(D + 1,) the first sentence of each text, and their number."""
    same_text: Ints
    """(L,) for each entry of the bags, how many sentences of the same text have its stem."""
    text: Ints
    """(D + 1,) where in the next two the stems of each text begin, and their length."""
    text_stems: Ints
    text_counts: Ints
    """The distinct stems of each text, and how many of its sentences have them."""
    all_texts: Ints
    """(V,) how many sentences of all texts have a stem."""

    @classmethod
    def of(cls, documents: Sequence[Document], stems: int) -> Sources:
        """`stems`: V."""
        sentence = np.cumsum([0, *(len(one.spans) for one in documents)])
        empty = np.zeros(0, dtype=np.int64)
        sentences = [
            np.where(one.sentence_of < 0, -1, one.sentence_of + first)
            for one, first in zip(documents, sentence, strict=False)
        ]
        bags = Bags.of(
            np.concatenate([empty, *sentences]),
            np.concatenate([empty, *(one.stems for one in documents)]),
            int(sentence[-1]),
        )
        text_of = np.repeat(np.arange(len(documents)), np.diff(sentence))[bags.rows]
        keys, inverse, counts = np.unique(text_of * max(stems, 1) + bags.stems, return_inverse=True, return_counts=True)
        return cls(
            bags=bags,
            sentence=sentence,
            same_text=counts[inverse],
            text=np.searchsorted(keys, np.arange(len(documents) + 1) * max(stems, 1)),
            text_stems=keys % max(stems, 1),
            text_counts=counts,
            all_texts=np.bincount(bags.stems, minlength=stems),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """The S sentences of one text with their tf-idf weights in one comparison, as a sparse matrix."""

    first: Ints
    """(S + 1,) the first entry of each sentence, and their number."""
    stems: Ints
    weights: Floats

    def passage(self, low: int, high: int) -> tuple[Ints, Floats]:
        """The entries of the sentences from `low` to `high`, both included."""
        entries = slice(self.first[low], self.first[high + 1])
        return self.stems[entries], self.weights[entries]

    def units(self, low: int, high: int, columns: Ints, width: int) -> csr_array:
        """The sentences from `low` to `high` as vectors of length 1 (or 0), by the columns that the entries have."""
        from scipy.sparse import csr_array

        first = self.first[low : high + 2] - self.first[low]
        _, weights = self.passage(low, high)
        norms = np.repeat(np.sqrt(np.add.reduceat(weights**2, first[:-1])), np.diff(first))
        units = np.divide(weights, norms, out=np.zeros(len(weights)), where=norms > 0)
        return csr_array((units, columns, first), shape=(len(first) - 1, width))


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A generated text beside one training text."""

    source: int
    """The number of the training text."""
    generated: Weighted
    training: Weighted
    seeds: Ints
    """(n, 2) which sentence of the generated text is like which of the training text."""

    def cosine(self, generated: tuple[int, int], training: tuple[int, int]) -> float:
        """Of two passages, each the sum of its sentences, given by their first and last sentence."""
        stems_a, weights_a = self.generated.passage(*generated)
        stems_b, weights_b = self.training.passage(*training)
        distinct, places = np.unique(np.concatenate([stems_a, stems_b]), return_inverse=True)
        a = np.bincount(places[: len(stems_a)], weights_a, len(distinct))
        b = np.bincount(places[len(stems_a) :], weights_b, len(distinct))
        norms = float(np.sqrt(a @ a) * np.sqrt(b @ b))
        return float(a @ b) / norms if norms > 0 else 0.0

    def best(self, generated: tuple[int, int], training: tuple[int, int]) -> Floats:
        """For each sentence of the generated passage its highest cosine with one of the training passage."""
        stems_a, _ = self.generated.passage(*generated)
        stems_b, _ = self.training.passage(*training)
        distinct, places = np.unique(np.concatenate([stems_a, stems_b]), return_inverse=True)
        a = self.generated.units(*generated, places[: len(stems_a)], len(distinct))
        b = self.training.units(*training, places[len(stems_a) :], len(distinct))
        return np.asarray((a @ b.T).max(axis=1).todense(), dtype=np.float64).ravel()


def pairs(bags: Bags, sources: Sources, numbers: Ints, settings: Matching) -> list[Pair]:
    """The generated text of these bags beside each of the numbered training texts with which it has seeds.

    A seed is a pair of sentences whose Dice coefficient of stem sets lies above th2 and whose cosine of tf-idf
    weights above th1. The weight of a stem is its count times log(N / df), natural: of N sentences df have it, both
    counted over what `settings.idf` says.
    """
    if len(bags.first) == 1:
        return []
    numbers = numbers[sources.sentence[numbers + 1] > sources.sentence[numbers]]
    step = max(1, BLOCK // len(bags.stems))
    chunks = (numbers[start : start + step] for start in range(0, len(numbers), step))
    return [pair for chunk in chunks for pair in Candidates(bags, sources, chunk, settings.idf).pairs(settings)]


class Candidates:
    """A generated text of S sentences with U distinct stems beside C training texts, compared all at once."""

    def __init__(self, bags: Bags, sources: Sources, numbers: Ints, idf: str) -> None:
        self.bags, self.numbers = bags, numbers
        self.low, self.high = sources.sentence[numbers], sources.sentence[numbers + 1]
        self.rows = spread(self.low, self.high)
        """The sentences of all C texts, one text after the other."""
        self.row_first = np.concatenate([[0], np.cumsum(np.diff(sources.bags.first)[self.rows])])
        entries = spread(sources.bags.first[self.rows], sources.bags.first[self.rows + 1])
        self.stems, self.counts = sources.bags.stems[entries], sources.bags.counts[entries]
        self.distinct, self.columns = np.unique(bags.stems, return_inverse=True)
        """(U,), and for each entry of the bags which of these it is."""
        column_of = np.full(max(len(sources.all_texts), int(self.distinct.max(initial=-1)) + 1), -1)
        column_of[self.distinct] = np.arange(len(self.distinct))
        self.their_columns = column_of[self.stems]
        """For each of their entries which of the U stems it has; -1 where it has another."""
        self._weigh(sources, entries, column_of, idf)

    def _weigh(self, sources: Sources, entries: Ints, column_of: Ints, idf: str) -> None:
        """Sets `idf`: (C, U), and `their_idf`, one for each of their entries."""
        ours = np.append(np.bincount(self.columns, minlength=len(self.distinct)), 0)  # the last for column -1
        sentences = self.high - self.low if idf == "pair" else np.full(len(self.numbers), sources.sentence[-1])
        sentences = sentences + len(self.bags.first) - 1
        theirs = np.zeros((len(self.numbers), len(self.distinct)), dtype=np.int64)
        if idf == "pair":
            first, last = sources.text[self.numbers], sources.text[self.numbers + 1]
            listed = spread(first, last)
            column = column_of[sources.text_stems[listed]]
            place = np.repeat(np.arange(len(self.numbers)), last - first)
            theirs[place[column >= 0], column[column >= 0]] = sources.text_counts[listed][column >= 0]
            same = sources.same_text[entries]
        else:
            known = self.distinct < len(sources.all_texts)
            theirs[:, known] = sources.all_texts[self.distinct[known]]
            same = sources.all_texts[self.stems]
        text_of = np.repeat(np.repeat(np.arange(len(self.numbers)), self.high - self.low), np.diff(self.row_first))
        self.idf = np.log(sentences[:, None] / (theirs + ours[:-1]))
        self.their_idf = np.log(sentences[text_of] / (same + ours[self.their_columns]))
        if idf == "none":
            self.idf, self.their_idf = np.ones_like(self.idf), np.ones_like(self.their_idf)

    def pairs(self, settings: Matching) -> list[Pair]:
        """Those with seeds."""
        row, column = self.seeds(settings)
        place = np.repeat(np.arange(len(self.numbers)), self.high - self.low)[column]
        order = np.argsort(place, kind="stable")
        bounds = np.searchsorted(place[order], np.arange(len(self.numbers) + 1))
        begins = np.concatenate([[0], np.cumsum(self.high - self.low)])
        found = []
        for at in np.flatnonzero(np.diff(bounds)).tolist():
            here = order[bounds[at] : bounds[at + 1]]
            first = self.row_first[begins[at] : begins[at + 1] + 1]
            entries = slice(first[0], first[-1])
            generated = Weighted(self.bags.first, self.bags.stems, self.bags.counts * self.idf[at, self.columns])
            weights = self.counts[entries] * self.their_idf[entries]
            training = Weighted(first - first[0], self.stems[entries], weights)
            seeds = np.stack([row[here], column[here] - begins[at]], axis=1)
            found.append(Pair(int(self.numbers[at]), generated, training, seeds))
        return found

    def seeds(self, settings: Matching) -> tuple[Ints, Ints]:
        """The rows of seeds in the generated text, and among the sentences of all C texts."""
        from scipy.sparse import csr_array

        known = self.their_columns >= 0
        first = np.concatenate([[0], np.cumsum(known)])[self.row_first]
        columns, weights = self.their_columns[known], (self.counts * self.their_idf**2)[known]
        shape = len(self.rows), len(self.distinct)
        words = csr_array((np.ones(len(columns)), columns, first), shape=shape).T
        theirs = csr_array((weights, columns, first), shape=shape).T
        sizes, their_sizes = np.diff(self.bags.first), np.diff(self.row_first)
        norms, their_norms = self._norms()
        place = np.repeat(np.arange(len(self.numbers)), self.high - self.low)
        found = [np.zeros((2, 0), dtype=np.int64)]
        step = max(1, BLOCK // max(len(self.rows), 1))
        for start in range(0, len(sizes), step):
            block = self.bags.first[start : start + step + 1]
            entries, shape = slice(block[0], block[-1]), (len(block) - 1, len(self.distinct))
            parts = self.columns[entries], block - block[0]
            common = (csr_array((np.ones(len(parts[0])), *parts), shape=shape) @ words).toarray()
            row, column = np.nonzero(2 * common / (sizes[start : start + step, None] + their_sizes) > settings.th2)
            dots = (csr_array((self.bags.counts[entries], *parts), shape=shape) @ theirs).toarray()[row, column]
            both = norms[place[column], row + start] * their_norms[column]
            cosines = np.divide(dots, both, out=np.zeros(len(dots)), where=both > 0)
            found.append(np.stack([row + start, column])[:, cosines > settings.th1])
        row, column = np.concatenate(found, axis=1)
        return row, column

    def _norms(self) -> tuple[Floats, Floats]:
        """Of the generated sentences beside each text, (C, S), and of the sentences of those texts."""
        from scipy.sparse import csr_array

        shape = len(self.bags.first) - 1, len(self.distinct)
        squares = csr_array((self.bags.counts**2, self.columns, self.bags.first), shape=shape)
        theirs = np.add.reduceat((self.counts * self.their_idf) ** 2, self.row_first[:-1])
        return np.sqrt((squares @ (self.idf**2).T).T), np.sqrt(theirs)


def spread(low: Ints, high: Ints) -> Ints:
    """The whole numbers of all ranges from `low` to `high`, one range after the other."""
    sizes = high - low
    begins: Ints = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ranges: Ints = np.arange(int(sizes.sum())) + np.repeat(low - begins[: len(low)], sizes)
    return ranges
