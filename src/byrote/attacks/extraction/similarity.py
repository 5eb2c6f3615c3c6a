"""Sentence similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import Form, Measure, WrittenMeasure
from byrote.attacks.extraction.sentences import best_matches, sentences_of
from byrote.registry import register
from byrote.types import Floats, Unscorable, normalise

Threshold = Annotated[float, Field(gt=0, le=1)]


@register("attack", "similarity")
class Similarity(WrittenMeasure):
    """How near what the model writes comes in meaning to what it was tuned on, though hardly a word is the same.

    The relaxed measure: each sentence that is written is compared, by the cosine of sentence vectors, with every
    sentence of what follows the prefix in all records of its side: members are compared with members, nonmembers with
    nonmembers. Its match is the highest of these. `best-match` is the mean over a text's sentences, and `above-0.7` the
    share of texts with at least one sentence that matches by 0.7 or more: one is enough to give a record away.
    `own` is the mean match with nothing but the record that the text was written from. The best match grows with the
    number of texts, `own` does not; so that both sides can be compared, a record of either is matched with as many
    texts as the smaller side has, its own and the first others. A model that writes in the manner of its data comes
    near it without having learned any record, so a number means something beside nonmembers' and the untuned model's.

    Sentences of fewer than three words are joined to the next; one that stands in the prompt never counts. Where no
    sentence is left all numbers are 0, and so is a negative cosine. The paper's encoder, thresholds and rule of
    counting could not be found: these are byrote's, and cosines of other encoders are on another scale.

    Wang 2025, on memorisation in fine-tuned language models, arXiv 2506.20856.
    """

    encoder: str = Field("builtin:minilm", description="what makes sentence vectors: built in, a folder or a Hub id")
    thresholds: tuple[Threshold, ...] = Field((0.7, 0.8, 0.9), description="cosines from which a text counts")

    @field_validator("thresholds")
    @classmethod
    def _no_threshold_twice(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if len({f"{one:g}" for one in thresholds}) < len(thresholds):
            raise ValueError(f"a threshold stands twice in {list(thresholds)}")
        return thresholds

    @property
    def metrics(self) -> Mapping[str, Form]:
        """The best match, the share above each threshold, and the match with its own record."""
        above: dict[str, Form] = {f"above-{one:g}": "share" for one in self.thresholds}
        return {"best-match": "mean", **above, "own": "mean"}

    @property
    def encoders(self) -> Sequence[str]:
        """Its encoder."""
        return (self.encoder,)

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """Everything that was written on a side is compared at once."""
        if not side:
            return self._nothing
        embed = side[0].background.encoder(self.encoder)
        number = min(side[0].sources or len(sources), len(sources))
        pool = [sentences_of(text) for text in sources[:number]]
        shared = [sentence for sentences in pool[: number - 1] for sentence in sentences]
        last = pool[-1] if pool else []
        known = set(sources[:number])
        written = list(dict.fromkeys(sentence for one in side for sentence in self._tried(one)))
        place = {sentence: at for at, sentence in enumerate(written)}
        vectors = embed(written)
        with_shared, with_last = (best_matches(vectors, embed(others)) for others in (shared, last))

        def measure(evidence: Evidence) -> tuple[float, ...]:
            at = [place[sentence] for sentence in self._sentences(evidence)]
            own = best_matches(vectors[at], embed(sentences_of(evidence.rests[0])))
            # A record whose own text is not among the first stands there in the place of the last one.
            beside = with_last[at] if evidence.rests[0] in known else own
            return self._numbers(np.maximum(with_shared[at], beside), own)

        return measure

    def _numbers(self, best: Floats, own: Floats) -> tuple[float, ...]:
        """From the matches of one text's sentences."""
        if not len(best):
            return (0.0,) * len(self.metrics)
        above = [float(best.max() >= threshold) for threshold in self.thresholds]
        return (float(best.mean()), *above, float(own.mean()))

    def _sentences(self, evidence: Evidence) -> list[str]:
        """What the model wrote, without what the prompt says already. Raises Unscorable."""
        written, _ = self.written(evidence)
        given = normalise(evidence.given[0])
        return [sentence for sentence in sentences_of(written) if normalise(sentence) not in given]

    def _tried(self, evidence: Evidence) -> list[str]:
        try:
            return self._sentences(evidence)
        except Unscorable:  # it is told why when its own turn comes
            return []

    def _nothing(self, evidence: Evidence) -> tuple[float, ...]:
        raise Unscorable("no record of its side can be asked about")
