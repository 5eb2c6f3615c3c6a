"""Leaving out exact and near-duplicates, so that no nonmember is a copy of a member."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote.types import Record, StudyError, normalise

Hashes = NDArray[np.uint64]

SHINGLE = 3  # words
PERMUTATIONS = 128
MISS_RATE = 1e-5  # the chance that a pair exactly at the threshold is never compared
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, from splitmix64 and xxHash


def remove_duplicates(records: Sequence[Record], threshold: float) -> tuple[tuple[Record, ...], dict[str, int]]:
    """The records without copies, in their order, and how many were left out by reason.

    A duplicate has the same normalised text as an earlier record. A near-duplicate has an exact Jaccard
    similarity of at least `threshold` (0 to 1; 1.0 turns this off) with an earlier record that is kept, over
    the sets of its runs of three normalised words. Candidates come from MinHash with banding (Broder 1997;
    Leskovec, Rajaraman and Ullman 2014, chapter 3), so a pair is missed with probability below 1e-5.
    The outcome depends on the records and the threshold only. Raises StudyError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise StudyError(f"data: near_duplicates is {threshold}, but must be above 0 and at most 1 (1 turns it off)")
    unique: dict[str, Record] = {}
    for record in records:
        unique.setdefault(normalise(record.text), record)
    counts = {"duplicate": len(records) - len(unique)}
    kept = tuple(unique.values())
    if threshold < 1:
        keep = distinct(list(unique), threshold)
        counts["near-duplicate"] = len(kept) - len(keep)
        kept = tuple(kept[index] for index in keep)
    return kept, {reason: count for reason, count in counts.items() if count}


def distinct(texts: Sequence[str], threshold: float) -> list[int]:
    """Indices of the texts that are no near-duplicate of an earlier text that is kept."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    sets: dict[int, Hashes] = {}
    words: dict[str, int] = {}
    for number, text in enumerate(texts):
        found = shingles(text, words)
        sketch: Any = empty.copy()
        sketch.update_batch((found >> np.uint64(32)).tolist())
        if any(jaccard(found, sets[other]) >= threshold for other in index.query(sketch)):
            continue
        index.insert(number, sketch, check_duplication=False)
        sets[number] = found
    return list(sets)


def shingles(text: str, words: dict[str, int]) -> Hashes:
    """The set of 64-bit hashes of all runs of three words, sorted; a shorter text is one run.

    `words` remembers the hash of each word between calls.
    """
    hashes = []
    for word in text.split():
        if word not in words:
            words[word] = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        hashes.append(words[word])
    run = np.zeros(max(len(hashes), SHINGLE), dtype=np.uint64)
    run[: len(hashes)] = hashes
    count = len(run) - SHINGLE + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for offset, multiplier in enumerate(MULTIPLIERS):
        # Multiplying, shifting and adding in turn makes the hash depend on the order of the words.
        mixed = (mixed ^ (mixed >> np.uint64(29))) + run[offset : offset + count]
        mixed *= np.uint64(multiplier)
    return np.unique(mixed ^ (mixed >> np.uint64(32)))


def jaccard(a: Hashes, b: Hashes) -> float:
    """The size of the intersection over the size of the union of two sorted sets."""
    smaller, larger = sorted((len(a), len(b)))
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (smaller + larger - common)


def bands(threshold: float) -> tuple[int, int]:
    """(bands, rows per band): the most rows that miss a pair at the threshold at most MISS_RATE of the time."""
    best = (PERMUTATIONS, 1)
    for rows in range(2, 17):
        count = PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= MISS_RATE:
            best = (count, rows)
    return best
