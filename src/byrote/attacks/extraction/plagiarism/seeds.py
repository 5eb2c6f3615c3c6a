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
BLOCK = 1 << 24
"""Pairs of sentences that are compared at once: the product of more would not fit memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """The bags of D training texts with V stems, and how many sentences have which stem."""

    bags: Bags
    sentence: Ints
    """(D + 1,) the first sentence of each text, and their number."""
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
        keys, counts = np.unique(text_of * max(stems, 1) + bags.stems, return_counts=True)
        return cls(
            bags=bags,
            sentence=sentence,
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
    low, high = sources.sentence[numbers], sources.sentence[numbers + 1]
    rows, places, columns = alike(bags, sources.bags, low, high, settings.th2)
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[order], np.arange(len(numbers) + 1))
    ours = np.bincount(bags.stems, minlength=len(sources.all_texts))
    found = []
    for place in np.flatnonzero(np.diff(bounds)).tolist():
        here = order[bounds[place] : bounds[place + 1]]
        generated, training = weighted(bags, ours, sources, int(numbers[place]), settings.idf)
        a = generated.units(0, len(generated.first) - 2, generated.stems, len(ours))
        b = training.units(0, len(training.first) - 2, training.stems, len(ours))
        cosines = np.asarray(a[rows[here]].multiply(b[columns[here]]).sum(axis=1)).ravel()
        seeds = np.stack([rows[here], columns[here]], axis=1)[cosines > settings.th1]
        if len(seeds):
            found.append(Pair(int(numbers[place]), generated, training, seeds))
    return found


def alike(bags: Bags, training: Bags, low: Ints, high: Ints, th2: float) -> tuple[Ints, Ints, Ints]:
    """Pairs of sentences whose Dice coefficient of stem sets lies above th2, by one sparse product.

    Compared are those of `bags` with those of `training` in the ranges from `low` to `high`. Given are the row in the
    one, the range, and the row within the range.
    """
    from scipy.sparse import csr_array

    chosen = spread(low, high)
    entries = spread(training.first[chosen], training.first[chosen + 1])
    sizes, their_sizes = np.diff(bags.first), np.diff(training.first)[chosen]
    width = int(max(bags.stems.max(initial=0), training.stems.max(initial=0))) + 1
    their_first = np.concatenate([[0], np.cumsum(their_sizes)])
    theirs = csr_array(
        (np.ones(len(entries), np.int32), training.stems[entries], their_first), shape=(len(chosen), width)
    )
    ours = csr_array((np.ones(len(bags.stems), np.int32), bags.stems, bags.first), shape=(len(sizes), width))
    step = max(1, BLOCK // max(len(chosen), 1))
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(sizes), step):
        common = (ours[start : start + step] @ theirs.T).tocoo()
        row, column = common.coords[0] + start, common.coords[1]
        dice = 2 * common.data / (sizes[row] + their_sizes[column])
        rows.append(row[dice > th2])
        columns.append(column[dice > th2])
    row, column = np.concatenate(rows), np.concatenate(columns)
    place = np.repeat(np.arange(len(low)), high - low)[column]
    return row, place, chosen[column] - low[place]


def weighted(bags: Bags, ours: Ints, sources: Sources, number: int, idf: str) -> tuple[Weighted, Weighted]:
    """The generated text and one training text with the weights of their comparison; `ours`: (V',) df in `bags`."""
    low, high = sources.sentence[number], sources.sentence[number + 1]
    first = sources.bags.first[low : high + 1]
    entries = slice(first[0], first[-1])
    stems = sources.bags.stems[entries]
    theirs = np.zeros(len(ours), dtype=np.int64)
    if idf == "pair":
        part = slice(sources.text[number], sources.text[number + 1])
        theirs[sources.text_stems[part]] = sources.text_counts[part]
        sentences = int(high - low) + len(bags.first) - 1
    else:
        theirs[: len(sources.all_texts)] = sources.all_texts
        sentences = int(sources.sentence[-1]) + len(bags.first) - 1

    def weights(stems: Ints, counts: Floats) -> Floats:
        return counts if idf == "none" else counts * np.log(sentences / (ours[stems] + theirs[stems]))

    return (
        Weighted(bags.first, bags.stems, weights(bags.stems, bags.counts)),
        Weighted(first - first[0], stems, weights(stems, sources.bags.counts[entries])),
    )


def spread(low: Ints, high: Ints) -> Ints:
    """The whole numbers of all ranges from `low` to `high`, one range after the other."""
    sizes = high - low
    begins: Ints = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ranges: Ints = np.arange(int(sizes.sum())) + np.repeat(low - begins[: len(low)], sizes)
    return ranges
