"""What of a generated text only repeats its prompt: it says nothing of what was learned."""

from __future__ import annotations

import numpy as np

from byrote.attacks.extraction.plagiarism.documents import Document, Span, Vocabulary, read
from byrote.attacks.extraction.rolling import Rolling

RUN = 8
"""Words of the shortest run that counts as repeated."""
SENTENCE = 3
"""Words of the shortest sentence that counts as repeated: "Yes." stands in many texts."""


def echoed(generation: str, prompt: str) -> tuple[Span, ...]:
    """The characters of a generation that repeat its prompt: runs of at least 8 words, and whole sentences.

    A sentence is repeated where it is one of the prompt's, and has at least three words.
    """
    vocabulary = Vocabulary()
    said, asked = read(generation, vocabulary, 1), read(prompt, vocabulary, 1)
    repeated = np.zeros(len(said.words) + 1, dtype=np.int64)
    runs, sentences = repeated_runs(said, asked), repeated_sentences(said, asked)
    for low, high in (*runs, *sentences):
        repeated[low] += 1
        repeated[high] -= 1
    inside = np.concatenate([[0], (np.cumsum(repeated[:-1]) > 0).astype(np.int64), [0]])
    first, after = np.flatnonzero(np.diff(inside) == 1), np.flatnonzero(np.diff(inside) == -1)
    return tuple(zip(said.starts[first].tolist(), said.ends[after - 1].tolist(), strict=True))


def repeated_runs(said: Document, asked: Document) -> list[tuple[int, int]]:
    """From which to which word: all runs of 8 words that the prompt has too."""
    known = np.isin(Rolling(said.words).windows(RUN), Rolling(asked.words).windows(RUN))
    return [(start, start + RUN) for start in np.flatnonzero(known).tolist()]


def repeated_sentences(said: Document, asked: Document) -> list[tuple[int, int]]:
    """From which to which word: all sentences that are also one of the prompt's."""
    theirs = Rolling(asked.words).keys(asked.marked[:-1], asked.marked[1:])
    ours = Rolling(said.words).keys(said.marked[:-1], said.marked[1:])
    long_enough = np.diff(said.marked) >= SENTENCE
    known = np.flatnonzero(np.isin(ours, theirs) & long_enough)
    return list(zip(said.marked[known].tolist(), said.marked[known + 1].tolist(), strict=True))


def without(text: str, spans: tuple[Span, ...]) -> str:
    """The text with line breaks in place of these characters, so that all others stay where they are."""
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], "\n" * (end - start)]
        done = end
    return "".join([*parts, text[done:]])
