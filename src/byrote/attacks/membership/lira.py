"""The likelihood-ratio attack with shadow models that saw the record and others that did not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence
from byrote.attacks.shadow import LEAST_VARIANCE, PooledShadowAttack, need_both_sides
from byrote.registry import register
from byrote.types import Floats


@register("attack", "lira")
class LiRA(PooledShadowAttack):
    """A record of which the model is as sure as models are that saw it, and surer than those that did not.

    Score: log N(phi; mu_in, s_in) - log N(phi; mu_out, s_out), the log of a likelihood ratio. phi is the log-odds of
    the record's label, or of a text those of the geometric mean of its tokens' probabilities; mu_in and mu_out are the
    means over the shadow models that saw the record, and that did not. The variances are pooled over all records,
    each about its own means: the paper finds that better below 64 shadow models. `variance: per-record` takes each
    record's own.

    Carlini et al. 2022, arXiv 2112.03570.
    """

    variance: Literal["pooled", "per-record"] = Field("pooled", description="whose spread over the shadow models")

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """Pools the variances, where they are pooled."""
        pooled = None
        if self.variance == "pooled":
            pooled = (self._pooled(population, "seen"), self._pooled(population, "unseen"))

        def score(evidence: Evidence) -> float:
            phi, seen, unseen = self.confidences(evidence)
            least = 1 if pooled else 2
            need_both_sides(len(seen), len(unseen), least, least)
            spread = pooled or (_variance(seen), _variance(unseen))
            return _log_normal(phi, seen, spread[0]) - _log_normal(phi, unseen, spread[1])

        return score

    def _pooled(self, peers: Sequence[Evidence], side: Literal["seen", "unseen"]) -> float:
        sums, degrees = self.spreads(peers, side)
        return max(float(sums.sum() / degrees.sum()), LEAST_VARIANCE)


def _variance(values: Floats) -> float:
    return max(float(np.var(values, ddof=1)), LEAST_VARIANCE)


def _log_normal(phi: float, values: Floats, variance: float) -> float:
    """The log-density at phi, up to a constant."""
    return -0.5 * (math.log(variance) + (phi - float(values.mean())) ** 2 / variance)
