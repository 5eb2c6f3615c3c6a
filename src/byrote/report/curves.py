"""What pictures are drawn from: ROC curves over seeds and smoothed score densities. Lists of plain numbers, rounded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from byrote.report.evidence import Sides
from byrote.report.findings import Finding
from byrote.report.measures import Attack
from byrote.report.summary import Summary
from byrote.statistics.roc import roc_curve
from byrote.types import Floats

POINTS = 96


class Curve(NamedTuple):
    """A ROC curve on a grid of false-positive rates; None where the true-positive rate is 0, which has no logarithm."""

    fpr: list[float]
    tpr: list[float | None]


class Spread(NamedTuple):
    """Scores of both sides over all seeds, and the range that holds all but their outermost 0.5%."""

    members: Floats
    nonmembers: Floats
    low: float
    high: float


class Density(NamedTuple):
    """Smoothed densities of both sides at the same scores."""

    at: list[float]
    members: list[float]
    nonmembers: list[float]


def sides_of(summary: Summary, one: Finding, attack: Attack) -> list[Sides]:
    """The scored records of each seed at its own last epoch."""
    evidence = summary.results.evidence
    ends = [(cell, evidence.last_epoch(cell)) for cell in one.configuration.done]
    found = [evidence.sides(cell, attack, epoch) for cell, epoch in ends if epoch is not None]
    scored = [sides.scored() for sides in found if sides is not None]
    return [sides for sides in scored if len(sides.members) and len(sides.nonmembers)]


def pooled_roc(summary: Summary, one: Finding, attack: Attack) -> Curve | None:
    """The mean over seeds of TPR at each FPR, from 10 / n of the seed with the fewest nonmembers up to 1.

    None below 20 nonmembers, where fewer than half a decade could be shown.
    """
    seeds = sides_of(summary, one, attack)
    lowest = 10.0 / min((len(sides.nonmembers) for sides in seeds), default=1)
    if lowest > 0.5:
        return None
    grid = np.geomspace(lowest, 1.0, POINTS)
    rates = []
    for sides in seeds:
        fpr, tpr = roc_curve(sides.members, sides.nonmembers)
        # The last point at or below each FPR: the threshold never lets more nonmembers through.
        rates.append(tpr[np.searchsorted(fpr, grid + 1e-12, side="right") - 1])
    mean = np.mean(rates, axis=0)
    return Curve([float(f"{x:.4g}") for x in grid], [float(f"{y:.4g}") if y > 0 else None for y in mean])


def spread_of_scores(summary: Summary, one: Finding, attack: Attack) -> Spread | None:
    """The scores of all seeds together; None where there are too few to smooth."""
    seeds = sides_of(summary, one, attack)
    if not seeds:
        return None
    members = np.concatenate([sides.members for sides in seeds])
    nonmembers = np.concatenate([sides.nonmembers for sides in seeds])
    if min(len(members), len(nonmembers)) < 5:
        return None
    low, high = np.quantile(np.concatenate((members, nonmembers)), [0.005, 0.995])
    return Spread(members, nonmembers, float(low), float(high))


def density(spread: Spread, low: float, high: float) -> Density:
    """Gaussian kernel densities at evenly spaced scores, with Silverman's rule of thumb (1986, eq. 3.31)."""
    margin = 0.04 * (high - low) or 1.0
    at = np.linspace(low - margin, high + margin, POINTS)
    heights = [_smoothed(side, at) for side in (spread.members, spread.nonmembers)]
    rounded = [[float(f"{value:.4g}") for value in values] for values in (at, *heights)]
    return Density(*rounded)


def _smoothed(scores: Floats, at: Floats) -> Floats:
    quarter, three = np.quantile(scores, [0.25, 0.75])
    spread = min(float(scores.std()), float(three - quarter) / 1.34) or float(scores.std())
    # Never narrower than the drawing can show, so that a spike of equal scores stays visible.
    width = max(0.9 * spread * len(scores) ** -0.2, float(at[1] - at[0]))
    total = np.zeros(len(at))
    for start in range(0, len(scores), 2000):
        distances = (at[:, None] - scores[None, start : start + 2000]) / width
        total += np.exp(-0.5 * distances**2).sum(axis=1)
    return np.asarray(total / (len(scores) * width * np.sqrt(2.0 * np.pi)))
