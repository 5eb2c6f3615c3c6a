from __future__ import annotations

import math
import re

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from byrote.statistics.tradeoff import advantage_bound, tpr_bound_of_profile
from byrote.training import accounting
from byrote.training.accounting import (
    TOLERANCE,
    Spent,
    accountant_version,
    check_request,
    delta_warning,
    epsilon_of,
    noise_for,
    profile,
)
from byrote.types import ByroteError, StudyError


def event(noise: float, rate: float, steps: int) -> dp_accounting.DpEvent:
    """The same training run in the words of Google's dp-accounting."""
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def google(noise: float, rate: float, steps: int) -> pld.PLDAccountant:
    """Their tightest accountant: privacy loss distributions, the worse of adding and removing one unit."""
    return pld.PLDAccountant().compose(event(noise, rate, steps))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Balle and Wang 2018, theorem 8, written plainly."""
    return float(ndtr(-epsilon / mu + mu / 2) - math.exp(epsilon) * ndtr(-epsilon / mu - mu / 2))


# --- epsilon -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "steps", "noise", "delta", "epsilon_rdp", "epsilon_prv", "noise_at_8"),
    [
        (0.0256, 400, 1.0, 1e-5, 3.674, 3.261, 0.688),
        (0.04, 250, 0.8, 1e-3, 5.430, 4.538, None),
        (0.0205, 1000, 0.6, 1e-6, 18.136, 16.353, None),
    ],
)
def test_known_accounts(
    rate: float, steps: int, noise: float, delta: float, epsilon_rdp: float, epsilon_prv: float, noise_at_8: float
) -> None:
    """Values of Opacus 1.6.0 with its defaults, whose PRV margin of 0.01 is wider than ours."""
    assert epsilon_of(noise, rate, steps, delta, "rdp") == Spent(pytest.approx(epsilon_rdp, rel=5e-4), "rdp")
    spent = epsilon_of(noise, rate, steps, delta)
    assert spent == Spent(pytest.approx(epsilon_prv, rel=0.003), "prv")
    assert spent.epsilon <= epsilon_prv * 1.0001
    if noise_at_8:
        assert noise_for(8.0, delta, rate, steps) == pytest.approx(noise_at_8, rel=2e-3)


@pytest.mark.parametrize(
    ("rate", "steps", "noise", "delta"),
    [
        (0.0256, 400, 1.0, 1e-5),
        (0.1, 80, 0.82, 5e-4),
        (0.1, 1, 1.0, 1e-5),
        (0.1, 100, 20.0, 1e-5),
        (0.5, 20, 3.0, 1e-5),
        (0.9, 3, 3.0, 1e-6),
        (0.01, 10_000, 1.0, 1e-6),
        (0.001, 10_000, 0.7, 1e-7),
    ],
)
def test_within_one_percent_of_google(rate: float, steps: int, noise: float, delta: float) -> None:
    spent, theirs = epsilon_of(noise, rate, steps, delta), google(noise, rate, steps).get_epsilon(delta)
    assert spent.accountant == "prv"
    # Both are upper bounds; ours may be the tighter one by no more than their own rounding.
    assert theirs * 0.999 <= spent.epsilon <= theirs * 1.01


@pytest.mark.parametrize(("rate", "noise"), [(0.0256, 1.0), (0.04, 0.8), (0.001, 4.0), (1.0, 5.0)])
def test_renyi_divergences_are_right_at_every_order(rate: float, noise: float) -> None:
    """Equal to Google's at whole orders; between them Google rounds up, by up to a fifth, and an integral decides."""
    orders, divergences = accounting._rdp_curve(noise, rate)
    theirs = [rdp.RdpAccountant(orders=[order]).compose(event(noise, rate, 1))._rdp[0] for order in orders]
    whole = orders == np.round(orders)
    assert whole.sum() > 60
    np.testing.assert_allclose(divergences[whole], np.array(theirs)[whole], rtol=1e-6)
    assert (divergences <= np.array(theirs) * (1 + 1e-6)).all()
    for order, divergence in zip(orders[:40:13], divergences[:40:13], strict=True):
        assert divergence == pytest.approx(renyi(order, rate, noise), rel=1e-6)


def renyi(order: float, rate: float, noise: float) -> float:
    """The divergence of one sampled step, by integration (Mironov et al. 2019, 1908.10530)."""

    def density(x: float) -> float:
        ratio = 1 - rate + rate * math.exp((2 * x - 1) / (2 * noise**2))
        return math.exp(-(x**2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi)) * ratio**order

    area, _ = quad(density, -12 * noise, order + 12 * noise, points=[0, order], epsabs=0, epsrel=1e-12, limit=500)
    return math.log(area) / (order - 1)


@pytest.mark.parametrize(
    ("rate", "steps", "noise", "delta"),
    [(0.0256, 400, 1.0, 1e-5), (0.04, 250, 0.8, 1e-3), (0.001, 100, 4.0, 1e-5), (1.0, 10, 5.0, 1e-6)],
)
def test_rdp_agrees_with_google_at_the_same_orders(rate: float, steps: int, noise: float, delta: float) -> None:
    theirs = rdp.RdpAccountant(orders=accounting._rdp_curve(noise, rate)[0].tolist())
    expected = theirs.compose(event(noise, rate, steps)).get_epsilon(delta)
    assert expected * 0.995 <= epsilon_of(noise, rate, steps, delta, "rdp").epsilon <= expected * (1 + 1e-6)


def one_sampled_step(noise: float, rate: float, delta: float) -> float:
    """Exact, by amplification of the closed form: delta_rate(log(1 + rate (e^x - 1))) = rate delta(x)."""
    whole = epsilon_of(noise, 1.0, 1, delta / rate).epsilon
    return whole + math.log(rate + (1 - rate) * math.exp(-whole))


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 1.0), (0.5, 0.4), (0.02, 0.3)])
def test_one_sampled_step(rate: float, noise: float) -> None:
    exact = one_sampled_step(noise, rate, 1e-6)
    assert exact <= epsilon_of(noise, rate, 1, 1e-6).epsilon <= exact * 1.005


@given(st.floats(0.3, 50.0), st.integers(1, 2000), st.floats(-9.0, -1.0))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_closed_form_without_sampling(noise: float, steps: int, log_delta: float) -> None:
    delta, mu = 10.0**log_delta, math.sqrt(steps) / noise
    spent = epsilon_of(noise, 1.0, steps, delta)
    assert spent.accountant == "gaussian" and spent.epsilon >= 0.0
    if 0.0 < spent.epsilon < 100.0:
        assert gaussian_delta(spent.epsilon, mu) == pytest.approx(delta, rel=1e-5)
    elif spent.epsilon == 0.0:
        assert gaussian_delta(0.0, mu) <= delta
    assert spent.epsilon <= epsilon_of(noise, 1.0, steps, delta, "rdp").epsilon + 1e-9


def test_numerical_composition_meets_the_closed_form_as_sampling_ends() -> None:
    almost, closed = epsilon_of(5.0, 1.0 - 1e-9, 10, 1e-5), epsilon_of(5.0, 1.0, 10, 1e-5)
    assert (almost.accountant, closed.accountant) == ("prv", "gaussian")
    assert closed.epsilon <= almost.epsilon <= 1.005 * closed.epsilon


RUNS = st.tuples(st.floats(0.5, 10.0), st.floats(0.001, 0.9), st.integers(1, 500))


@given(RUNS, st.floats(1.01, 3.0))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_more_steps_or_sampling_spend_more_and_more_noise_less(run: tuple[float, float, int], more: float) -> None:
    noise, rate, steps = run
    spent = epsilon_of(noise, rate, steps, 1e-5, "rdp").epsilon
    assert epsilon_of(noise * more, rate, steps, 1e-5, "rdp").epsilon <= spent
    assert epsilon_of(noise, min(rate * more, 1.0), steps, 1e-5, "rdp").epsilon >= spent
    assert epsilon_of(noise, rate, math.ceil(steps * more), 1e-5, "rdp").epsilon >= spent


@given(RUNS, st.floats(-8.0, -2.0))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_prv_is_never_above_rdp_and_never_negative(run: tuple[float, float, int], log_delta: float) -> None:
    delta = 10.0**log_delta
    spent, loose = epsilon_of(*run, delta), epsilon_of(*run, delta, "rdp")
    assert 0.0 <= spent.epsilon <= loose.epsilon
    assert bool(spent.reason) == (spent.accountant == "rdp")
    assert epsilon_of(2.0 * run[0], *run[1:], delta).epsilon <= spent.epsilon
    assert epsilon_of(*run[:2], 2 * run[2], delta).epsilon >= spent.epsilon


def test_no_steps_spend_nothing_and_a_large_delta_covers_everything() -> None:
    assert epsilon_of(1.0, 0.1, 0, 1e-5).epsilon == 0.0
    assert profile(1.0, 0.1, 0) == ((0.0, 0.0),)
    for accountant in ("prv", "rdp"):
        assert epsilon_of(5.0, 0.02, 10, 0.3, accountant).epsilon == 0.0  # Opacus #585 went below 0


@pytest.mark.parametrize(("noise", "rate", "steps"), [(0.01, 0.1, 1), (0.05, 0.1, 100)])
def test_losses_that_overflow_fall_back_to_rdp_and_say_so(noise: float, rate: float, steps: int) -> None:
    spent = epsilon_of(noise, rate, steps, 1e-5)
    assert spent.accountant == "rdp" and "too large" in spent.reason
    assert spent.epsilon >= one_sampled_step(noise, rate, 1e-5)


def test_a_broken_composition_falls_back_to_rdp_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from opacus.accountants.analysis import prv

    def broken(*_: object) -> None:
        raise RuntimeError("Discrete mean differs significantly from continuous mean.")

    monkeypatch.setattr(prv, "discretize", broken)
    spent = epsilon_of(1.03, 0.0256, 400, 1e-5)
    assert spent.epsilon == epsilon_of(1.03, 0.0256, 400, 1e-5, "rdp").epsilon
    assert spent.accountant == "rdp" and "Discrete mean" in spent.reason
    points = profile(1.03, 0.0256, 400)
    monkeypatch.undo()
    epsilon_of.cache_clear()
    profile.cache_clear()
    tight = dict(profile(1.03, 0.0256, 400))
    theirs = google(1.03, 0.0256, 400)
    assert all(delta >= theirs.get_delta(epsilon) for epsilon, delta in points[1::12])
    assert points[-1][0] > max(tight)


# --- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps", "accountant"),
    [
        (1.0, 1e-5, 0.0256, 400, "prv"),
        (0.5, 0.3, 0.1, 80, "prv"),
        (8.0, 1e-5, 1.0, 80, "prv"),
        (0.1, 1e-5, 0.0256, 400, "rdp"),
        (1.0, 1e-5, 0.0256, 400, "rdp"),
        (60.0, 1e-5, 0.1, 80, "rdp"),
    ],
)
def test_noise_and_epsilon_are_each_others_inverse(
    epsilon: float, delta: float, rate: float, steps: int, accountant: str
) -> None:
    noise = noise_for(epsilon, delta, rate, steps, accountant)
    assert epsilon_of(noise, rate, steps, delta, accountant).epsilon <= epsilon
    assert epsilon_of(noise / (1.0 + 1.1 * TOLERANCE), rate, steps, delta, accountant).epsilon > epsilon


def test_known_noise() -> None:
    assert noise_for(1.0, 1e-5, 0.0256, 400) == pytest.approx(2.139, rel=0.015)  # with Opacus' own, wider margin
    assert noise_for(1.0, 1e-5, 0.0256, 400, "rdp") == pytest.approx(2.285, rel=4e-3)
    assert noise_for(8.0, 1e-5, 0.0256, 400, "rdp") == pytest.approx(0.724, rel=2e-3)


def test_targets_out_of_reach_are_refused_with_the_reason() -> None:
    with pytest.raises(StudyError, match=r"epsilon 1e-09 at delta 1e-05 is out of reach.*noise multiplier of 100,000"):
        noise_for(1e-9, 1e-5, 0.1, 80, "rdp")
    with pytest.raises(StudyError, match=r"epsilon 1e\+06 is no limit.*hardly any noise.*choose a smaller epsilon"):
        noise_for(1e6, 1e-5, 0.1, 80, "rdp")


# --- the profile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.0256, 400), (0.8, 0.1, 80), (0.7, 0.001, 10_000)])
def test_the_profile_bounds_every_delta_closely(noise: float, rate: float, steps: int) -> None:
    points, theirs = profile(noise, rate, steps), google(noise, rate, steps)
    epsilons, deltas = np.array(points).T
    assert epsilons[0] == 0.0 and (np.diff(epsilons) > 0).all() and (np.diff(deltas) <= 0).all()
    assert 0.0 < deltas[-1] < 2e-9 and deltas[0] <= 1.0
    for epsilon, delta in points[:: len(points) // 4]:
        assert delta >= theirs.get_delta(epsilon) * (1 - 1e-3)
        # The mesh may cost a little epsilon, half a hundredth where steps are many.
        assert delta <= theirs.get_delta(max(epsilon - 0.006, 0.0)) * 1.03 + 2e-10


def test_the_profile_and_epsilon_tell_the_same() -> None:
    epsilons, deltas = np.array(profile(0.8, 0.1, 80)).T
    for delta in (1e-3, 1e-5, 1e-7):
        epsilon = epsilon_of(0.8, 0.1, 80, delta).epsilon
        assert np.exp(np.interp(epsilon, epsilons, np.log(deltas))) == pytest.approx(delta, rel=0.05)


def test_published_bounds_on_attacks() -> None:
    """riskcal's for this run: advantage .252, TPR 5.1% at FPR 1% and 26.9% at 10%."""
    points = profile(1.0, 0.0256, 400)
    assert advantage_bound(points) == pytest.approx(0.252, abs=6e-4)
    np.testing.assert_allclose(tpr_bound_of_profile([0.01, 0.1], points), [0.051, 0.269], rtol=0.015)


def test_without_sampling_the_profile_gives_the_gaussian_trade_off() -> None:
    rates = np.array([1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9])
    bound, exact = tpr_bound_of_profile(rates, profile(10.0, 1.0, 100)), ndtr(ndtri(rates) + 1.0)
    assert (bound >= exact).all()
    np.testing.assert_allclose(bound, exact, rtol=0.01)


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delta": 0.0}, "delta is 0, but it is a probability"),
        ({"delta": 1.0}, "delta is 1, but it is a probability"),
        ({"delta": math.nan}, "delta is nan"),
        ({"sampling_rate": 1.2}, "sampling rate is 1.2, but no unit can be in a batch more often than always"),
        ({"sampling_rate": 0.0}, "sampling rate is 0, so no unit would ever be in a batch"),
        ({"steps": 0}, "0 steps of training"),
        ({"epsilon": 0.0}, "epsilon is 0, but must be above 0"),
        ({"epsilon": -1.0}, "epsilon is -1, but must be above 0"),
        ({"epsilon": math.inf}, "epsilon is inf"),
        ({"noise_multiplier": 0.0}, "noise_multiplier is 0, but must be above 0 and finite: without noise nothing"),
        ({"clip_norm": -0.5}, "clip_norm is -0.5, but must be above 0"),
        ({"clip_norm": math.nan}, "clip_norm is nan"),
    ],
)
def test_impossible_requests_say_which_and_why(changes: dict[str, float], words: str) -> None:
    request: dict[str, float] = {"sampling_rate": 0.1, "steps": 10, "delta": 1e-5, "noise_multiplier": 1.0}
    check_request(**request, epsilon=8.0, clip_norm=0.1)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match=re.escape(words)):
        check_request(**{**request, **changes})  # type: ignore[arg-type]


def test_accounts_refuse_what_cannot_be() -> None:
    for call in (
        lambda: epsilon_of(0.0, 0.1, 10, 1e-5),
        lambda: epsilon_of(1.0, 1.5, 10, 1e-5),
        lambda: noise_for(0.0, 1e-5, 0.1, 10),
        lambda: noise_for(8.0, 1e-5, 0.1, 0),
        lambda: profile(-1.0, 0.1, 10),
        lambda: epsilon_of(1.0, 0.1, 10, 1e-5, "gdp"),
    ):
        with pytest.raises(ByroteError, match="privacy: "):
            call()


def test_a_delta_that_rules_nothing_out_has_a_banner() -> None:
    assert delta_warning(1000**-1.1, 1000) is None
    banner = delta_warning(4e-5, 52_371)  # Ma et al. 2024
    assert banner is not None and "4e-05" in banner and "1/52,371" in banner


def test_the_accountant_is_named_with_its_version() -> None:
    assert re.fullmatch(r"opacus 1\.6\.\d+", accountant_version())
