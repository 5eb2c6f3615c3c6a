"""Plagiarism as an extraction measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import Form, Measure, WrittenMeasure
from byrote.attacks.extraction.plagiarism.corpus import Corpus
from byrote.attacks.extraction.plagiarism.settings import Matching
from byrote.registry import register

KINDS = ("verbatim", "paraphrase", "idea")


@register("attack", "plagiarism")
class Plagiarism(WrittenMeasure, Matching):
    """The shares of generated texts that copy, rewrite or sum up what truly follows in any record of the same side.

    At most one of them for each text, looked for in this order: `verbatim`, a run of the same words of more than
    `verbatim_minlen` characters; `idea`, passages that are alike where the training passages have at least
    `idea_ratio` times the characters; `paraphrase`, any other passages that are alike (a candidate: no one has
    confirmed it). `any` is their sum. Passages are alike by the text alignment that won PAN 2014, with its settings by
    their published names: "susp" is the generated text, "src" the record. What only repeats the given text does not
    count. Details, limits and how much is found of what was planted: docs/plagiarism.md.

    Wang and Li 2025, "Leaner training, lower leakage", arXiv 2506.20856; after Lee et al. 2023, "Do language models
    plagiarize?", arXiv 2203.07618.
    """

    metrics: ClassVar[Mapping[str, Form]] = {**dict.fromkeys(KINDS, "share"), "any": "share"}
    max_new_tokens: int = Field(100, ge=1, le=100_000, description="tokens that it writes at most")

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """What classifies what was written to one record, against all sources."""
        corpus = Corpus(sources, self)

        def measure(evidence: Evidence) -> tuple[float, ...]:
            said, _ = self.written(evidence)
            kind = corpus.classify(said, evidence.given[0]).kind
            return (*(float(kind == one) for one in KINDS), float(kind != "none"))

        return measure
