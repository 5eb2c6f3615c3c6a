"""Intervals for rates and means, the permutation null, and pooling over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from byrote.statistics.interval import (
    binomial_range,
    clopper_pearson,
    few_seeds,
    pool_over_seeds,
    t_quantile,
    weighted_mean_estimate,
)
from byrote.statistics.null import permutation_null
from byrote.types import Estimate, Floats


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None and estimate.high is not None
    return estimate.low <= truth <= estimate.high


def shifted(rng: np.random.Generator, n: int, shift: float) -> tuple[Floats, Floats]:
    return rng.normal(shift, 1.0, n), rng.normal(0.0, 1.0, n)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (3, 20), (20, 20), (1, 1)])
def test_clopper_pearson_is_scipys_exact_interval(successes: int, n: int) -> None:
    exact = binomtest(successes, n).proportion_ci(0.95, "exact")
    assert clopper_pearson(successes, n) == pytest.approx((exact.low, exact.high))


def test_clopper_pearson_never_covers_less_than_it_says() -> None:
    for rate in (0.003, 0.02, 0.1, 0.37):
        counts = np.arange(101)
        mass = np.array([math.comb(100, k) * rate**k * (1 - rate) ** (100 - k) for k in counts])
        inside = [low <= rate <= high for low, high in (clopper_pearson(int(k), 100) for k in counts)]
        assert mass[inside].sum() >= 0.95


def test_binomial_range_holds_its_level() -> None:
    fewest, most = binomial_range(1000, 0.01)
    draws = np.random.default_rng(15).binomial(1000, 0.01, 100_000)
    assert np.mean((draws >= fewest) & (draws <= most)) >= 0.95
    assert np.mean((draws > fewest) & (draws < most)) < 0.95


# --- permutation null ----------------------------------------------------------------------------


def test_permutation_p_values_are_uniform_when_membership_means_nothing() -> None:
    rng = np.random.default_rng(16)
    p_values = [permutation_null(*shifted(rng, 30, 0.0), permutations=200, seed=seed).p_value for seed in range(400)]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_permutation_null_is_a_half_with_the_known_spread() -> None:
    members, nonmembers = shifted(np.random.default_rng(17), 100, 2.0)
    null = permutation_null(members, nonmembers, permutations=2000)
    spread = math.sqrt(201 / (12 * 100**2))  # the standard error of a null AUC
    assert null.mean == pytest.approx(0.5, abs=4 * spread / math.sqrt(2000))
    assert null.high - null.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert null.p_value == 1 / 2001
    assert permutation_null(members, nonmembers, permutations=2000) == null
    assert permutation_null(nonmembers, members, permutations=2000).p_value == 1 / 2001  # both directions count


def test_permutation_of_groups_is_as_wide_as_without_the_copies() -> None:
    members, nonmembers = shifted(np.random.default_rng(18), 50, 0.0)
    labels = [str(i) for i in np.repeat(np.arange(50), 4)]
    copied = np.repeat(members, 4), np.repeat(nonmembers, 4)
    alone, naive = permutation_null(members, nonmembers), permutation_null(*copied)
    grouped = permutation_null(*copied, labels, ["n" + label for label in labels])
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.12)
    assert grouped.high - grouped.low > 1.6 * (naive.high - naive.low)
    with pytest.raises(ValueError, match="both sides"):
        permutation_null([1.0], [0.0], ["a"], ["a"])


# --- means and seeds -----------------------------------------------------------------------------


def test_weighted_mean_is_perplexity_over_all_tokens() -> None:
    losses, tokens = np.array([1.0, 2.0, 4.0]), np.array([10.0, 30.0, 5.0])
    estimate = weighted_mean_estimate(losses, tokens, transform="exp", null_value=9.0)
    mean = (10 * 1.0 + 30 * 2.0 + 5 * 4.0) / 45
    residuals = tokens * (losses - mean) / 45
    half = t_quantile(0.95, 2) * math.sqrt(1.5 * (residuals**2).sum())
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (math.exp(mean), math.exp(mean - half), math.exp(mean + half))
    )
    assert (estimate.n, estimate.interval, estimate.null_value) == (3, "linearised", 9.0)


def test_weighted_mean_interval_covers() -> None:
    rng, hits = np.random.default_rng(19), []
    for _ in range(2000):
        tokens = rng.integers(10, 60, 60)
        # Longer texts are easier, so weights and values hang together: E[w v] / E[w] by summing.
        hits.append(covers(weighted_mean_estimate(4 - 0.02 * tokens + rng.normal(0, 0.5, 60), tokens), TRUE_MEAN))
    assert np.mean(hits) >= 0.93


TRUE_MEAN = sum(w * (4 - 0.02 * w) for w in range(10, 60)) / sum(range(10, 60))


def test_weighted_mean_counts_copies_once() -> None:
    rng = np.random.default_rng(20)
    values, weights = rng.normal(3, 1, 80), rng.integers(1, 50, 80).astype(float)
    labels = [str(i) for i in np.repeat(np.arange(80), 4)]
    alone = weighted_mean_estimate(values, weights)
    grouped = weighted_mean_estimate(np.repeat(values, 4), np.repeat(weights, 4), labels)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert (grouped.interval, grouped.n) == ("group-linearised", 320)


def test_weighted_mean_of_too_little_is_absent() -> None:
    assert weighted_mean_estimate([], []).reason == "needs 2 records, has 0"
    assert weighted_mean_estimate([1.0, 2.0], [1.0, 0.0]).reason == "needs 2 records, has 1"
    assert weighted_mean_estimate([1.0, 2.0], [1.0, 1.0], ["a", "a"]).value is None
    assert "too large" in weighted_mean_estimate([1000.0, 1001.0], [1.0, 1.0], transform="exp").reason
    wide = weighted_mean_estimate([0.0, 300.0], [1.0, 1.0], transform="exp")
    assert wide.value is not None and wide.high is None
    with pytest.raises(ValueError, match="finite"):
        weighted_mean_estimate([math.nan, 1.0], [1.0, 1.0])


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_t_interval_over_seeds_covers(seeds: int) -> None:
    rng = np.random.default_rng([21, seeds])
    hits = [
        covers(pool_over_seeds([Estimate(float(v)) for v in rng.normal(0.7, 0.03, seeds)]), 0.7) for _ in range(2000)
    ]
    assert 0.935 <= np.mean(hits) <= 0.965


def test_pooling_knows_no_more_than_the_seeds_own_intervals() -> None:
    """Few seeds agree by luck: the spread alone would then give an interval that is much too narrow."""
    rng = np.random.default_rng(22)
    own, hits, narrow = 0.03, [], 0
    for draw in rng.normal(0.6, own, (2000, 3)):
        pooled = pool_over_seeds([Estimate(float(v), v - 1.96 * own, v + 1.96 * own) for v in draw])
        hits.append(covers(pooled, 0.6))
        assert pooled.low is not None and pooled.high is not None
        narrow += pooled.high - pooled.low < 1.999 * 1.96 * own / math.sqrt(3)
    assert np.mean(hits) >= 0.95 and narrow == 0


def test_pooling_over_seeds() -> None:
    seeds = [Estimate(0.9, null_value=0.5), Estimate(1.0, null_value=0.48), Estimate(0.95, null_value=0.49)]
    pooled = pool_over_seeds(seeds, bounds=(0.0, 1.0))
    assert pooled.value == pytest.approx(0.95) and pooled.null_value == pytest.approx(0.49)
    assert pooled.low == pytest.approx(0.95 - 4.302653 * 0.05 / math.sqrt(3)) and pooled.high == 1.0
    assert (pooled.n, pooled.interval) == (3, "t-over-seeds")
    assert "3 seeds: fewer than five" in few_seeds(3) and few_seeds(5) == ""


def test_pooling_keeps_width_when_seeds_agree_and_reasons_when_they_are_absent() -> None:
    agreed = pool_over_seeds([Estimate(1.0, 0.97, 1.0), Estimate(1.0, 0.98, 1.0)], bounds=(0.0, 1.0))
    assert agreed.low == pytest.approx(1.0 - math.sqrt((0.03**2 + 0.02**2) / 2 / 2))
    assert (agreed.value, agreed.high, agreed.interval) == (1.0, 1.0, "within-seed")
    absent = pool_over_seeds([Estimate(0.5), Estimate.absent("needs 1000 nonmembers, has 200")])
    assert absent.value is None
    assert absent.reason == "needs 2 seeds with a value, has 1 (needs 1000 nonmembers, has 200)"
    assert pool_over_seeds([]).value is None
