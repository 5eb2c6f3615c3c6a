"""The DC-PDD attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from byrote.attacks.base import CalibratedAttack, Evidence, Need
from byrote.registry import register
from byrote.types import NO_TARGET, Unscorable


@register("attack", "dc-pdd")
class DivergenceCalibrated(CalibratedAttack):
    """A text with tokens that the model finds likely although they are rare was trained on.

    Score: the mean of min(a, -p_t log f(t)) over the first occurrence of each token in the text, with p_t its
    probability and f(t) its frequency in a corpus. Here the corpus is the population: texts like the members, which no
    model was trained on. f(t) = (count + 1) / (tokens + different tokens + 1), so that a token which it lacks has one.

    Zhang et al. 2024, "Pretraining Data Detection for Large Language Models: A Divergence-based Calibration Method",
    EMNLP, arXiv 2409.14781.
    """

    access: ClassVar[str] = "log-probs and texts of the same kind"
    needs: ClassVar[frozenset[Need]] = frozenset({"tokens", "population"})
    a: float = Field(0.01, gt=0, description="the most that a token counts")

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """Counts the population's tokens."""
        texts = [one.tokens for one in population if one.tokens is not None and len(one.tokens)]
        if not texts:
            raise Unscorable("there is no text to count tokens in: dc-pdd needs validation or test records")
        known, counts = np.unique(np.concatenate(texts), return_counts=True)
        total = int(counts.sum()) + len(known) + 1

        def score(evidence: Evidence) -> float:
            return self._score(evidence, known, np.log((counts + 1) / total), float(-np.log(total)))

        return score

    def _score(self, evidence: Evidence, known: NDArray[np.int32], logs: NDArray[np.float64], unknown: float) -> float:
        """The mean over first occurrences; no unit."""
        if not len(evidence.target):
            raise Unscorable(NO_TARGET)
        if evidence.tokens is None:
            raise Unscorable("the tokens of the text are not known")
        tokens, first = np.unique(evidence.tokens, return_index=True)
        places = np.searchsorted(known, tokens).clip(max=len(known) - 1)
        frequency = np.where(known[places] == tokens, logs[places], unknown)
        likely = np.exp(evidence.target.log_prob.astype(np.float64)[first])
        return float(np.minimum(self.a, -likely * frequency).mean())
