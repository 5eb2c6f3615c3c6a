"""The quantile-regression attack."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import CalibratedAttack, Evidence, Need
from byrote.registry import register
from byrote.types import Floats, Unscorable

LEAST = 20
"""Texts of the population without which nothing is fitted."""


@register("attack", "quantile-regression")
class QuantileRegression(CalibratedAttack):
    """A text that the tuned model predicts better than nearly all texts of its kind was trained on.

    Score: LL(x) - q(x), with LL the mean log p_t and q the `quantile` of LL given the text, a linear function fitted to
    the population by the pinball loss. It is given LL under the base model, the logarithm of the number of tokens, and
    the compressed bytes per byte of the text. The paper fits a neural network to the input instead, one for each rate.

    Bertran et al. 2023, "Scalable Membership Inference Attacks via Quantile Regression", NeurIPS, arXiv 2307.03694.
    """

    access: ClassVar[str] = "log-probs, base model, and texts of the same kind"
    needs: ClassVar[frozenset[Need]] = frozenset({"base", "population"})
    quantile: float = Field(0.9, gt=0, lt=1, description="of the log-likelihoods of texts that were not trained on")

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """Fits the quantile. What is fitted is LL less the base model's: as that is a feature, q is the same."""
        from sklearn.linear_model import QuantileRegressor

        rows = [(_features(one), _gain(one)) for one in population if len(one.target) and one.base is not None]
        rows = [(row, gain) for row, gain in rows if np.isfinite([*row, gain]).all()]
        if len(rows) < LEAST:
            raise Unscorable(f"quantile-regression needs {LEAST} validation and test records, has {len(rows)}")
        features, gains = np.stack([row for row, _ in rows]), np.array([gain for _, gain in rows])
        centre, scale = features.mean(0), features.std(0)
        scale[scale < 1e-9] = 1.0
        fitted = QuantileRegressor(quantile=self.quantile, alpha=0.0, solver="highs")
        fitted.fit((features - centre) / scale, gains)

        def score(evidence: Evidence) -> float:
            row = (_features(evidence) - centre) / scale
            return _gain(evidence) - float(fitted.intercept_ + row @ fitted.coef_)

        return score


def _gain(evidence: Evidence) -> float:
    """How much higher LL is than under the base model, in nats per token."""
    return evidence.untuned().loss - evidence.target.loss


def _features(evidence: Evidence) -> Floats:
    """(3,) what q may depend on."""
    base, data = evidence.untuned(), evidence.text.encode("utf-8", "surrogatepass")
    return np.array([-base.loss, np.log(len(base)), len(zlib.compress(data)) / max(1, len(data))])
