"""Confirming that what looks like a paraphrase is one, by a scorer of sentence pairs that the caller brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from byrote.attacks.extraction.plagiarism.corpus import Corpus, Verdict
from byrote.types import normalise


class SentencePair(NamedTuple):
    """A sentence of the generated text and one of a training text, out of the same case."""

    generated: str
    training: str


def sentence_pairs(verdict: Verdict, generation: str, corpus: Corpus) -> Iterator[SentencePair]:
    """All pairs of sentences inside the two passages of each case, as published, each once."""
    seen: set[SentencePair] = set()
    for case in verdict.cases:
        source = corpus.texts[case.source]
        for start, end in case.generated_sentences:
            for their_start, their_end in case.training_sentences:
                pair = SentencePair(generation[start:end], source[their_start:their_end])
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def confirm(
    pairs: Sequence[SentencePair], scores: Sequence[float], threshold: float = 0.5
) -> Literal["confident", "unconfirmed"]:
    """Whether any pair scores above the threshold. A sentence and itself count as 0: that is no paraphrase.

    `scores` are the scorer's, one for each pair: the probability of a paraphrase by a classifier (published: above
    0.5), or a similarity of sentence embeddings with a threshold of its own.
    """
    if len(pairs) != len(scores):
        raise ValueError(f"{len(pairs)} pairs but {len(scores)} scores")
    above = (
        score > threshold
        for pair, score in zip(pairs, scores, strict=True)
        if normalise(pair.generated) != normalise(pair.training)
    )
    return "confident" if any(above) else "unconfirmed"
