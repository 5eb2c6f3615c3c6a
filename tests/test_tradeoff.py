from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from byrote.statistics.tradeoff import (
    advantage_bound,
    group_bound,
    group_epsilon,
    tpr_bound,
    tpr_bound_of_profile,
)
from gaussian_privacy import epsilon_at

RATES = np.concatenate([[0.0], np.logspace(-5, -1, 9), np.linspace(0.15, 1.0, 18)])
PAIRS = st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 1.0))


def gaussian_profile(mu: float, points: int = 400) -> list[tuple[float, float]]:
    """Balle and Wang 2018, theorem 8, written plainly."""
    epsilons = np.linspace(0.0, mu * (mu / 2 + 6.0), points)
    deltas = ndtr(-epsilons / mu + mu / 2) - np.exp(epsilons) * ndtr(-epsilons / mu - mu / 2)
    return list(zip(epsilons.tolist(), np.clip(deltas, 0.0, 1.0).tolist(), strict=True))


def gaussian_tpr(fpr: np.ndarray, mu: float) -> np.ndarray:
    """The best test between N(0, 1) and N(mu, 1)."""
    return np.asarray(ndtr(ndtri(fpr) + mu))


def test_no_privacy_loss_allows_no_attack() -> None:
    np.testing.assert_array_equal(tpr_bound(RATES, 0.0, 0.0), RATES)
    assert advantage_bound([(0.0, 0.0)]) == 0.0


def test_pure_privacy_is_the_roc_of_randomised_response() -> None:
    # Randomised response with epsilon ln 3 tells the truth with probability 3/4: its one test is at (1/4, 3/4),
    # and mixing it with guesses gives the straight lines to (0, 0) and (1, 1).
    np.testing.assert_allclose(tpr_bound([0.0, 0.125, 0.25, 0.625, 1.0], math.log(3), 0.0), [0, 0.375, 0.75, 0.875, 1])
    assert advantage_bound([(math.log(3), 0.0)]) == pytest.approx(0.5)


def test_delta_alone_gives_that_many_units_away() -> None:
    np.testing.assert_allclose(tpr_bound([0.0, 0.5, 0.95], 0.0, 0.1), [0.1, 0.6, 1.0])
    assert advantage_bound([(0.0, 0.1)]) == pytest.approx(0.1)


@given(st.lists(PAIRS, min_size=1, max_size=5), st.integers(1, 4))
@settings(deadline=None, derandomize=True)
def test_bounds_are_rates_that_rise_and_never_fall_below_guessing(
    profile: list[tuple[float, float]], copies: int
) -> None:
    bound = tpr_bound_of_profile(RATES, profile, copies)
    assert bound.shape == RATES.shape
    assert (bound >= RATES).all() and (bound <= 1.0).all() and (np.diff(bound) >= -1e-12).all()
    one_copy = tpr_bound_of_profile(RATES, profile)
    assert (bound >= one_copy - 1e-12).all()
    assert (one_copy <= np.min([tpr_bound(RATES, *pair) for pair in profile], axis=0) + 1e-12).all()
    assert (one_copy - RATES).max() <= advantage_bound(profile) + 1e-9


@given(st.floats(0.1, 4.0))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_gaussian_trade_off_is_approached_from_above(mu: float) -> None:
    profile, exact = gaussian_profile(mu), gaussian_tpr(RATES, mu)
    bound = tpr_bound_of_profile(RATES, profile)
    assert (bound >= exact - 1e-9).all()
    np.testing.assert_allclose(bound, exact, atol=1e-3)
    # Fewer points hold as well, and say less.
    assert (tpr_bound_of_profile(RATES, profile[::20]) >= bound - 1e-12).all()
    assert advantage_bound(profile) == pytest.approx(2 * ndtr(mu / 2) - 1)


def test_a_profile_says_more_than_its_single_pairs() -> None:
    profile = gaussian_profile(1.0)
    at_delta = next(pair for pair in profile if pair[1] <= 1e-5)
    assert tpr_bound([0.1], *at_delta)[0] > 0.9
    assert tpr_bound_of_profile([0.1], profile)[0] < 0.4


@pytest.mark.parametrize("copies", [2, 3, 8])
def test_copies_of_a_gaussian_multiply_its_distance(copies: int) -> None:
    bound, exact = tpr_bound_of_profile(RATES, gaussian_profile(0.5), copies), gaussian_tpr(RATES, copies * 0.5)
    assert (bound >= exact - 1e-9).all()
    np.testing.assert_allclose(bound, exact, atol=0.005)


def test_group_bound_is_the_guarantee_applied_to_itself() -> None:
    assert group_bound(0.7, 1e-6, 1) == (0.7, pytest.approx(1e-6))
    assert group_bound(0.0, 0.01, 5) == (0.0, pytest.approx(0.05))
    assert group_bound(1.0, 0.0, 5) == (5.0, 0.0)
    epsilon, delta = group_bound(1.0, 1e-6, 3)
    assert (epsilon, delta) == (3.0, pytest.approx(1e-6 * (1 + math.e + math.e**2)))
    low = np.array([1e-6, 1e-4, 1e-3])
    np.testing.assert_allclose(tpr_bound_of_profile(low, [(1.0, 1e-6)], 3), tpr_bound(low, epsilon, delta))


def test_large_groups_are_promised_nothing_rather_than_overflow() -> None:
    assert group_bound(8.0, 1e-5, 16) == (128.0, 1.0)
    assert group_bound(8.0, 1e-5, 1000) == (8000.0, 1.0)
    assert group_bound(8.0, 0.0, 1000) == (8000.0, 0.0)
    np.testing.assert_array_equal(tpr_bound([0.0, 0.5], 8000.0, 0.0), [0.0, 1.0])


def test_the_epsilon_of_a_group_holds_and_is_absent_where_no_pair_gives_one() -> None:
    profile, delta = gaussian_profile(0.5), 1e-3
    assert group_epsilon(profile, delta, 1) == min(epsilon for epsilon, d in profile if d <= delta)
    for copies in (2, 3):
        bound, truth = group_epsilon(profile, delta, copies), epsilon_at(copies * 0.5, delta)
        assert bound is not None and truth <= bound < 4 * truth
    assert group_epsilon(profile, 1e-12, 50) is None and group_epsilon([], delta, 1) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tpr_bound([1.2], 1.0, 0.0), "between 0 and 1"),
        (lambda: tpr_bound([float("nan")], 1.0, 0.0), "between 0 and 1"),
        (lambda: tpr_bound([0.1], -1.0, 0.0), "no guarantee"),
        (lambda: tpr_bound([0.1], 1.0, 1.5), "no guarantee"),
        (lambda: tpr_bound_of_profile([0.1], []), "at least one pair"),
        (lambda: advantage_bound([]), "at least one pair"),
        (lambda: group_bound(1.0, 0.0, 0), "at least 1 copy"),
        (lambda: tpr_bound_of_profile([0.1], [(1.0, 0.0)], 0), "at least 1 copy"),
    ],
)
def test_what_is_no_guarantee_is_refused(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=words):
        call()
