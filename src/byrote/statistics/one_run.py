"""Lower bounds on epsilon from one training run: how many coin flips were guessed right, and how likely that is.

Each of m canaries is in the training data with probability 1/2, by a coin of its own. Whoever sees the outcome guesses
r of the coins, a number that does not hang on them, and v guesses are right. The canaries' scores may hang on each
other in any way. Two tests of a guarantee, for adding or removing one canary:

* Steinke, Nasr and Jagielski 2023 (2305.08846), theorem 5.2: of an (epsilon, delta).
* Mahloujifar, Melis and Chaudhuri 2024 (2410.22235), algorithm 3: of a whole trade-off curve, and so of a Gaussian
  mechanism, or of all that a ledger knows of its noise. It is sharper where delta matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from byrote.statistics.tradeoff import Profile

Inverse = Callable[[float], float]
"""From a true-positive rate to the smallest false-positive rate that it may have."""
LARGEST_MU = 1e3
SMALLEST_P = 1e-12


def check_guesses(canaries: int, guesses: int, correct: int) -> None:
    """Raises ValueError for counts that cannot be."""
    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        raise ValueError(f"{correct} right of {guesses} guesses about {canaries} canaries cannot be")


def one_run_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The largest chance that so many guesses or more are right where (epsilon, delta) holds."""
    from scipy.special import betainc, gammaln

    check_guesses(canaries, guesses, correct)
    if not (epsilon >= 0.0 and 0.0 <= delta <= 1.0):
        raise ValueError(f"epsilon {epsilon} and delta {delta} are no guarantee")
    if correct == 0:
        return 1.0
    wrong = 1.0 / (1.0 + math.exp(min(epsilon, 700.0)))  # of a guess about randomised response
    p = float(betainc(correct, guesses - correct + 1, 1.0 - wrong))
    if delta > 0.0:
        below = np.arange(correct - 1, -1, -1)
        chances = gammaln(guesses + 1) - gammaln(below + 1) - gammaln(guesses - below + 1)
        chances += below * math.log1p(-wrong) + (guesses - below) * math.log(wrong)
        # delta can lift a count by i at the price of i, so the worst is where most lies just below.
        lifted = np.cumsum(np.exp(chances)) / np.arange(1, correct + 1)
        p += 2.0 * canaries * delta * float(lifted.max())
    return min(p, 1.0)


@lru_cache(maxsize=4096)
def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float, level: float = 0.95) -> float:
    """The lower bound on epsilon at `delta` that holds with probability `level`; 0 where nothing is shown."""
    return _largest(lambda epsilon: one_run_p_value(canaries, guesses, correct, epsilon, delta) <= 1.0 - level)


@lru_cache(maxsize=4096)
def one_run_mu(canaries: int, guesses: int, correct: int, level: float = 0.95) -> float:
    """The lower bound on mu among Gaussian mechanisms: every smaller one is refuted. 0 where nothing is shown."""
    return _largest(lambda mu: refuted(gaussian_inverse(mu), canaries, guesses, correct, 1.0 - level))


def refuted(inverse: Inverse, canaries: int, guesses: int, correct: int, p: float) -> bool:
    """Whether so many right guesses have a chance below `p` under the trade-off curve that `inverse` describes.

    With q_i the chance of i right guesses, R = sum over j >= i of j q_j / m is how often a canary is guessed right in
    such an outcome, and H = sum of (r - j) q_j / m how often wrong. Flipping a coin turns the ones with i + 1 into the
    others with i, so H from i on is at least `inverse` of R from i + 1 on. Were the chance of `correct` or more `p`,
    all outcomes together would then have more than the mass that there is: r / m.
    """
    check_guesses(canaries, guesses, correct)
    right, wrong = p * correct / canaries, p * (guesses - correct) / canaries
    most = guesses / canaries
    for at in range(correct - 1, -1, -1):
        least = inverse(min(right, 1.0))
        if least <= wrong or right + wrong > most:
            break  # nothing changes from here on, or all is said
        right += at / (guesses - at) * (least - wrong)
        wrong = least
    return right + wrong > most * (1.0 + 1e-12)


def refutation_p_value(inverse: Inverse, canaries: int, guesses: int, correct: int) -> float:
    """The smallest p at which the curve is refuted, from above; 1 where it is not at all."""
    if not refuted(inverse, canaries, guesses, correct, 1.0 - 1e-9):
        return 1.0
    low, high = math.log(SMALLEST_P), 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2.0
        is_refuted = refuted(inverse, canaries, guesses, correct, math.exp(middle))
        low, high = (low, middle) if is_refuted else (middle, high)
    return math.exp(high)


def gaussian_inverse(mu: float) -> Inverse:
    """Of a mu-GDP mechanism."""
    from scipy.special import ndtr, ndtri

    return lambda rate: float(ndtr(ndtri(rate) - mu))


def profile_inverse(profile: Profile, copies: int = 1) -> Inverse:
    """Of pairs (epsilon, delta) that hold at once; for a canary with `copies` copies, each of which is a unit."""
    if not profile or copies < 1:
        raise ValueError("a privacy profile needs at least one pair of epsilon and delta, and a canary one copy")
    epsilons, deltas = np.asarray(profile, dtype=np.float64).T
    grow = np.exp(np.minimum(epsilons, 700.0))

    def inverse(rate: float) -> float:
        for _ in range(copies):
            least = np.maximum((rate - deltas) / grow, 1.0 - deltas - grow * (1.0 - rate))
            rate = max(float(least.max()), 0.0)
        return rate

    return inverse


def _largest(is_refuted: Callable[[float], bool]) -> float:
    """The largest number that is refuted, from below, where all smaller ones are too; 0 where none is."""
    if not is_refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while is_refuted(high):
        low, high = high, 2.0 * high
        if high > LARGEST_MU:
            return low
    while high - low > 1e-6 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if is_refuted(middle) else (low, middle)
    return low
