"""How much privacy a training run spends: epsilon from noise, noise from epsilon, and the whole privacy profile.

One step adds Gaussian noise of `noise_multiplier` times the clip norm to the sum of the clipped gradients of a
Poisson sample, each unit drawn with probability `sampling_rate` (Abadi et al. 2016, 1607.00133). `steps` of them are
composed. A guarantee is for adding or removing one unit, and only for Poisson samples.

Three accountants, each an upper bound:

* "prv" composes the privacy loss numerically (Gopi et al. 2021, 2106.02848) and is the tightest; from Opacus.
* "rdp" composes Rényi divergences (Mironov 2017, 1702.07476; Balle et al. 2020, 1905.09982); from Opacus.
* "gaussian" is the closed form for a sampling rate of 1 (Balle and Wang 2018, 1805.06530).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from byrote.gaussian import delta_of, epsilon_above
from byrote.types import Floats, StudyError

if TYPE_CHECKING:
    from opacus.accountants.analysis.prv import DiscretePRV

LEAST_NOISE, MOST_NOISE = 0.1, 1e5
"""Noise multipliers between which one is looked for."""
TOLERANCE = 1e-3
"""`noise_for` returns at most this much more noise than the target needs, relatively."""
MESH_POINTS = 2**20
"""The finest mesh on which privacy losses are composed: about a second and 200 MB."""
LARGEST_LOSS = 600.0
"""Opacus writes e^loss as a float64: beyond about e^709 its PRV accountant stays at 709, silently."""
MASS_ERROR = 1e-4
"""How far rounding may take the mass of a composed loss from 1; deltas are off by the same factor."""
PROFILE_POINTS = 40
SMALLEST_DELTA = 1e-9
"""Where a profile ends."""
HIGH_ORDERS = (72, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Rényi orders beyond those that Opacus tries, for little privacy loss."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has spent at its delta, and which accountant says so."""

    epsilon: float
    accountant: str
    """"prv", "rdp" or "gaussian"."""
    reason: str = ""
    """Why it is not the accountant that was asked for; empty where it is."""


def accountant_version() -> str:
    """The package whose accountants are used, with its version."""
    from importlib.metadata import version

    return f"opacus {version('opacus')}"


def delta_warning(delta: float, units: int) -> str | None:
    """The banner of a delta that does not rule out publishing whole units; None where delta < 1 / units."""
    if delta * units < 1.0:
        return None
    return (
        f"delta {delta:g} is not below 1/{units:,} = {1 / units:.3g}: a guarantee with such a delta "
        "does not rule out that single units are given away whole, so read its epsilon with care"
    )


def check_request(
    sampling_rate: float,
    steps: int,
    delta: float,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    clip_norm: float | None = None,
) -> None:
    """Raises StudyError, which says what and why, for what no private training can be."""
    if not 0.0 < delta < 1.0:
        raise StudyError(f"privacy: delta is {delta:g}, but it is a probability between 0 and 1, neither included")
    if not sampling_rate > 0.0:
        raise StudyError(f"privacy: the sampling rate is {sampling_rate:g}, so no unit would ever be in a batch")
    if sampling_rate > 1.0:
        raise StudyError(
            f"privacy: the sampling rate is {sampling_rate:g}, but no unit can be in a batch more often than always; "
            "expected_batch_size must not be larger than the number of units"
        )
    if steps < 1:
        raise StudyError(f"privacy: {steps} steps of training spend nothing and learn nothing; at least 1 is needed")
    above_zero = {
        "epsilon": (epsilon, "at 0 the trained weights could not depend on the records at all"),
        "noise_multiplier": (noise_multiplier, "without noise nothing is private"),
        "clip_norm": (clip_norm, "noise hides a gradient only up to the length that it is clipped to"),
    }
    for name, (value, why) in above_zero.items():
        if value is not None and not 0.0 < value < math.inf:
            raise StudyError(f"privacy: {name} is {value:g}, but must be above 0 and finite: {why}")


@cache
def epsilon_of(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, accountant: str = "prv"
) -> Spent:
    """The epsilon that `steps` steps spend at `delta`: an upper bound, never negative.

    `accountant` is "prv" or "rdp". "prv" is answered by the closed form where the sampling rate is 1, and by RDP
    where the numerical composition fails or is no tighter, as it is for losses below its mesh.
    """
    _check_accountant(accountant)
    check_request(sampling_rate, max(steps, 1), delta, noise_multiplier=noise_multiplier)
    if steps < 1:
        return Spent(0.0, accountant)
    if accountant == "rdp":
        return Spent(_rdp_epsilon(noise_multiplier, sampling_rate, steps, delta), "rdp")
    if sampling_rate == 1.0:
        return Spent(epsilon_above(math.sqrt(steps) / noise_multiplier, delta), "gaussian")
    loose = _rdp_epsilon(noise_multiplier, sampling_rate, steps, delta)
    try:
        tight = _prv_epsilon(noise_multiplier, sampling_rate, steps, delta, loose)
    except _PrvFailed as problem:
        return Spent(loose, "rdp", f"the PRV accountant failed: {problem}")
    if tight > loose:
        return Spent(loose, "rdp", "the PRV accountant's margin of error is larger than what is spent")
    return Spent(tight, "prv")


@cache
def noise_for(epsilon: float, delta: float, sampling_rate: float, steps: int, accountant: str = "prv") -> float:
    """The noise multiplier with which `steps` steps spend at most `epsilon` at `delta`.

    It is at most TOLERANCE above the smallest such, and always on the safe side: `epsilon_of` it is never above
    the target. Raises StudyError for a target that no noise between LEAST_NOISE and MOST_NOISE meets, or all do.
    """
    _check_accountant(accountant)
    check_request(sampling_rate, steps, delta, epsilon=epsilon)

    def spent(noise: float) -> float:
        return epsilon_of(noise, sampling_rate, steps, delta, accountant).epsilon

    # The central limit's guess (Dong et al. 2019, 1905.02383) is a little too low, but costs nothing.
    guess = _bisect(lambda noise: _clt_epsilon(noise, sampling_rate, steps, delta) <= epsilon, LEAST_NOISE, MOST_NOISE)
    low, high, factor = guess, guess, 1.1
    while spent(high) > epsilon:
        if high >= MOST_NOISE:
            raise StudyError(
                f"privacy: epsilon {epsilon:g} at delta {delta:g} is out of reach: {steps:,} steps at a sampling rate "
                f"of {sampling_rate:g} spend {spent(MOST_NOISE):.3g} even with a noise multiplier of {MOST_NOISE:,.0f}"
            )
        low, high, factor = high, min(high * factor, MOST_NOISE), factor**2
    factor = 1.1
    while low == high or spent(low) <= epsilon:
        if low <= LEAST_NOISE:
            raise StudyError(
                f"privacy: epsilon {epsilon:g} is no limit: {steps:,} steps at a sampling rate of {sampling_rate:g} "
                f"spend {spent(LEAST_NOISE):.4g} with hardly any noise (multiplier {LEAST_NOISE:g}); "
                "choose a smaller epsilon, or give noise_multiplier"
            )
        high, low, factor = low, max(low / factor, LEAST_NOISE), factor**2
    return _narrow(spent, epsilon, low, high)


@cache
def profile(noise_multiplier: float, sampling_rate: float, steps: int) -> tuple[tuple[float, float], ...]:
    """The privacy profile: pairs (epsilon, delta) that all hold at once, rising in epsilon.

    The first is at epsilon 0, where delta bounds the total variation, which is any attack's best advantage; the
    last is where delta falls below SMALLEST_DELTA. Every delta is an upper bound.
    """
    if steps < 1:
        return ((0.0, 0.0),)
    check_request(sampling_rate, steps, 0.5, noise_multiplier=noise_multiplier)
    end = epsilon_of(noise_multiplier, sampling_rate, steps, SMALLEST_DELTA).epsilon
    # Slopes e^epsilon near 1 bound the false-positive rates that can be measured: points lie closer there.
    epsilons = end * np.linspace(0.0, 1.0, PROFILE_POINTS) ** 1.5
    if sampling_rate == 1.0:
        deltas = np.array([delta_of(math.sqrt(steps) / noise_multiplier, x) for x in epsilons])
    else:
        deltas = _rdp_deltas(epsilons, noise_multiplier, sampling_rate, steps)
        with suppress(_PrvFailed):
            deltas = np.minimum(deltas, _prv_deltas(epsilons, noise_multiplier, sampling_rate, steps, end))
    # What holds at one epsilon holds at every larger one.
    deltas = np.minimum.accumulate(np.clip(deltas, 0.0, 1.0))
    return tuple(zip(epsilons.tolist(), deltas.tolist(), strict=True))


def _check_accountant(name: str) -> None:
    if name not in ("prv", "rdp"):
        raise StudyError(f'privacy: there is no accountant "{name}"; choose prv or rdp')


def _bisect(enough: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest value for which `enough` holds, from above, where it holds at `high` and not at `low`."""
    while high > low * (1.0 + TOLERANCE):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _narrow(spent: Callable[[float], float], epsilon: float, low: float, high: float) -> float:
    """`_bisect` for `spent(noise) <= epsilon`, with straight lines on a log-log scale: half as many calls."""
    step = 1.0 + 0.99 * TOLERANCE
    for turn in range(1000):
        if high <= low * (1.0 + TOLERANCE):
            break
        over, under = spent(low) / epsilon, spent(high) / epsilon
        if turn % 3 == 2 or under == 0.0 or math.isinf(over):
            middle = math.sqrt(low * high)
        else:
            share = math.log(over) / math.log(over / under)
            # Half a tolerance on the safe side of the crossing; the next guess then closes in from below.
            crossing = low * (high / low) ** share * (1.0 + TOLERANCE / 2.0)
            middle = max(min(crossing, high / step), low * min(step, math.sqrt(high / low)))
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
    return high


def _clt_epsilon(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    """The limit for many steps; it lies below the truth and is therefore only a guess to start from."""
    exponent = min(noise_multiplier**-2, 50.0)
    return epsilon_above(sampling_rate * math.sqrt(steps * math.expm1(exponent)), delta)


# --- RDP -----------------------------------------------------------------------------------------------------------


@contextmanager
def _numerics() -> Iterator[None]:
    """Opacus divides by zero and overflows on its way to right answers; wrong integrals are errors."""
    from scipy.integrate import IntegrationWarning

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error", IntegrationWarning)
        warnings.filterwarnings("ignore", "Optimal order is the (smallest|largest) alpha", UserWarning)
        yield


@cache
def _rdp_curve(noise_multiplier: float, sampling_rate: float) -> tuple[Floats, Floats]:
    """Rényi orders, and the divergence of one step at each; orders at which it cannot be computed are left out."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    orders, divergences = [], []
    with _numerics():
        for order in (*RDPAccountant.DEFAULT_ALPHAS, *HIGH_ORDERS):
            try:
                value = compute_rdp(q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=float(order))
            except (ValueError, OverflowError):
                continue
            if math.isfinite(value):
                orders.append(float(order))
                divergences.append(max(float(value), 0.0))
    return np.array(orders), np.array(divergences)


def _rdp_epsilon(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    from opacus.accountants.analysis.rdp import get_privacy_spent

    orders, divergences = _rdp_curve(noise_multiplier, sampling_rate)
    if not len(orders):
        return math.inf
    with _numerics():
        epsilon, _ = get_privacy_spent(orders=orders, rdp=divergences * steps, delta=delta)
    return max(float(epsilon), 0.0)


def _rdp_deltas(epsilons: Floats, noise_multiplier: float, sampling_rate: float, steps: int) -> Floats:
    """The same conversion (theorem 21 of Balle et al. 2020), solved for delta."""
    orders, divergences = _rdp_curve(noise_multiplier, sampling_rate)
    if not len(orders):
        return np.ones_like(epsilons)
    excess = divergences * steps - epsilons[:, None] + np.log1p(-1.0 / orders)
    deltas: Floats = np.exp(np.minimum((orders - 1.0) * excess - np.log(orders), 0.0)).min(axis=1)
    return deltas


# --- PRV -----------------------------------------------------------------------------------------------------------


class _PrvFailed(Exception):
    """The numerical composition does not work at these values."""


def _compose(
    noise_multiplier: float, sampling_rate: float, steps: int, delta_error: float, eps_error: float
) -> tuple[DiscretePRV, float]:
    """The privacy loss of all steps on a mesh, and its error in epsilon: `eps_error`, or what the mesh allows."""
    from opacus.accountants.analysis import prv

    loss = prv.PoissonSubsampledGaussianPRV(sampling_rate, noise_multiplier)
    try:
        with _numerics():
            half_width = float(prv.compute_safe_domain_size([loss], [steps], eps_error, delta_error))
            if half_width > LARGEST_LOSS:
                raise _PrvFailed(f"privacy losses of {half_width:.0f} are too large for its mesh")
            scale = math.sqrt(steps * math.log(12.0 / delta_error) / 2.0)  # theorem 5.5 of Gopi et al.
            eps_error = max(eps_error, 2.0 * half_width * scale / MESH_POINTS)
            domain = prv.Domain.create_aligned(-half_width, half_width, eps_error / scale)
            truncated = prv.TruncatedPrivacyRandomVariable(loss, domain.t_min, domain.t_max)
            composed = prv.compose_heterogeneous([prv.discretize(truncated, domain)], [steps])
    except (ArithmeticError, RuntimeError, ValueError, Warning) as problem:
        raise _PrvFailed(str(problem) or type(problem).__name__) from problem
    if not np.isfinite(composed.pmf).all() or abs(composed.pmf.sum() - 1.0) > MASS_ERROR:
        raise _PrvFailed("the composed privacy loss is not a distribution")
    return composed, eps_error


def _prv_epsilon(noise_multiplier: float, sampling_rate: float, steps: int, delta: float, loose: float) -> float:
    delta_error = delta / 1000.0
    composed, eps_error = _compose(noise_multiplier, sampling_rate, steps, delta_error, min(0.01, loose / 1000.0))
    try:
        with _numerics():
            if composed.compute_delta_estimate(-eps_error) + delta_error <= delta:
                return 0.0
            epsilon = float(composed.compute_epsilon(delta, delta_error, eps_error)[2])
    except (ArithmeticError, RuntimeError, ValueError) as problem:
        raise _PrvFailed(str(problem)) from problem
    if not math.isfinite(epsilon):
        raise _PrvFailed(f"it says {epsilon}")
    return max(epsilon, 0.0)


def _prv_deltas(epsilons: Floats, noise_multiplier: float, sampling_rate: float, steps: int, end: float) -> Floats:
    """The delta of each epsilon: the estimate at `eps_error` less, plus `delta_error` (theorem 5.5 of Gopi et al.)."""
    delta_error = SMALLEST_DELTA / 10.0
    composed, eps_error = _compose(noise_multiplier, sampling_rate, steps, delta_error, min(0.01, end / 5000.0))
    with _numerics():
        deltas = [float(composed.compute_delta_estimate(x - eps_error)) + delta_error for x in epsilons]
    if not np.isfinite(deltas).all():
        raise _PrvFailed("a delta is not finite")
    return np.array(deltas)
