"""`learning_rate: auto`: which rate was best, and which to try next."""

from __future__ import annotations

from collections.abc import Sequence

from byrote.store import Trial
from byrote.study.fields import Part
from byrote.study.privacy import PrivacyLevel

BEYOND = 2
"""How many rates outside a method's grid may be added."""


def best_rate(trials: Sequence[Trial]) -> float:
    """The rate with the lowest validation loss at the end of training."""
    finished = [trial for trial in trials if trial.validation_loss is not None]
    return min(finished, key=lambda trial: trial.validation_loss or 0.0).learning_rate


def next_rate(trials: Sequence[Trial], grid: Sequence[float]) -> float | None:
    """The rate to try after these trials: the grid in its order, then beyond its edge; None where it is enough."""
    if len(trials) < len(grid):
        return grid[len(trials)]
    return beyond(trials) if len(trials) < len(grid) + BEYOND else None


def beyond(trials: Sequence[Trial]) -> float | None:
    """The next rate outwards where the best one is at an edge of those tried, a step as wide as the last one."""
    if len(trials) < 2 or all(trial.validation_loss is None for trial in trials):
        return None
    best, tried = best_rate(trials), sorted(trial.learning_rate for trial in trials)
    if best == tried[0]:
        return float(f"{best * best / tried[1]:.3g}")
    return float(f"{best * best / tried[-2]:.3g}") if best == tried[-1] else None


def trial_part(privacy: PrivacyLevel) -> Part:
    """The records that learning rates are tried on: where privacy is promised, not the ones it is promised to."""
    return "members" if privacy == "none" else "test"
