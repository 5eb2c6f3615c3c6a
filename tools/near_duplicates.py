"""Near-duplicates of paragraphs: MinHash finds the candidates, exact set arithmetic decides.

Two paragraphs nearly repeat each other when the Jaccard similarity of their sets of 5-word shingles reaches
`JACCARD`; a paragraph nearly repeats a body of text when more than `CONTAINED` of its 8-word shingles occur in it,
which catches templates whose slots are spread over many paragraphs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from datasketch import MinHash, MinHashLSH

JACCARD = 0.5
CONTAINED = 0.5
PERMUTATIONS = 128
CANDIDATE_THRESHOLD = 0.4  # below JACCARD, so that the sketch's error seldom hides a true pair

_WORD = re.compile(r"[a-z0-9]+")


def shingles(text: str, length: int) -> frozenset[int]:
    """64-bit hashes of the runs of `length` words (letters and digits, lower case); a shorter text is one run."""
    words = _WORD.findall(text.lower())
    runs = (" ".join(words[i : i + length]) for i in range(max(1, len(words) - length + 1)))
    return frozenset(int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest()) for run in runs)


def jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    return len(left & right) / len(left | right)


def _low_bits(shingle: bytes) -> int:
    return int.from_bytes(shingle[-4:])


def sketches(sets: Sequence[frozenset[int]]) -> Iterable[MinHash]:
    rows = ([shingle.to_bytes(8) for shingle in sorted(items)] for items in sets)
    return MinHash.generator(rows, num_perm=PERMUTATIONS, seed=1, hashfunc=_low_bits)


class Body:
    """Texts met so far; tells whether another one nearly repeats any of them."""

    def __init__(self) -> None:
        self.index = MinHashLSH(threshold=CANDIDATE_THRESHOLD, num_perm=PERMUTATIONS)
        self.sets: list[frozenset[int]] = []
        self.runs: set[int] = set()

    def add(self, five: frozenset[int], eight: frozenset[int], sketch: MinHash) -> None:
        self.index.insert(len(self.sets), sketch, check_duplication=False)
        self.sets.append(five)
        self.runs |= eight

    def repeats(self, five: frozenset[int], eight: frozenset[int], sketch: MinHash) -> bool:
        if len(eight & self.runs) > CONTAINED * len(eight):
            return True
        return any(jaccard(five, self.sets[key]) >= JACCARD for key in self.index.query(sketch))


def body_of(texts: Sequence[str]) -> Body:
    """Every text of a release, as what later ones must not repeat."""
    body = Body()
    fives = [shingles(text, 5) for text in texts]
    for text, five, sketch in zip(texts, fives, sketches(fives), strict=True):
        body.add(five, shingles(text, 8), sketch)
    return body


def distinct(texts: Sequence[str], *others: Body) -> list[str]:
    """The texts, in order, that nearly repeat neither an earlier one that was kept nor a text of `others`."""
    kept: list[str] = []
    seen = Body()
    fives = [shingles(text, 5) for text in texts]
    for text, five, sketch in zip(texts, fives, sketches(fives), strict=True):
        eight = shingles(text, 8)
        if any(body.repeats(five, eight, sketch) for body in (seen, *others)):
            continue
        seen.add(five, eight, sketch)
        kept.append(text)
    return kept


class Exact:
    """The 5-word shingles of a pool of texts, for similarities without a sketch's error."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.sets = [shingles(text, 5) for text in texts]
        self.where: dict[int, list[int]] = {}
        for index, items in enumerate(self.sets):
            for shingle in items:
                self.where.setdefault(shingle, []).append(index)

    def nearest(self, text: str, before: int | None = None) -> float:
        """The largest Jaccard similarity of a text with one of the pool (with its first `before` texts)."""
        five = shingles(text, 5)
        shared: dict[int, int] = {}
        for shingle in five:
            for other in self.where.get(shingle, ()):
                if before is None or other < before:
                    shared[other] = shared.get(other, 0) + 1
        ratios = (count / (len(five) + len(self.sets[other]) - count) for other, count in shared.items())
        return max(ratios, default=0.0)


def exactly_distinct(texts: Sequence[str], older: Exact) -> list[str]:
    """What is left of texts when the few pairs that the sketches missed are taken out too."""
    own = Exact(texts)
    return [
        text
        for index, text in enumerate(texts)
        if older.nearest(text) < JACCARD and own.nearest(text, before=index) < JACCARD
    ]
