"""Plagiarism as an extraction measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from byrote.attacks.base import Background, Evidence
from byrote.attacks.extraction.base import Form, Measure, WrittenMeasure
from byrote.attacks.extraction.plagiarism.corpus import Corpus, Verdict
from byrote.attacks.extraction.plagiarism.paraphrase import SentencePair, confirm, sentence_pairs
from byrote.attacks.extraction.plagiarism.settings import Matching
from byrote.attacks.extraction.sentences import paraphrase_scores
from byrote.registry import register
from byrote.types import Floats, Unscorable

KINDS = ("verbatim", "paraphrase", "idea", "unconfirmed")


@register("attack", "plagiarism")
class Plagiarism(WrittenMeasure, Matching):
    """The shares of generated texts that copy, rewrite or sum up what truly follows in any record of the same side.

    At most one of them for each text, looked for in this order: `verbatim`, a run of the same words of more than
    `verbatim_minlen` characters; `idea`, passages that are alike where the training passages have at least
    `idea_ratio` times the characters; then any other passages that are alike. Of these it is a `paraphrase` where two
    of their sentences say the same by the scorer of sentence pairs, and else `unconfirmed`. `any` is the sum of the
    first three. Passages are alike by the text alignment that won PAN 2014, with its settings by their published names:
    "susp" is the generated text, "src" the record. What only repeats the given text does not count.

    The scorer is the cosine of a sentence `encoder`, which must exceed `paraphrase_above`; the published one is a
    `classifier` of sentence pairs, such as textattack/roberta-base-MRPC, whose probability must exceed one half. With
    neither (`encoder: null`) all that is alike is unconfirmed. Details, limits and how much is found of what was
    planted: docs/plagiarism.md.

    Wang and Li 2025, "Leaner training, lower leakage", arXiv 2506.20856; after Lee et al. 2023, "Do language models
    plagiarize?", arXiv 2203.07618.
    """

    metrics: ClassVar[Mapping[str, Form]] = {**dict.fromkeys(KINDS, "share"), "any": "share"}
    max_new_tokens: int = Field(100, ge=1, le=100_000, description="tokens that it writes at most")
    encoder: str | None = Field("builtin:minilm", description="what makes sentence vectors; null: no one confirms")
    paraphrase_above: float = Field(0.8, gt=0, lt=1, description="the cosine of two sentences that say the same")
    classifier: str | None = Field(None, description="of sentence pairs, instead: a folder or a Hub id")

    @property
    def encoders(self) -> Sequence[str]:
        """The encoder, where no classifier stands in its place."""
        return () if self.encoder is None or self.classifier is not None else (self.encoder,)

    @property
    def judges(self) -> Sequence[str]:
        """The classifier, where one is named."""
        return () if self.classifier is None else (self.classifier,)

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """What classifies what was written to one record, against all sources."""
        corpus = Corpus(sources, self)
        verdicts = {one.record.id: found for one in side if (found := self._verdict(corpus, one)) is not None}
        alike = [(key, pair) for key, (verdict, said) in verdicts.items() for pair in _pairs(corpus, verdict, said)]
        by_record: dict[str, tuple[list[SentencePair], list[float]]] = {}
        scores = self._scores(side[0].background, [pair for _, pair in alike]) if alike else ()
        for (key, pair), score in zip(alike, scores, strict=True):
            pairs, own = by_record.setdefault(key, ([], []))
            pairs.append(pair)
            own.append(float(score))

        def measure(evidence: Evidence) -> tuple[float, ...]:
            self.written(evidence)
            kind: str = verdicts[evidence.record.id][0].kind
            if kind == "paraphrase":
                above = 0.5 if self.judges else self.paraphrase_above
                kind = confirm(*by_record.get(evidence.record.id, ([], [])), threshold=above)
                kind = "paraphrase" if kind == "confident" else kind
            return (*(float(kind == one) for one in KINDS), float(kind in KINDS[:3]))

        return measure

    def _verdict(self, corpus: Corpus, evidence: Evidence) -> tuple[Verdict, str] | None:
        """Of what was written, and that text; None where nothing was, of which the record is told in its own turn."""
        try:
            said, _ = self.written(evidence)
        except Unscorable:
            return None
        return corpus.classify(said, evidence.given[0]), said

    def _scores(self, background: Background, pairs: Sequence[SentencePair]) -> Floats | Sequence[float]:
        """How sure it is that the sentences of each pair say the same."""
        if self.classifier is not None:
            return background.judge(self.classifier)(pairs)
        return (
            [0.0] * len(pairs) if self.encoder is None else paraphrase_scores(background.encoder(self.encoder), pairs)
        )


def _pairs(corpus: Corpus, verdict: Verdict, said: str) -> Iterator[SentencePair]:
    """The sentences whose likeness decides."""
    if verdict.kind == "paraphrase":
        yield from sentence_pairs(verdict, said, corpus)
