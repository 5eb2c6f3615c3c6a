"""BaVarIA: the likelihood-ratio attack with variances shrunk towards their common value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from byrote.attacks.base import Evidence
from byrote.attacks.shadow import LEAST_VARIANCE, PooledShadowAttack, need_both_sides
from byrote.registry import register
from byrote.types import Floats

MOST = 1e6
"""Degrees of freedom that stand for no difference between records."""


class Prior(NamedTuple):
    """What a record's variance is taken for before its own shadows are seen: a scaled inverse chi-square."""

    variance: float
    degrees: float


@register("attack", "bavaria")
class BaVarIA(PooledShadowAttack):
    """`lira` with each record's variance shrunk towards that of all records, by as much as its few shadows deserve.

    Score: log t_in(phi) - log t_out(phi), phi as in `lira`. t is Student's predictive density after the n shadow
    models of that side: location m, their mean; degrees nu + n - 1; scale^2 = (1 + 1/n) (nu s^2 + S) / (nu + n - 1)
    with their sum of squares S about m. It is the posterior predictive under a flat prior of the mean and a conjugate
    (inverse-gamma) prior of the variance: with nu = 0 it is a record's own variance, with nu infinite the pooled one.
    Centre s^2 and weight nu of the prior are not settings: they are estimated for each side from the variances of all
    records (empirical Bayes: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3), which is a choice of byrote.

    Brännvall 2026, arXiv 2603.11799.
    """

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """The prior of each side, from what shadows make of all records."""
        of_seen, of_unseen = self._prior(population, "seen"), self._prior(population, "unseen")

        def score(evidence: Evidence) -> float:
            phi, seen, unseen = self.confidences(evidence)
            need_both_sides(len(seen), len(unseen))
            return log_predictive(phi, seen, of_seen) - log_predictive(phi, unseen, of_unseen)

        return score

    def _prior(self, peers: Sequence[Evidence], side: Literal["seen", "unseen"]) -> Prior:
        return prior_of(*self.spreads(peers, side))


def prior_of(sums: Floats, degrees: Floats) -> Prior:
    """Centre and weight of the prior that records' sums of squares with these degrees of freedom came from.

    By the moments of log(sum / degrees), whose mean and variance under the prior are known in digamma and trigamma.
    """
    from scipy.special import polygamma, psi

    half = degrees / 2.0
    logs = np.log(np.maximum(sums / degrees, LEAST_VARIANCE)) - psi(half) + np.log(half)
    beyond = float(np.var(logs, ddof=1) - polygamma(1, half).mean()) if len(logs) > 1 else 0.0
    weight = min(2.0 * inverse_trigamma(beyond), MOST) if beyond > 0.0 else MOST
    if weight == MOST:
        return Prior(max(float(sums.sum() / degrees.sum()), LEAST_VARIANCE), MOST)
    centre = float(logs.mean() + psi(weight / 2.0)) - math.log(weight / 2.0)
    return Prior(math.exp(centre), weight)


def inverse_trigamma(value: float) -> float:
    """The argument at which trigamma is `value` > 0, by Newton's method on its reciprocal, which is nearly linear."""
    from scipy.special import polygamma

    guess = 0.5 + 1.0 / value
    for _ in range(50):
        found = float(polygamma(1, guess))
        step = found * (1.0 - found / value) / float(polygamma(2, guess))
        guess += step
        if abs(step) < 1e-10 * guess:
            break
    return guess


def log_predictive(phi: float, values: Floats, prior: Prior) -> float:
    """The log-density of Student's t at phi after these values, the constant of pi left out."""
    count, mean = len(values), float(values.mean())
    degrees = prior.degrees + count - 1
    posterior = (prior.degrees * prior.variance + float(np.square(values - mean).sum())) / degrees
    scale = max((1.0 + 1.0 / count) * posterior, LEAST_VARIANCE)
    spread = math.log1p((phi - mean) ** 2 / (scale * degrees))
    size = math.lgamma((degrees + 1.0) / 2.0) - math.lgamma(degrees / 2.0) - 0.5 * math.log(degrees * scale)
    return size - 0.5 * (degrees + 1.0) * spread
