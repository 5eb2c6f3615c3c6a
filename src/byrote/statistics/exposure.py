"""Exposure: by how many bits a canary is better known to a model than others of its law that it never saw.

Carlini et al. 2019 (1802.08232). Among N references that were never inserted, a canary of rank k (1 is the likeliest)
has exposure log2(N + 1) - log2(k); ties share their mean rank. It cannot be more than log2(N + 1), so beyond that it
is extrapolated: -log2 of the tail that a skew-normal law, fitted to the references' scores, has above the canary's.
Scores are on a log scale, and higher means more likely trained on. A canary that was never inserted has any rank with
the same chance, and so an exposure of log2(e) = 1.44 bits on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.interval import t_quantile, too_few, units_of, weighted_mean_estimate
from byrote.statistics.roc import as_scores
from byrote.types import Estimate, Floats

FEWEST = 100
"""References that a law can be fitted to: from 50, tails come out bits too small."""
BLOCKS = 20
"""Parts of the references that are left out in turn."""
FOLDS = 200
"""Parts of the references that are ranked among the others in turn."""
UNLIKE = 0.01
"""The Kolmogorov-Smirnov p-value below which the fitted law is not believed."""
MOST_SKEWED = 0.99
"""A skew-normal law has skewness below 0.9953."""
FAR = 1e-4
"""A tail smaller than this is integrated by itself: as a difference it would be rounding alone."""

UNSEEN = math.log2(math.e)
"""The mean exposure of a canary that was never inserted, where references are many."""

Exposures = Callable[[Floats, Floats], Floats]
"""Of canaries (C,) by references (N,): bits, (C,)."""


def most_exposed(references: int) -> float:
    """The largest exposure by rank that so many references allow."""
    return math.log2(references + 1)


def unseen_exposure(references: int) -> float:
    """The mean exposure by rank of a canary that was never inserted; below 1.44 bits where references are few."""
    return most_exposed(references) - float(np.log2(np.arange(1, references + 2)).mean())


def exposure_by_rank(canaries: ArrayLike, references: ArrayLike) -> Floats:
    """Bits, (C,), of canaries' scores (C,) among references' scores (N,)."""
    ours, others = as_scores(canaries, "canary"), np.sort(as_scores(references, "reference"))
    if not len(others):
        raise ValueError("exposure needs references")
    above = len(others) - (np.searchsorted(others, ours, "left") + np.searchsorted(others, ours, "right")) / 2.0
    exposures: Floats = most_exposed(len(others)) - np.log2(1.0 + above)
    return exposures


def extrapolated_exposure(canaries: ArrayLike, references: ArrayLike) -> Floats:
    """The same by the fitted law's tail: finite however far a canary lies. `unlike` says whether to believe it."""
    ours, others = as_scores(canaries, "canary"), as_scores(references, "reference")
    centre, width, shape = _fitted(others)
    return -_log_tail((ours - centre) / width, shape) / math.log(2.0)


def unlike(references: ArrayLike) -> str:
    """Why no skew-normal law can be fitted to these scores; empty where one can."""
    from scipy.special import kolmogorov

    scores = np.sort(as_scores(references, "reference"))
    n = len(scores)
    if n < FEWEST:
        return f"needs {FEWEST} references to fit a law to, has {n}: see the exposure by rank"
    if np.ptp(scores) <= 1e-9 * np.abs(scores).max():
        return "every reference has the same score: see the exposure by rank"
    centre, width, shape = _fitted(scores)
    below = -np.expm1(_log_tail((scores - centre) / width, shape))
    steps = np.arange(n + 1) / n
    p = float(kolmogorov(math.sqrt(n) * max((steps[1:] - below).max(), (below - steps[:-1]).max())))
    if p < UNLIKE:
        return f"the references follow no skew-normal law (Kolmogorov-Smirnov p {p:.1g}): see the exposure by rank"
    return ""


def left_out_exposure(references: ArrayLike, of: Exposures = exposure_by_rank) -> Floats:
    """Each reference's own exposure among the others, (N,). By rank these are always the same numbers.

    More than FOLDS references are left out in as many parts.
    """
    scores = as_scores(references, "reference")
    part, exposures = np.arange(len(scores)) % FOLDS, np.empty(len(scores))
    for at in range(min(FOLDS, len(scores))):
        exposures[part == at] = of(scores[part == at], scores[part != at])
    return exposures


def exposure_estimate(
    canaries: ArrayLike,
    references: ArrayLike,
    groups: Sequence[str] | None = None,
    of: Exposures = exposure_by_rank,
    *,
    null_value: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """The mean exposure of canaries, n, with its interval over canaries (or groups of them) and references.

    The variance over independent groups is that of a mean; that of the references comes from leaving out a twentieth of
    them at a time (the jackknife of Quenouille 1956 and Tukey 1958). Student's t. Where all canaries are above every
    reference, nothing shows how they vary: at least 0.05^(1 / n) of all canaries then have the largest exposure
    (see `weighted_mean_estimate`).
    """
    ours, others = as_scores(canaries, "canary"), as_scores(references, "reference")
    labels, units = units_of(len(ours), groups)
    if units < 2:
        return too_few(len(ours), units)
    if len(others) < 2:
        return Estimate.absent(f"needs 2 canaries that were never inserted, has {len(others)}", len(ours))
    if of is extrapolated_exposure and (problem := unlike(others)):
        return Estimate.absent(problem, len(ours))
    values = of(ours, others)
    bounds = (0.0, most_exposed(len(others)) if of is exposure_by_rank else math.inf)
    if not np.ptp(values) and of is exposure_by_rank:
        return weighted_mean_estimate(values, np.ones(len(values)), groups, bounds=bounds, null_value=null_value)
    mean = float(values.mean())
    sums = np.bincount(labels, weights=values - mean) / len(values)
    variance = units / (units - 1) * float(sums @ sums) + _of_references(ours, others, of)
    half = t_quantile(level, units - 1) * math.sqrt(variance)
    low, high = max(mean - half, bounds[0]), min(mean + half, bounds[1])
    return Estimate(mean, low, high, len(ours), "two-sample-jackknife", null_value)


def _of_references(canaries: Floats, references: Floats, of: Exposures) -> float:
    """The variance of a mean exposure by the draw of the references."""
    blocks = min(BLOCKS, len(references))
    part = np.arange(len(references)) % blocks
    means = np.array([of(canaries, references[part != at]).mean() for at in range(blocks)])
    return (blocks - 1) / blocks * float(np.square(means - means.mean()).sum())


def _fitted(scores: Floats) -> tuple[float, float, float]:
    """Location, scale and shape of the skew-normal law with the scores' mean, variance and skewness (Azzalini 1985).

    Moments rather than the largest likelihood, which has no maximum for some samples (Azzalini and Capitanio 1999).
    """
    mean, deviation = float(scores.mean()), float(scores.std())
    if deviation == 0.0:
        raise ValueError("every reference has the same score")
    skewness = float((((scores - mean) / deviation) ** 3).mean())
    size = min(abs(skewness), MOST_SKEWED) ** (2.0 / 3.0)
    delta = math.copysign(math.sqrt(math.pi / 2.0 * size / (size + ((4.0 - math.pi) / 2.0) ** (2.0 / 3.0))), skewness)
    width = deviation / math.sqrt(1.0 - 2.0 * delta**2 / math.pi)
    return mean - width * delta * math.sqrt(2.0 / math.pi), width, delta / math.sqrt(1.0 - delta**2)


def _log_tail(x: Floats, shape: float) -> Floats:
    """log P(X >= x) of a standard skew-normal X, (C,), in nats; finite for every finite x."""
    from scipy.special import log_ndtr, ndtr, owens_t

    tail = ndtr(-x) + 2.0 * owens_t(x, shape)
    found: Floats = np.log(np.maximum(tail, FAR))
    far = tail < FAR
    if far.any():
        # The integrand falls almost exponentially there: Gauss-Laguerre, at the rate with which its logarithm begins.
        nodes, weights = np.polynomial.laguerre.laggauss(64)
        start = x[far]
        log_density = _log_density(start, shape)
        hazard = np.exp(-0.5 * (shape * start) ** 2 - 0.5 * math.log(2.0 * math.pi) - log_ndtr(shape * start))
        rate = start - shape * hazard
        logs = _log_density(start[:, None] + nodes / rate[:, None], shape) - log_density[:, None] + nodes
        found[far] = log_density - np.log(rate) + np.log(np.exp(logs) @ weights)
    return found


def _log_density(x: Floats, shape: float) -> Floats:
    from scipy.special import log_ndtr

    density: Floats = math.log(2.0) - 0.5 * math.log(2.0 * math.pi) - 0.5 * x**2 + log_ndtr(shape * x)
    return density
