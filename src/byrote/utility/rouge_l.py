"""ROUGE-L of generated completions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

from byrote.registry import register
from byrote.types import Unscorable
from byrote.utility.generated import Generated

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


@cache
def _scorer(stemmed: bool) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stemmed)


@register("utility", "rouge-l")
class RougeL(Generated):
    """The mean over test records of ROUGE-L's F1: the longest common subsequence of words, against both lengths.

    By the package rouge-score, which reads lower-case Latin letters and digits and takes all else for gaps between
    words: a completion without any of them has no score. `use_stemmer` compares words by their Porter stems.

    Lin 2004, "ROUGE: a package for automatic evaluation of summaries".
    """

    metric: ClassVar[str] = "rouge-l"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    use_stemmer: bool = False

    def compare(self, said: str, wanted: str) -> tuple[float, ...]:
        """F1; every record counts the same."""
        if not any(letter.isascii() and letter.isalnum() for letter in wanted):
            raise Unscorable("the completion has no Latin letter and no digit, and ROUGE-L reads nothing else")
        return float(_scorer(self.use_stemmer).score(wanted, said)["rougeL"].fmeasure), 1.0
