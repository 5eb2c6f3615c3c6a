"""The sentences of a text, and how near sentences are to one another by a sentence encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.base import Embed
from byrote.attacks.extraction.plagiarism.words import sentence_ends
from byrote.types import Floats

LEAST_WORDS = 3
"""Of a sentence; a shorter one says too little to be compared alone."""
CHUNK = 1 << 22
"""Cosines that are held at once."""
DECIMALS = 6
"""Of a cosine. What comes after turns on the texts that the encoder read beside this one."""
# Thai and its neighbours, and East Asian scripts, put no spaces between words: there each character counts as one.
WORD = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\w+"
)


def sentences_of(text: str, least: int = LEAST_WORDS) -> list[str]:
    """The sentences of a text without white space around them.

    One of fewer than `least` words is joined to the next. Where the last one is, it is left out, unless it is all.
    """
    text = text.encode("utf-8", "replace").decode()  # no encoder takes half of a surrogate pair
    ends = sentence_ends(text)
    found: list[str] = []
    begun = ""
    for start, end in zip([0, *ends], ends, strict=False):
        begun += text[start:end]
        if _words(begun, least) >= least:
            found.append(begun.strip())
            begun = ""
    return found or ([begun.strip()] if begun.strip() else [])


def _words(text: str, most: int) -> int:
    """How many words it has; counted no further than `most`."""
    count = 0
    for _ in WORD.finditer(text):
        count += 1
        if count == most:
            break
    return count


def best_matches(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> Floats:
    """(N,) the highest cosine of each of N vectors with any of M others; 0 where it is negative, or M is 0."""
    best = np.zeros(len(vectors))
    rows = max(1, CHUNK // max(1, len(others)))
    for start in range(0, len(vectors) if len(others) else 0, rows):
        best[start : start + rows] = (vectors[start : start + rows] @ others.T).max(axis=1)
    return clipped(best)


def paraphrase_scores(embed: Embed, pairs: Sequence[tuple[str, str]]) -> Floats:
    """(P,) how near the two sentences of each pair are: their cosine, 0 where it is negative; 1 for equal ones."""
    if not pairs:
        return np.zeros(0)
    places = {text: at for at, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    vectors = embed(list(places)).astype(np.float64)
    left, right = (vectors[[places[pair[side]] for pair in pairs]] for side in (0, 1))
    return clipped((left * right).sum(axis=1))


def clipped(cosines: Floats) -> Floats:
    """Cosines in [0, 1], as far as they are exact."""
    return np.clip(np.round(cosines, DECIMALS), 0.0, 1.0)
