"""An audited epsilon: what attack scores of canaries with coin-flip membership prove about the privacy of a training.

Every bound is a lower one for adding or removing one canary, at 95% unless said. A half of the canaries, drawn with a
seed, chooses how many to guess about, or the threshold; the bound is made from the other half, so that nothing is the
best of many on the same scores. Scores that tell nothing give 0.

Four estimators, from the fewest assumptions to the most:

* "one-run" and "one-run-f-dp" (see `one_run`): the scores may hang on each other in any way. The second one takes the
  training for a Gaussian mechanism.
* "clopper-pearson": epsilon >= log((TPR - delta) / FPR), and the same of the opposite guess, from exact binomial limits
  of both rates (Jagielski, Ullman and Oprea 2020, 2006.07709). It takes canaries for independent of each other, given
  who is in, which one training does not promise.
* "gaussian": mu >= Phi^-1(TPR) - Phi^-1(FPR) from the same limits (Nasr et al. 2023, 2302.07956). Both assumptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from byrote.gaussian import epsilon_of
from byrote.statistics.one_run import Inverse, one_run_epsilon, one_run_mu, refutation_p_value
from byrote.statistics.roc import as_scores
from byrote.types import Floats

ESTIMATORS = ("one-run", "one-run-f-dp", "clopper-pearson", "gaussian")
SHARES = (0.1, 0.2, 0.05, 0.3, 0.02, 0.4)
"""Of the canaries that may be guessed to be in, and as many out; the first where none shows anything. Half would make
even a perfect attacker err, since coins seldom fall evenly."""
FEWEST = 20
"""Canaries that an audit needs: with fewer, not even a perfect attacker shows much."""
AT_ONCE = 256
"""Thresholds that are tried at once, before those between the best of them."""
LEVELS = (0.9999, 0.95, 0.5)
"""At which a threshold is chosen: the first so strict that a lucky tail does not win, and the others where it shows
nothing."""

Counts = NDArray[np.int64] | int
Bools = NDArray[np.bool_]
RateBound = Callable[[Counts, int, Counts, int, float], Floats]
"""As `rates_mu`: found, inserted, alarms, left out, level."""


class Bound(NamedTuple):
    """A lower bound on epsilon, and the one that a perfect attacker would have been given on the same canaries."""

    epsilon: float
    ceiling: float


class Guesses(NamedTuple):
    """A game of guessing coins: so many canaries, of which so many were guessed, and so many of these rightly."""

    canaries: int
    made: int
    correct: int


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """The scores of some canaries, and whether each was in the training data."""

    scores: Floats
    inserted: Bools

    @property
    def sides(self) -> tuple[int, int]:
        """How many were in, and how many were not."""
        return int(self.inserted.sum()), int((~self.inserted).sum())

    def guesses(self, each: int) -> Guesses:
        """So many with the highest scores guessed to be in, and so many with the lowest to be out."""
        order = np.argsort(self.scores, kind="stable")  # the order of the half is random, and so are ties
        correct = int((~self.inserted[order[:each]]).sum() + self.inserted[order[-each:]].sum())
        return Guesses(len(order), 2 * each, correct)

    def counts(self, thresholds: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many that were in, and how many that were not, score above each threshold."""
        sides = (np.sort(self.scores[self.inserted]), np.sort(self.scores[~self.inserted]))
        above = [len(side) - np.searchsorted(side, thresholds, "right") for side in sides]
        return above[0], above[1]


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """One audit of canaries by their scores. Make one with `Audit.of`."""

    chosen: Half
    """Those that choose."""
    measured: Half
    delta: float
    level: float

    @classmethod
    def of(cls, scores: ArrayLike, inserted: ArrayLike, delta: float, *, seed: int = 0, level: float = 0.95) -> Audit:
        """Of scores (m,) and coins, booleans (m,), in an order that does not hang on who is in.

        Raises ValueError where their shapes differ, a score is not finite, there are fewer than FEWEST canaries, or
        delta or level is out of range.
        """
        values, coins = as_scores(scores, "canary"), np.asarray(inserted)
        if coins.dtype != np.bool_ or coins.shape != values.shape:
            raise ValueError(f"{len(values)} scores need as many coins, true or false")
        if len(values) < FEWEST:
            raise ValueError(f"needs {FEWEST} canaries, has {len(values)}")
        if not (0.0 < delta < 1.0 and 0.5 < level < 1.0):
            raise ValueError(f"delta {delta} lies in (0, 1), and level {level} in (0.5, 1)")
        order = np.random.default_rng(seed).permutation(len(values))
        chosen, measured = (Half(values[part], coins[part]) for part in np.array_split(order, 2))
        return cls(chosen, measured, delta, level)

    @property
    def n(self) -> int:
        """Canaries that the bounds are made from."""
        return len(self.measured.scores)

    def guesses(self) -> Guesses:
        """The game on the measured half, with as many guesses as the other half would have chosen."""

        def shown(share: float) -> float:
            return one_run_epsilon(*self.chosen.guesses(_each(share, len(self.chosen.scores))), self.delta, self.level)

        return self.measured.guesses(_each(max(SHARES, key=shown), self.n))

    def one_run(self) -> Bound:
        """By Steinke's bound."""
        return self._of_games(lambda game: one_run_epsilon(*game, self.delta, self.level))

    def one_run_gaussian(self) -> Bound:
        """By the f-DP test of Gaussian mechanisms."""
        return self._of_games(lambda game: epsilon_of(one_run_mu(*game, self.level), self.delta))

    def _of_games(self, bound: Callable[[Guesses], float]) -> Bound:
        return Bound(bound(self.guesses()), max(bound(game) for game in self._perfect()))

    def _perfect(self) -> list[Guesses]:
        """The games of an attacker who knows all coins."""
        return [
            Guesses(self.n, 2 * each, sum(min(each, side) for side in self.measured.sides))
            for each in {_each(share, self.n) for share in SHARES}
        ]

    def rates(self) -> Bound:
        """By binomial limits of both rates."""

        def bound(found: Counts, inserted: int, alarms: Counts, left_out: int, level: float) -> Floats:
            return rates_epsilon(found, inserted, alarms, left_out, self.delta, level)

        return self._of_rates(bound)

    def rates_gaussian(self) -> Bound:
        """By the same limits, of a Gaussian mechanism."""
        return Bound(*(epsilon_of(mu, self.delta) for mu in self._of_rates(rates_mu)))

    def _of_rates(self, bound: RateBound) -> Bound:
        if not all((*self.chosen.sides, *self.measured.sides)):
            return Bound(0.0, 0.0)
        inserted, left_out = self.measured.sides
        ceiling = float(bound(inserted, inserted, 0, left_out, self.level))
        above_zero = (found for level in LEVELS if (found := self._threshold(bound, level)) is not None)
        threshold = next(above_zero, None)
        if threshold is None:
            return Bound(0.0, ceiling)
        hits, alarms = self.measured.counts([threshold])
        return Bound(float(bound(hits, inserted, alarms, left_out, self.level)[0]), ceiling)

    def _threshold(self, bound: RateBound, level: float) -> float | None:
        """Where the chosen half has its best bound at this level; None where it has none above 0."""
        distinct = np.unique(self.chosen.scores)
        thresholds = distinct[:-1] + np.diff(distinct) / 2.0
        inserted, left_out = self.chosen.sides
        while len(thresholds):
            step = -(-len(thresholds) // AT_ONCE)
            hits, alarms = self.chosen.counts(thresholds[::step])
            bounds = bound(hits, inserted, alarms, left_out, level)
            best = int(np.argmax(bounds)) * step
            if step == 1:
                return float(thresholds[best]) if bounds[best] > 0.0 else None
            thresholds = thresholds[max(best - step, 0) : best + step + 1]
        return None

    def bounds(self) -> dict[str, Bound]:
        """By every estimator. Each holds with probability `level` by itself; the largest of them does not."""
        made = self.one_run(), self.one_run_gaussian(), self.rates(), self.rates_gaussian()
        return dict(zip(ESTIMATORS, made, strict=True))

    def p_value(self, inverse: Inverse) -> float:
        """The largest chance of so many right guesses where a trade-off curve holds (see `one_run.Inverse`)."""
        return refutation_p_value(inverse, *self.guesses())


def rates_epsilon(
    found: Counts, inserted: int, alarms: Counts, left_out: int, delta: float = 0.0, level: float = 0.95
) -> Floats:
    """The lower bound on epsilon where `found` of those inserted and `alarms` of those left out are called inserted.

    Both rates lie within their limits with probability `level`, and then both guesses, "in" and "out", are bounded.
    """
    tpr, fpr = _limits(found, inserted, alarms, left_out, level)
    odds = np.maximum((tpr - delta) / fpr, (1.0 - fpr - delta) / (1.0 - tpr))
    epsilon: Floats = np.log(np.maximum(odds, 1.0))
    return epsilon


def rates_mu(found: Counts, inserted: int, alarms: Counts, left_out: int, level: float = 0.95) -> Floats:
    """The same as a lower bound on the mu of a Gaussian mechanism."""
    from scipy.special import ndtri

    tpr, fpr = _limits(found, inserted, alarms, left_out, level)
    mu: Floats = np.maximum(np.where(tpr > fpr, ndtri(tpr) - ndtri(np.minimum(fpr, 1.0 - 1e-16)), 0.0), 0.0)
    return mu


def _limits(found: Counts, inserted: int, alarms: Counts, left_out: int, level: float) -> tuple[Floats, Floats]:
    """The lower limit of the first rate and the upper one of the second (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    hits, misses = np.asarray(found, float), inserted - np.asarray(found, float)
    false, right = np.asarray(alarms, float), left_out - np.asarray(alarms, float)
    if not (inserted and left_out and min(hits.min(), misses.min(), false.min(), right.min()) >= 0.0):
        raise ValueError(f"{found} of {inserted} and {alarms} of {left_out} are no rates")
    tail = (1.0 - level) / 2.0
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1.0), misses + 1.0, tail), 0.0)
    high = np.where(right > 0, betaincinv(false + 1.0, np.maximum(right, 1.0), 1.0 - tail), 1.0)
    return low, high


def _each(share: float, canaries: int) -> int:
    """How many are guessed to be in, and how many out."""
    return max(int(share * canaries), 1)
