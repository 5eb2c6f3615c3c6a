"""The likelihood-ratio attack with shadow models that did not see the record alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence
from byrote.attacks.shadow import LEAST_VARIANCE, PooledShadowAttack, need_both_sides
from byrote.registry import register


@register("attack", "lira-offline")
class LiRAOffline(PooledShadowAttack):
    """A record of which the model is surer than models are that did not see it.

    Score: (phi - mu_out) / s_out, in the order of the paper's one-sided test Pr[N(mu_out, s_out) < phi], which is 1 in
    floating point where it matters most. phi, means and variances are those of `lira`, over the shadow models that
    did not see the record: an attacker may then train them before knowing which record is asked about.

    Carlini et al. 2022, arXiv 2112.03570.
    """

    variance: Literal["pooled", "per-record"] = Field("pooled", description="whose spread over the shadow models")

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """Pools the variance, where it is pooled."""
        pooled = None
        if self.variance == "pooled":
            sums, degrees = self.spreads(population, "unseen")
            pooled = float(sums.sum() / degrees.sum())

        def score(evidence: Evidence) -> float:
            phi, seen, unseen = self.confidences(evidence)
            need_both_sides(len(seen), len(unseen), of_seen=0, of_unseen=2 if pooled is None else 1)
            variance = float(np.var(unseen, ddof=1)) if pooled is None else pooled
            return (phi - float(unseen.mean())) / math.sqrt(max(variance, LEAST_VARIANCE))

        return score
