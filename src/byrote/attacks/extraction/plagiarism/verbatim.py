"""Verbatim copies: runs of the same words in a generated text and in any training text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from byrote.attacks.extraction.plagiarism.documents import Document, Ints
from byrote.attacks.extraction.rolling import Keys, Rolling


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The same words in both texts, by the number of the training text and from which to which word of each."""

    source: int
    generated: tuple[int, int]
    training: tuple[int, int]


class Runs:
    """All runs of words of D training texts that are just longer than `minlen` characters, by their hashes.

    The length of a run is that of its words with one space between them (none in scripts that have none), so that it
    is the same in both texts whatever else stands between. A common run that is longer than the limit contains, from
    its first word on, the shortest run that is longer: looked up are these, one for each word. So no common run is
    missed, in whatever training text, and time grows with the words and the runs that are found.
    """

    def __init__(self, documents: Sequence[Document], minlen: int) -> None:
        none = np.zeros(0, dtype=np.int64)
        self._minlen = minlen
        self._first = np.cumsum([0, *(len(one.words) for one in documents)])
        self._words = np.concatenate([none, *(one.words for one in documents)])
        self._hashes = Rolling(self._words)
        limits = np.repeat(self._first[1:], np.diff(self._first))
        lengths = np.concatenate([none, *(one.lengths for one in documents)])
        gaps = np.concatenate([none, *(one.gaps for one in documents)])
        starts, ends = shortest_runs(lengths, gaps, limits, minlen)
        keys = self._hashes.keys(starts, ends)
        order = np.argsort(keys, kind="stable")  # so that the places of a key are in their order in the texts
        self._keys, self._starts = keys[order], starts[order]
        self._source = np.searchsorted(self._first, self._starts, side="right") - 1
        new = np.ones(len(order) + 1, dtype=bool)
        new[1:-1] = (self._keys[1:] != self._keys[:-1]) | (self._source[1:] != self._source[:-1])
        self._group = np.flatnonzero(new)
        """Where the places of one key in one text begin, and their number."""
        self._group_keys = self._keys[self._group[:-1]]

    def common(self, document: Document, limits: Ints) -> list[Run]:
        """The longest runs that a generated text shares with each training text, from each word of it on.

        None is listed for a word whose shortest run lies in one that was listed before. `limits`: (W,) the word
        before which a run that has this word must end.
        """
        starts, ends = shortest_runs(document.lengths, document.gaps, limits, self._minlen)
        hashes = Rolling(document.words)
        hits = self._hits(hashes.keys(starts, ends))
        found: list[Run] = []
        for source in sorted(hits):
            done = 0
            for place, group in sorted(hits[source]):
                begin, least = int(starts[place]), int(ends[place])
                if least <= done:
                    continue
                run = self._longest(document, hashes, begin, least, int(limits[begin]), group)
                if run is not None:
                    found.append(run)
                    done = run.generated[1]
        return found

    def _hits(self, keys: Keys) -> dict[int, list[tuple[int, int]]]:
        """For each training text with any of these keys: which of them, and the group of its places."""
        distinct, which = np.unique(keys, return_inverse=True)
        low, high = (np.searchsorted(self._group_keys, distinct, side=side) for side in ("left", "right"))
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(len(distinct) + 1))
        hits: dict[int, list[tuple[int, int]]] = {}
        for key in np.flatnonzero(high > low).tolist():
            places = order[bounds[key] : bounds[key + 1]].tolist()
            for group in range(low[key], high[key]):
                source = int(self._source[self._group[group]])
                hits.setdefault(source, []).extend((place, group) for place in places)
        return hits

    def _longest(
        self, document: Document, hashes: Rolling, begin: int, least: int, limit: int, group: int
    ) -> Run | None:
        """The longest run from a word on that one training text has too, of all places where it has the shortest."""
        places = self._starts[self._group[group] : self._group[group + 1]]
        source = int(self._source[self._group[group]])
        first, end = int(self._first[source]), int(self._first[source + 1])
        low, high = least - begin, min(limit - begin, end - int(places[0]))
        while len(places) > 1 and low < high:
            size = (low + high + 1) // 2
            wanted = hashes.keys(np.array([begin]), np.array([begin + size]))
            fit = places[places + size <= end]
            fit = fit[self._hashes.keys(fit, fit + size) == wanted]
            places, low, high = (fit, size, high) if len(fit) else (places, low, size - 1)
        start = int(places[0])
        room = min(limit - begin, end - start)
        size = shared(document.words[begin : begin + room], self._words[start : start + room])
        if begin + size < least:  # two different runs have the same hash
            return None
        return Run(source, (begin, begin + size), (start - first, start - first + size))


def shortest_runs(lengths: Ints, gaps: Ints, limits: Ints, minlen: int) -> tuple[Ints, Ints]:
    """From which to which word: for each word the shortest run from it on of more than `minlen` characters, if any."""
    sums = np.concatenate([[0], np.cumsum(lengths)])
    last = np.searchsorted(sums[1:] - gaps, sums[:-1] + minlen, side="right")
    starts = np.flatnonzero(last < limits)
    return starts, last[starts] + 1


def shared(a: Ints, b: Ints) -> int:
    """How many of the first words are the same."""
    done, step = 0, 64
    while done < len(a):
        differ = a[done : done + step] != b[done : done + step]
        if differ.any():
            return done + int(differ.argmax())
        done, step = done + step, 2 * step
    return len(a)
