"""Made-up texts for tests of plagiarism: of nonsense words, so that nothing is alike by chance."""

from __future__ import annotations

import numpy as np

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il", "om")]


def vocabulary(generator: np.random.Generator, size: int) -> list[str]:
    """Distinct words of two to four syllables."""
    found: dict[str, None] = {}
    while len(found) < size:
        found["".join(generator.choice(SYLLABLES, generator.integers(2, 5)))] = None
    return list(found)


def sentence(generator: np.random.Generator, words: list[str], low: int = 6, high: int = 16) -> str:
    """Words by Zipf's law, as in real text."""
    chances = 1 / np.arange(1, len(words) + 1)
    chosen = generator.choice(words, generator.integers(low, high), p=chances / chances.sum())
    return " ".join([str(chosen[0]).capitalize(), *map(str, chosen[1:])]) + "."


def document(generator: np.random.Generator, words: list[str], sentences: int) -> list[str]:
    return [sentence(generator, words) for _ in range(sentences)]


def substituted(generator: np.random.Generator, text: str, words: list[str], share: float) -> str:
    """The sentence with this share of its words replaced by others."""
    kept = text.rstrip(".").split()
    for place in generator.choice(len(kept), round(share * len(kept)), replace=False):
        kept[place] = str(generator.choice(words))
    return " ".join(kept).capitalize() + "."
