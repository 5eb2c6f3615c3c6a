"""Claims from several intervals: p-values, Holm's correction, equivalence, sample sizes, whole sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, t, ttest_ind

from byrote.statistics.comparison import holm, p_value, size_within, within_margin
from byrote.statistics.interval import pool_over_seeds
from byrote.statistics.set_level import set_level_p_value
from byrote.types import Estimate


def test_holm_by_hand_and_by_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 4, 3, 2, 1 times; never falling
    assert holm([]) == [] and holm([0.7]) == [0.7] and holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_what_its_steps_reject(p_values: list[float], alpha: float) -> None:
    """Step down from the smallest, and stop at the first that is above alpha over those left."""
    rejected, left = set(), len(p_values)
    for at in np.argsort(p_values, kind="stable"):
        if left * p_values[at] > alpha:
            break
        rejected.add(int(at))
        left -= 1
    assert {at for at, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_holm_errs_in_one_of_twenty_families() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(4000, 1))
    p_values = 2 * norm.sf(np.abs(0.6 * shared + 0.8 * rng.normal(size=(4000, 6))))
    wrong = [min(holm(list(row))) <= 0.05 for row in p_values]
    assert np.mean(wrong) <= 0.058 and np.mean(p_values.min(axis=1) <= 0.05) > 0.15


def test_the_p_value_is_that_of_the_test_the_interval_inverts() -> None:
    z = Estimate(0.1, 0.1 - 1.959964 * 0.04, 0.1 + 1.959964 * 0.04, 200, "delong-paired", 0.0)
    assert p_value(z) == pytest.approx(2 * norm.sf(2.5), rel=1e-5)
    seeds = [0.02, 0.05, 0.08, 0.04]
    pooled = pool_over_seeds([Estimate(x, null_value=0.0) for x in seeds])
    statistic = np.mean(seeds) / (np.std(seeds, ddof=1) / 2)
    assert p_value(pooled) == pytest.approx(2 * t.sf(statistic, 3), rel=1e-9)
    agreed = pool_over_seeds([Estimate(x, x - 0.1, x + 0.1, null_value=0.0) for x in (0.2, 0.2001, 0.1999)])
    assert agreed.interval == "within-seed", "seeds that agree by luck"
    assert p_value(agreed) == pytest.approx(2 * t.sf(0.2 / (0.1 / math.sqrt(3)) * t.ppf(0.975, 2), 2), rel=1e-6)
    uneven = Estimate(-0.1, -0.3, 0.0, 9, "newcombe", 0.0)  # the side of the null counts
    assert p_value(uneven) == pytest.approx(0.05)
    assert p_value(Estimate(0.5, 0.4, 0.7, null_value=0.5)) == 1.0
    with pytest.raises(ValueError, match="interval"):
        p_value(Estimate(0.5, null_value=0.5))


@pytest.mark.parametrize(
    ("low", "high", "null", "inside"),
    [(0.46, 0.54, 0.5, True), (0.46, 0.56, 0.5, False), (-0.04, 0.03, 0.0, True), (0.51, 0.53, 0.5, True)],
)
def test_equivalence_is_an_interval_within_the_margin(low: float, high: float, null: float, inside: bool) -> None:
    assert within_margin(Estimate((low + high) / 2, low, high, 10, "delong", null), 0.05) is inside
    assert not within_margin(Estimate(null, None, None, 10, "", null), 0.05)
    assert not within_margin(Estimate.absent("no scores"), 0.05)


def test_p_values_of_few_seeds_hold_their_level_where_many_are_looked_at() -> None:
    """At 0.05 / 20, as the first of twenty pairs is judged: seeds vary, and so do their records."""
    rng, p_values = np.random.default_rng(5), []
    for seeds in rng.normal(0, 0.05, (6000, 3)):
        values = seeds + rng.normal(0, 0.05, 3)
        p_values.append(p_value(pool_over_seeds([Estimate(x, x - 0.098, x + 0.098, null_value=0.0) for x in values])))
    assert np.mean(np.array(p_values) <= 0.0025) <= 0.0025 + 3 * math.sqrt(0.0025 / 6000)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.06


def test_equivalence_is_claimed_by_mistake_in_one_of_forty_samples() -> None:
    """At the worst: the truth lies on the margin."""
    rng = np.random.default_rng(2)
    for error in (0.005, 0.01, 0.02):
        values = 0.55 + error * rng.normal(size=4000)
        claimed = [within_margin(Estimate(x, x - 1.96 * error, x + 1.96 * error, 1, "", 0.5), 0.05) for x in values]
        assert np.mean(claimed) <= 0.033


def test_the_size_that_would_do_does() -> None:
    wide = Estimate(0.51, 0.41, 0.61, 400, "delong", 0.5)
    assert size_within(wide, 0.05) == 2500  # from 0.1 to 0.04
    assert size_within(wide, 0.05, has=100) == 625
    assert size_within(Estimate(0.56, 0.4, 0.7, 400, "delong", 0.5), 0.05) is None
    seeds = pool_over_seeds([Estimate(x, null_value=0.0) for x in (-0.06, 0.0, 0.06)])
    needed = size_within(seeds, 0.05)
    assert needed is not None
    half = [t.ppf(0.975, n - 1) * 0.06 / math.sqrt(n) for n in (needed - 1, needed)]
    assert half[0] > 0.05 >= half[1]
    assert size_within(pool_over_seeds([Estimate(x, null_value=0.0) for x in (-0.9, 0.9)]), 0.001) == 1000


# --- whole sets ----------------------------------------------------------------------------------


def test_the_p_value_of_a_set_is_welchs_and_uniform_when_nothing_was_seen() -> None:
    rng = np.random.default_rng(3)
    members, nonmembers = rng.normal(0.3, 2, 40), rng.normal(0, 1, 70)
    expected = ttest_ind(members, nonmembers, equal_var=False, alternative="greater").pvalue
    found = set_level_p_value(members, nonmembers)
    assert found.value == pytest.approx(expected) and (found.n, found.null_value, found.low) == (110, 0.5, None)
    turned = set_level_p_value(nonmembers, members).value
    assert turned == pytest.approx(1 - expected), "one-sided: a set that scores lower was not seen"
    p_values = [set_level_p_value(rng.exponential(size=60), rng.exponential(size=40)).value for _ in range(1000)]
    assert kstest(p_values, "uniform").pvalue > 0.01
    seen = [set_level_p_value(rng.normal(0.3, 1, 200), rng.normal(0, 1, 200)).value or 0.0 for _ in range(200)]
    assert np.mean(np.array(seen) < 0.05) > 0.85, "at AUC 0.58 no record is told, but the set is"


def test_copies_are_no_evidence_of_a_set() -> None:
    rng, naive, grouped = np.random.default_rng(4), [], []
    labels = [str(at) for at in np.repeat(np.arange(20), 5)]
    for _ in range(600):
        members, nonmembers = (np.repeat(rng.normal(size=20), 5) + rng.normal(0, 0.2, 100) for _ in range(2))
        naive.append(set_level_p_value(members, nonmembers).value)
        grouped.append(set_level_p_value(members, nonmembers, labels, ["n" + label for label in labels]).value)
    assert kstest(grouped, "uniform").pvalue > 0.01 > kstest(naive, "uniform").pvalue


def test_a_set_too_small_to_test_is_absent() -> None:
    assert "has 1 and 2" in set_level_p_value([1.0, 2.0], [0.0, 1.0], ["a", "a"]).reason
    assert "no score differs" in set_level_p_value([1.0, 1.0], [0.0, 0.0]).reason
    with pytest.raises(ValueError, match="member score 0"):
        set_level_p_value([math.nan, 1.0], [0.0, 1.0])
