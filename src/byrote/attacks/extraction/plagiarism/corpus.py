"""Generated text against the training texts: which class of plagiarism it is, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from byrote.attacks.extraction.plagiarism.cases import Case, as_spans, cases
from byrote.attacks.extraction.plagiarism.documents import Bags, Document, Ints, Span, Vocabulary, read
from byrote.attacks.extraction.plagiarism.echo import echoed, without
from byrote.attacks.extraction.plagiarism.retrieval import Retrieval
from byrote.attacks.extraction.plagiarism.seeds import Pair, Sources, pairs
from byrote.attacks.extraction.plagiarism.settings import Matching
from byrote.attacks.extraction.plagiarism.verbatim import Run, Runs

Kind = Literal["verbatim", "idea", "paraphrase", "none"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a generated text is, at most one class, and the passages that make it so.

    "paraphrase" is a candidate until its sentences are confirmed (`paraphrase.py`).
    """

    kind: Kind
    cases: tuple[Case, ...] = ()
    """By training text and place."""
    echoed: tuple[Span, ...] = ()
    """The characters that were left out because they repeat the prompt."""
    candidates: tuple[int, ...] = ()
    """The training texts that it was aligned with, best first; none where it is verbatim."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A generated text beside one training text."""

    source: int
    seeds: tuple[tuple[int, int], ...]
    """Which sentence of the generated text is like which of the training text."""
    cases: tuple[Case, ...]
    """With the gaps of the first pass."""
    wide_cases: tuple[Case, ...]
    """With those of the second, in which an idea is looked for."""
    is_idea: bool
    """Whether the wide cases are as much longer on the one side as the settings say."""


class Corpus:
    """Training texts, made ready once for any number of generated texts.

    What follows the prompt in each record is what a model must not repeat; whole records may be given too.
    """

    def __init__(self, texts: Sequence[str], settings: Matching | None = None) -> None:
        self.settings = settings or Matching()
        self.texts = tuple(texts)
        self._vocabulary = Vocabulary()
        self._documents = [read(text, self._vocabulary, self.settings.min_sentlen) for text in self.texts]
        self._sources = Sources.of(self._documents, len(self._vocabulary.stems))
        self._runs = Runs(self._documents, self.settings.verbatim_minlen)
        self._retrieval = Retrieval(self._documents, self._vocabulary.words)

    def __len__(self) -> int:
        return len(self.texts)

    def classify(self, generation: str, prompt: str = "") -> Verdict:
        """The class of a generated text, in the published order: verbatim, idea, paraphrase (a candidate), or none.

        Verbatim is looked for in every training text, the others in those that the search finds. What only repeats
        the prompt is left out before.
        """
        echo = echoed(generation, prompt) if prompt else ()
        text = without(generation, echo)
        document, bags = self._read(text)
        if runs := self._runs.common(document, limits_of(document, echo)):
            return Verdict("verbatim", tuple(self._case(run, document) for run in runs), echo)
        candidates = self._retrieval.best(document, self.settings.candidates)
        found = [self._aligned(pair, document) for pair in self._pairs(bags, candidates)]
        numbers = tuple(candidates.tolist())
        if ideas := [case for one in found if one.is_idea for case in one.wide_cases]:
            return Verdict("idea", tuple(sorted(ideas)), echo, numbers)
        if close := [case for one in found for case in one.cases]:
            return Verdict("paraphrase", tuple(sorted(close)), echo, numbers)
        return Verdict("none", (), echo, numbers)

    def align(self, generation: str, sources: Sequence[int] | None = None) -> list[Alignment]:
        """The generated text beside each of these training texts (all, if none are named) with which it has seeds."""
        document, bags = self._read(generation)
        numbers = np.array(range(len(self)) if sources is None else sources, dtype=np.int64)
        return [self._aligned(pair, document) for pair in self._pairs(bags, numbers)]

    def _read(self, text: str) -> tuple[Document, Bags]:
        document = read(text, Vocabulary(self._vocabulary), self.settings.min_sentlen)
        return document, Bags.of(document.sentence_of, document.stems, len(document.spans))

    def _pairs(self, bags: Bags, numbers: Ints) -> list[Pair]:
        return pairs(bags, self._sources, numbers, self.settings)

    def _aligned(self, pair: Pair, document: Document) -> Alignment:
        settings, theirs = self.settings, self._documents[pair.source].spans
        close = cases(pair, document.spans, theirs, (settings.susp_gap, settings.src_gap), settings)
        gaps = (settings.susp_gap_summary, settings.src_gap_summary)
        wide = cases(pair, document.spans, theirs, gaps, settings)
        said = sum(case.generated[1] - case.generated[0] for case in wide)
        learned = sum(case.training[1] - case.training[0] for case in wide)
        longer, shorter = (learned, said) if settings.idea == "training longer" else (said, learned)
        is_idea = bool(wide) and longer >= settings.idea_ratio * shorter
        seeds = tuple((ours, their) for ours, their in pair.seeds.tolist())
        return Alignment(pair.source, seeds, tuple(close), tuple(wide), is_idea)

    def _case(self, run: Run, document: Document) -> Case:
        theirs = self._documents[run.source]
        return Case(
            run.source,
            characters(document, run.generated),
            characters(theirs, run.training),
            sentences(document, run.generated),
            sentences(theirs, run.training),
        )


def limits_of(document: Document, cuts: Sequence[Span]) -> Ints:
    """(W,) for each word the word before which a run must end: one does not go on across what was left out."""
    ends = np.append(np.searchsorted(document.starts, [start for start, _ in cuts]), len(document.words))
    return ends[np.searchsorted(ends, np.arange(len(document.words)), side="right")].astype(np.int64)


def characters(document: Document, words: tuple[int, int]) -> Span:
    """From where to where a run of words stands in the text."""
    return int(document.starts[words[0]]), int(document.ends[words[1] - 1])


def sentences(document: Document, words: tuple[int, int]) -> tuple[Span, ...]:
    """The sentences that a run of words lies in."""
    numbers = np.unique(document.sentence_of[words[0] : words[1]])
    return as_spans(document.spans[numbers[numbers >= 0]])
