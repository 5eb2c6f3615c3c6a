"""How near two texts are to being the same: pure functions, quick on long texts too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.extraction.rolling import Ints, Keys, Rolling

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU

Unit = Literal["characters", "words"]
"""What is counted; words are what white space parts."""


def edit_distance(a: str, b: str, *, unit: Unit = "characters", at_most: float = 1.0) -> float:
    """Insertions, deletions and substitutions that turn one text into the other, over the units of the longer one.

    In [0, 1]; 0 for two empty texts. What lies above `at_most` is given as 1: a low limit makes long texts quick.
    """
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_distance(*split(a, b, unit), score_cutoff=at_most))


def longest_common_subsequence(a: str, b: str, *, unit: Unit = "characters") -> int:
    """The most units that both texts have in the same order, whatever lies between them."""
    from rapidfuzz.distance import LCSseq

    return int(LCSseq.similarity(*split(a, b, unit)))


def longest_common_substring(a: str, b: str, *, unit: Unit = "characters") -> int:
    """The most units in a row that both texts have; the time grows with n log n."""
    shorter, longer = sorted((a, b), key=len)
    if unit == "characters" and shorter in longer:
        return len(shorter)
    ours, theirs = numbered(*split(a, b, unit))
    texts = Rolling(ours), Rolling(theirs)
    alive = np.arange(len(ours)), np.arange(len(theirs))
    # What is common in so many units is common in fewer, at the same places: double the length while any is left,
    # then halve the step.
    size, step, rising = 0, 1, True
    while step:
        left = _common(texts, alive, size + step)
        if len(left[0]):
            alive, size = left, size + step
        else:
            rising = False
        step = 2 * step if rising else step // 2
    return size


def _common(texts: tuple[Rolling, Rolling], starts: tuple[Ints, Ints], size: int) -> tuple[Ints, Ints]:
    """Of these places in both texts, those from which on the other text has the same `size` units at one of its own."""
    inside = [places[places + size <= len(text)] for text, places in zip(texts, starts, strict=True)]
    ours, theirs = (text.keys(places, places + size) for text, places in zip(texts, inside, strict=True))
    return inside[0][_among(ours, theirs)], inside[1][_among(theirs, ours)]


def _among(keys: Keys, others: Keys) -> NDArray[np.bool_]:
    """Which keys are among the others. numpy's isin sorts both in a way that takes several times as long."""
    if not len(others):
        return np.zeros(len(keys), dtype=bool)
    known = np.sort(others)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
    return found


def bleu(said: str, wanted: str) -> float:
    """sacrebleu's BLEU of one text against another, with orders that it is too short for left out; in [0, 1]."""
    return float(_bleu().sentence_score(said, [wanted]).score) / 100.0


@cache
def _bleu() -> BLEU:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)


def split(a: str, b: str, unit: Unit) -> tuple[Sequence[str], Sequence[str]]:
    """The units of both texts."""
    return (a, b) if unit == "characters" else (a.split(), b.split())


def numbered(a: Sequence[str], b: Sequence[str]) -> tuple[Ints, Ints]:
    """Both with a number for each distinct unit."""
    if isinstance(a, str) and isinstance(b, str):
        return code_points(a), code_points(b)
    numbers: dict[str, int] = {}
    ours, theirs = ([numbers.setdefault(unit, len(numbers)) for unit in units] for units in (a, b))
    return np.array(ours, dtype=np.int64), np.array(theirs, dtype=np.int64)


def code_points(text: str) -> Ints:
    """(T,) the Unicode number of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
