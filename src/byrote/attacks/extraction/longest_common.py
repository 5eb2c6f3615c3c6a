"""The longest text in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import Form, Measure, WrittenMeasure
from byrote.attacks.extraction.text import longest_common_subsequence, longest_common_substring
from byrote.registry import register


@register("attack", "longest-common")
class LongestCommon(WrittenMeasure):
    """How much of what truly follows stands in what the model writes, in a row or in the same order.

    `substring` is the longest run of characters that both have, `subsequence` the most characters and `words` the most
    words that both have in the same order, each as a share of what truly follows. Any two texts share some of each, the
    subsequence of characters above all.

    Karamolegkou et al. 2023, "Copyright violations and large language models", arXiv 2310.13771.
    """

    metrics: ClassVar[Mapping[str, Form]] = {"substring": "mean", "subsequence": "mean", "words": "mean"}

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """Every record by itself."""
        return self._measure

    def _measure(self, evidence: Evidence) -> tuple[float, ...]:
        said, truth = (text.strip() for text in self.written(evidence))
        words = longest_common_subsequence(said, truth, unit="words") / len(truth.split())
        run = longest_common_substring(said, truth) / len(truth)
        return run, longest_common_subsequence(said, truth) / len(truth), words
