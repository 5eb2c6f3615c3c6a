"""Audited epsilon: published values, mechanisms whose epsilon is known, and other ways to the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize, stats

from byrote.gaussian import delta_of, epsilon_above, epsilon_of
from byrote.statistics.epsilon import ESTIMATORS, FEWEST, SHARES, Audit, rates_epsilon, rates_mu
from byrote.statistics.one_run import (
    gaussian_inverse,
    one_run_epsilon,
    one_run_mu,
    one_run_p_value,
    profile_inverse,
    refutation_p_value,
    refuted,
)
from byrote.types import Floats
from gaussian_privacy import delta_at, epsilon_at, tpr_at

DELTA = 1e-5
RELEASES = 2000
Release = Callable[[np.random.Generator, int], tuple[Floats, np.ndarray]]


def gaussian(mu: float) -> Release:
    """Each coin is released by itself, with noise: mu-GDP for adding or removing one."""

    def release(rng: np.random.Generator, canaries: int) -> tuple[Floats, np.ndarray]:
        coins = rng.random(canaries) < 0.5
        return rng.normal(size=canaries) + mu * coins, coins

    return release


def randomised_response(epsilon: float) -> Release:
    """Each coin is told, and is a lie now and then: exactly epsilon-DP."""

    def release(rng: np.random.Generator, canaries: int) -> tuple[Floats, np.ndarray]:
        coins = rng.random(canaries) < 0.5
        lies = rng.random(canaries) < 1 / (1 + math.exp(epsilon))
        return (coins ^ lies).astype(float), coins

    return release


# --- published values and closed forms ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "delta", "published"), [((1000, 100, 75), 1e-4, 0.673), ((100_000, 1510, 1439), 1e-5, 2.675)]
)
def test_one_run_as_steinke_prints_it(counts: tuple[int, int, int], delta: float, published: float) -> None:
    """Appendix D, page 46, and section 7, page 28, where the last digit was cut off."""
    assert one_run_epsilon(*counts, delta) == pytest.approx(published, abs=1e-3)


def test_the_ceilings_that_are_known() -> None:
    perfect = {50: 2.57, 100: 3.28, 200: 3.98, 500: 4.91, 1000: 5.60, 5000: 7.21, 20_000: 8.60}
    assert {n: round(float(rates_epsilon(n, n, 0, n)), 2) for n in perfect} == perfect
    all_right = {50: 2.78, 100: 3.49, 200: 4.19, 500: 5.11, 1000: 5.81, 5000: 7.42}
    assert {m: round(one_run_epsilon(m, m, m, 0.0), 2) for m in all_right} == all_right


@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-3, 0.1])
@pytest.mark.parametrize(("m", "r", "v"), [(10, 10, 9), (100, 40, 30), (100, 40, 40), (1000, 200, 0), (1000, 1, 1)])
def test_the_p_value_by_its_definition(m: int, r: int, v: int, delta: float) -> None:
    for epsilon in (0.0, 0.5, 2.0):
        law = stats.binom(r, 1 / (1 + math.exp(-epsilon)))
        lifted = max((sum(law.pmf(v - j) for j in range(1, i + 1)) / i for i in range(1, v + 1)), default=0.0)
        naive = min(law.sf(v - 1) + 2 * m * delta * lifted, 1.0)
        assert one_run_p_value(m, r, v, epsilon, delta) == pytest.approx(naive, rel=1e-9, abs=1e-15)


def test_the_gaussian_curve_there_and_back() -> None:
    for mu in (0.1, 1.0, 4.0, 20.0):
        for delta in (1e-9, 1e-5, 0.01):
            epsilon = epsilon_of(mu, delta)
            assert delta_of(mu, epsilon) == pytest.approx(delta, rel=1e-6)
            assert delta_of(mu, epsilon_above(mu, delta)) <= delta, "an account"
            assert epsilon == 0.0 or delta_of(mu, epsilon) > delta, "an audit"
            if mu <= 1.0:  # beyond, the closed form as it is written loses its digits
                assert epsilon == pytest.approx(epsilon_at(mu, delta), rel=1e-6)
                assert delta_of(mu, epsilon / 2) == pytest.approx(delta_at(mu, epsilon / 2), rel=1e-6)
    assert epsilon_of(0.0, DELTA) == epsilon_of(1e-6, DELTA) == 0.0
    with pytest.raises(ValueError, match="no epsilon"):
        epsilon_of(1.0, 0.0)


def largest_chance(profile: list[tuple[float, float]], m: int, r: int, v: int) -> float:
    """The most mass on v right guesses or more, of all laws that the profile allows, by linear programming."""
    right, wrong = np.arange(r + 1) / m, (r - np.arange(r + 1)) / m
    rows, limits = [], []
    for at in range(r):
        ours, theirs = np.where(np.arange(r + 1) > at, right, 0), np.where(np.arange(r + 1) >= at, wrong, 0)
        for epsilon, delta in profile:
            rows += [ours - math.exp(epsilon) * theirs, ours - math.exp(-epsilon) * theirs]
            limits += [delta, 1 - math.exp(-epsilon) * (1 - delta)]
    reward = -(np.arange(r + 1) >= v).astype(float)
    found = optimize.linprog(reward, np.array(rows), limits, np.ones((1, r + 1)), [1.0], method="highs")
    assert found.status == 0
    return -float(found.fun)


@pytest.mark.parametrize(
    "profile", [[(1.0, 0.0)], [(1.0, 0.01)], [(0.0, 0.2), (0.3, 0.1), (1.0, 0.02), (2.0, 1e-4)]], ids=len
)
@pytest.mark.parametrize(("m", "r", "v"), [(12, 12, 11), (30, 12, 12), (30, 20, 15), (60, 40, 33)])
def test_the_recursion_against_linear_programming(profile: list[tuple[float, float]], m: int, r: int, v: int) -> None:
    due = largest_chance(profile, m, r, v)
    assert refutation_p_value(profile_inverse(profile), m, r, v) == pytest.approx(due, rel=2e-3)


def test_of_epsilon_alone_steinkes_test_is_the_sharper_one() -> None:
    """The other looks at tails of the count alone, which is as much where all guesses are right."""
    for counts in ((200, 20, 17), (1000, 100, 90), (1000, 50, 50), (30, 20, 20)):
        for epsilon in (0.5, 1.0, 2.0):
            binomial = one_run_p_value(*counts, epsilon, 0.0)
            ours = refutation_p_value(profile_inverse([(epsilon, 0.0)]), *counts)
            assert binomial * (1 - 2e-3) <= ours < 2 * binomial + 2e-12
            if counts[1] == counts[2]:
                assert ours == pytest.approx(max(binomial, 1e-12), rel=2e-3)


def test_inverses_undo_the_largest_true_positive_rate() -> None:
    rates = np.linspace(0.001, 0.999, 9)
    assert [gaussian_inverse(1.5)(tpr_at(1.5, rate)) for rate in rates] == pytest.approx(rates.tolist(), rel=1e-6)
    profile = [(float(at), delta_at(1.5, float(at))) for at in np.linspace(0, 8, 400)]
    found = [profile_inverse(profile)(tpr_at(1.5, rate)) for rate in rates]
    assert found == pytest.approx(rates.tolist(), rel=1e-3, abs=1e-5)
    twice = [profile_inverse(profile, 2)(tpr_at(3.0, rate)) for rate in rates[:4]]  # mu of two copies is twice mu
    assert twice == pytest.approx(rates[:4].tolist(), rel=0.02)


def test_bounds_grow_with_right_guesses_and_with_canaries() -> None:
    for bound in (lambda *c: one_run_epsilon(*c, 1e-4), one_run_mu, lambda m, r, v: float(rates_mu(v, r, r - v, r))):
        by_right = [bound(200, 50, v) for v in range(51)]
        assert by_right[25] == 0.0 < by_right[50]
        assert all(one <= other for one, other in pairwise(by_right))
    assert one_run_epsilon(400, 50, 45, 1e-3) < one_run_epsilon(100, 50, 45, 1e-3)  # delta may have hit any of them
    for ceiling in (lambda m: one_run_epsilon(m, m, m, 1e-6), lambda m: one_run_mu(m, m, m)):
        sizes = [ceiling(m) for m in (20, 50, 200, 1000)]
        assert all(one < other for one, other in pairwise(sizes))


# --- mechanisms whose epsilon is known ---------------------------------------------------------------------------


def allowed(releases: int = RELEASES) -> int:
    """Failures of a bound at 95% that a binomial test does not call too many (1 in 1,000)."""
    return int(stats.binom.ppf(0.999, releases, 0.05))


@pytest.mark.parametrize("mu", [0.0, 0.7, 2.5])
def test_the_truth_is_seldom_below_a_bound(mu: float) -> None:
    rng, failures, above_zero = np.random.default_rng([8, int(10 * mu)]), dict.fromkeys(ESTIMATORS, 0), 0
    truth = epsilon_of(mu, DELTA)
    for seed in range(RELEASES):
        bounds = Audit.of(*gaussian(mu)(rng, 240), DELTA, seed=seed).bounds()
        for name, bound in bounds.items():
            failures[name] += bound.epsilon > truth
            assert 0.0 <= bound.epsilon <= bound.ceiling + 1e-9
        above_zero += bounds["one-run-f-dp"].epsilon > 0.0
    assert all(found <= allowed() for found in failures.values()), failures
    assert failures["one-run"] <= failures["one-run-f-dp"] + allowed()
    if mu == 2.5:
        assert above_zero > 0.99 * RELEASES  # and they are no empty bounds
    if mu == 0.0:
        assert failures["one-run"] > 0  # nor ones that can never be wrong


def test_a_true_guarantee_is_seldom_refuted() -> None:
    """With the whole profile of what was released, and of randomised response."""
    rng, refutations = np.random.default_rng(9), {"gaussian": 0, "randomised response": 0}
    profile = [(float(at), delta_at(1.0, float(at))) for at in np.linspace(0, 6, 25)]
    for seed in range(RELEASES):
        for name, release, inverse in (
            ("gaussian", gaussian(1.0), profile_inverse(profile)),
            ("randomised response", randomised_response(1.0), profile_inverse([(1.0, 0.0)])),
        ):
            game = Audit.of(*release(rng, 100), DELTA, seed=seed).guesses()
            refutations[name] += refuted(inverse, *game, 0.05)
    assert all(found <= allowed() for found in refutations.values()), refutations
    assert refutations["randomised response"] > 0.005 * RELEASES  # here the test is nearly exact


def test_what_leaks_everything_at_once_and_seldom_is_private_by_delta() -> None:
    """All coins are told with a chance of delta: (0, delta)-DP, and every score hangs on one event."""
    bounds = Audit.of(*gaussian(50.0)(np.random.default_rng(1), 400), 0.04).bounds()
    assert bounds["clopper-pearson"].epsilon > 3.0  # takes the scores for independent of each other
    assert bounds["one-run"].epsilon == 0.0
    assert one_run_p_value(200, 160, 160, 0.0, 0.04) >= 0.04


def test_with_many_records_bounds_are_close_to_the_truth() -> None:
    rng = np.random.default_rng(10)
    for mu, delta in ((1.0, 0.01), (2.0, 0.05)):
        audit, truth = Audit.of(*gaussian(mu)(rng, 1_000_000), delta), epsilon_of(mu, delta)
        assert 0.8 * truth < audit.rates().epsilon < truth
        assert 0.9 * truth < audit.rates_gaussian().epsilon < truth
    epsilon = 2.0
    audit = Audit.of(*randomised_response(epsilon)(rng, 40_000), 1e-9)
    assert 0.9 * epsilon < audit.one_run().epsilon < epsilon
    assert audit.p_value(profile_inverse([(0.9 * epsilon, 0.0)])) < 0.05
    assert audit.p_value(profile_inverse([(epsilon, 0.0)])) > 0.05


def test_perfect_random_and_worst_scores() -> None:
    rng = np.random.default_rng(11)
    scores, coins = gaussian(40.0)(rng, 600)
    for name, bound in Audit.of(scores, coins, DELTA).bounds().items():
        assert bound.epsilon == pytest.approx(bound.ceiling, rel=1e-9), name
    for useless in (-scores, np.zeros(600)):
        bounds = Audit.of(useless, coins, DELTA).bounds()
        assert bounds["one-run"].epsilon == bounds["one-run-f-dp"].epsilon == 0.0
        assert bounds["clopper-pearson"].epsilon == bounds["gaussian"].epsilon == 0.0
    assert [bound.epsilon for bound in Audit.of(rng.normal(size=600), coins, DELTA).bounds().values()] == [0.0] * 4
    nobody = Audit.of(scores, np.zeros(600, bool), DELTA).bounds()
    assert all(bound.ceiling == 0.0 for name, bound in nobody.items() if "one-run" not in name)


def test_the_best_of_many_games_would_not_hold() -> None:
    """Why a half of the canaries chooses how many to guess: with epsilon 0, the best of six claims too often."""
    rng, claims, honest = np.random.default_rng(12), 0, 0
    for seed in range(400):
        audit = Audit.of(*gaussian(0.0)(rng, 400), DELTA, seed=seed)
        games = [audit.measured.guesses(int(share * 200)) for share in SHARES]
        claims += max(one_run_epsilon(*game, DELTA) for game in games) > 0
        honest += audit.one_run().epsilon > 0
    assert honest <= allowed(400) < claims


def test_what_is_no_audit_is_refused() -> None:
    scores, coins = gaussian(1.0)(np.random.default_rng(13), 40)
    for wrong, message in (
        ((scores[:-1], coins), "as many coins"),
        ((scores, coins.astype(int)), "true or false"),
        ((scores.reshape(2, 20), coins), r"shape \(2, 20\)"),
        ((np.where(coins, np.nan, scores), coins), "leave out"),
        ((scores[: FEWEST - 1], coins[: FEWEST - 1]), f"needs {FEWEST} canaries"),
    ):
        with pytest.raises(ValueError, match=message):
            Audit.of(*wrong, DELTA)
    with pytest.raises(ValueError, match="delta"):
        Audit.of(scores, coins, 0.0)
    for counts in ((10, 11, 5), (10, 5, 6), (10, 5, -1), (0, 0, 0)):
        with pytest.raises(ValueError, match="cannot be"):
            one_run_p_value(*counts, 1.0, 0.0)
    with pytest.raises(ValueError, match="no rates"):
        rates_epsilon(5, 4, 0, 4)
    with pytest.raises(ValueError, match="at least one pair"):
        profile_inverse([])


def test_the_order_within_a_side_and_the_scale_of_scores_do_not_matter() -> None:
    scores, coins = gaussian(2.0)(np.random.default_rng(14), 300)
    first = Audit.of(scores, coins, DELTA, seed=3).bounds()
    other = Audit.of(scores * 7 + 100, coins, DELTA, seed=3).bounds()
    for name, bound in first.items():
        assert bound == pytest.approx(other[name]), name
    assert Audit.of(scores, coins, DELTA, seed=4).bounds() != first  # another half chooses
