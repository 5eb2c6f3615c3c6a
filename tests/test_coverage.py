"""Simulated coverage of the intervals that the other tests of the audit room leave out, and of what they are made for.

A 95% interval of which R repeats hold the truth in a share below 0.95 - 3 sqrt(0.95 * 0.05 / R) is too narrow, and one
that nearly always holds it says less than it could: exact ones alone may.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from byrote.statistics.accuracy import balanced_accuracy, best_threshold, halves
from byrote.statistics.delong import auc_estimate, auc_lift
from byrote.statistics.groups import Grouping
from byrote.statistics.interval import (
    difference_of_estimates,
    difference_of_means,
    difference_of_rates,
    pool_over_seeds,
    rate_estimate,
    weighted_mean_estimate,
)
from byrote.statistics.partial import partial_auc
from byrote.statistics.roc import auc, tpr_at_fpr
from byrote.types import Estimate, Floats

PHI, QUANTILE = NormalDist().cdf, NormalDist().inv_cdf


def check(estimates: Iterable[tuple[Estimate, float]], exact: bool = False) -> None:
    """Each estimate with its truth."""
    hits = [one.low is not None and one.high is not None and one.low <= truth <= one.high for one, truth in estimates]
    error = 3 * math.sqrt(0.95 * 0.05 / len(hits))
    assert np.mean(hits) >= 0.95 - error, f"{np.mean(hits):.3f} of {len(hits)}"
    assert exact or np.mean(hits) <= max(0.95 + error, 0.985), f"{np.mean(hits):.3f} of {len(hits)}"


def shift_for(area: float, spread: float = 1.0) -> float:
    return math.sqrt(1 + spread**2) * QUANTILE(area)


def copied(rng: np.random.Generator, groups: int, size: int, near: float = 0.9) -> tuple[Floats, list[str]]:
    """Standard normal scores of groups of near-copies that share a correlation, and their groups."""
    shared = np.repeat(rng.normal(size=groups), size)
    scores = math.sqrt(near) * shared + math.sqrt(1 - near) * rng.normal(size=groups * size)
    return scores, [str(at) for at in np.repeat(np.arange(groups), size)]


# --- AUC and its differences ---------------------------------------------------------------------


@pytest.mark.parametrize(("area", "n"), [(0.999, 300), (0.005, 200)])
def test_newcombes_interval_at_the_edges(area: float, n: int) -> None:
    rng, shift = np.random.default_rng([1, n]), shift_for(area, 2.0)
    found = [auc_estimate(rng.normal(shift, 2.0, n), rng.normal(0, 1, n)) for _ in range(600)]
    assert {one.interval for one in found} == {"newcombe"}
    check([(one, area) for one in found], exact=True)


@pytest.mark.parametrize(("first", "second", "rho"), [(0.7, 0.6, 0.7), (0.9, 0.9, 0.5), (0.95, 0.55, 0.2)])
def test_the_paired_difference_of_two_tuned_models(first: float, second: float, rho: float) -> None:
    rng, found = np.random.default_rng(2), []
    for _ in range(800):
        shared = rng.normal(size=(2, 150))
        one, two = (math.sqrt(rho) * shared + math.sqrt(1 - rho) * rng.normal(size=(2, 150)) for _ in range(2))
        found.append(auc_lift(one[0] + shift_for(first), one[1], two[0] + shift_for(second), two[1]))
    check((one, first - second) for one in found)


def test_the_paired_difference_where_copies_share_groups() -> None:
    rng, found = np.random.default_rng(3), []
    for seed in range(300):
        (members, labels), (nonmembers, others) = (copied(rng, 50, 3) for _ in range(2))
        noise = rng.normal(0, 0.5, 300)
        second = members + noise[:150] + math.sqrt(1.25) * shift_for(0.6), nonmembers + noise[150:]
        groups = labels, ["n" + label for label in others]
        first = members + shift_for(0.75), nonmembers
        found.append(auc_lift(*first, *second, *groups, seed=seed, replicates=400))
    assert {one.interval for one in found} == {"group-bootstrap"}
    check((one, 0.75 - 0.6) for one in found)


# --- partial AUC ---------------------------------------------------------------------------------


def standardised(shift: float, spread: float, max_fpr: float) -> float:
    """McClish's partial AUC of two normal distributions, by integrating their ROC curve."""
    area = quad(lambda fpr: norm.sf((norm.isf(fpr) - shift) / spread), 0.0, max_fpr)[0]
    least = max_fpr**2 / 2
    return 0.5 * (1.0 + (area - least) / (max_fpr - least))


@pytest.mark.parametrize("ties", [False, True])
def test_partial_auc_is_scikit_learns(ties: bool) -> None:
    rng = np.random.default_rng(4)
    for max_fpr in (0.1, 0.25, 0.5):
        members, nonmembers = rng.normal(0.7, 1, 80), rng.normal(0, 1, 130)
        if ties:
            members, nonmembers = np.round(members, 1), np.round(nonmembers, 1)
        truth = roc_auc_score(np.repeat([1, 0], [80, 130]), np.r_[members, nonmembers], max_fpr=max_fpr)
        assert partial_auc(members, nonmembers, max_fpr).value == pytest.approx(truth, abs=1e-12)
    assert partial_auc(members, nonmembers, 1.0).value == pytest.approx(auc(members, nonmembers))


@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize(("shift", "spread"), [(-0.5, 1.0), (0.0, 1.0), (1.0, 1.0), (2.5, 1.0), (4.0, 1.0), (1.0, 2.0)])
def test_the_interval_of_a_partial_auc(shift: float, spread: float, n: int) -> None:
    rng, truth = np.random.default_rng([5, n]), standardised(shift, spread, 0.1)
    check(((partial_auc(rng.normal(shift, spread, n), rng.normal(0, 1, n)), truth) for _ in range(500)), exact=n == 100)


def test_the_interval_of_a_partial_auc_where_copies_share_groups() -> None:
    rng, truth, found = np.random.default_rng(6), standardised(1.0, 1.0, 0.1), []
    for _ in range(500):
        (members, labels), (nonmembers, others) = copied(rng, 80, 4), copied(rng, 150, 2)
        found.append(partial_auc(members + 1.0, nonmembers, 0.1, labels, ["n" + label for label in others]))
    assert {one.interval for one in found} == {"group-linearised"}
    check((one, truth) for one in found)
    rng = np.random.default_rng(7)
    members, nonmembers = rng.normal(1, 1, 120), rng.normal(0, 1, 120)
    labels = [str(at) for at in np.repeat(np.arange(120), 3)]
    alone = partial_auc(members, nonmembers)
    grouped = partial_auc(np.repeat(members, 3), np.repeat(nonmembers, 3), 0.1, labels, ["n" + x for x in labels])
    assert (grouped.value, grouped.low, grouped.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_a_partial_auc_that_the_sample_cannot_resolve_is_absent() -> None:
    scores = np.arange(200.0)
    assert partial_auc(scores, scores[:99]).reason == "needs 100 nonmembers, has 99"
    labels = [str(at // 4) for at in range(200)]
    assert partial_auc(scores, scores, 0.1, None, labels).reason == "needs 100 groups of nonmembers, has 50"
    assert partial_auc([], scores).reason == "no member has a score"
    assert partial_auc([1.0] * 20, [1.0] * 200).reason.startswith("every score is the same")
    above, below = partial_auc(scores + 1000, scores), partial_auc(scores, scores + 1000)
    assert (above.value, above.high, above.interval) == (1.0, 1.0, "newcombe") and 0.8 < (above.low or 0.0) < 1.0
    assert below.value is not None and below.value < 0.5 and below.high is not None and below.high > below.value


# --- balanced accuracy ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 250])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_the_interval_of_a_balanced_accuracy(shift: float, n: int) -> None:
    """The truth is the accuracy of the two thresholds on records never seen."""
    rng, grouping, found = np.random.default_rng([8, n]), Grouping.of(n, n, None, None), []
    for seed in range(600):
        members, nonmembers = rng.normal(shift, 1, n), rng.normal(0, 1, n)
        first = halves(grouping, seed)[:n], halves(grouping, seed)[n:]
        cuts = [best_threshold(members[mine], nonmembers[theirs]) for mine, theirs in (first, [~x for x in first])]
        truth = float(np.mean([(1 + PHI(shift - cut) - PHI(-cut)) / 2 for cut in cuts]))
        found.append((balanced_accuracy(members, nonmembers, seed=seed), truth))
    check(found, exact=True)
    error = np.mean([one.value - truth for one, truth in found if one.value is not None])
    assert abs(error) < 0.006, "and it is not biased: no record is judged by a threshold that it helped to choose"


def test_a_threshold_chosen_on_the_same_records_would_show_an_advantage_that_is_not_there() -> None:
    rng, own, crossed = np.random.default_rng(9), [], []
    for seed in range(300):
        members, nonmembers = rng.normal(size=(2, 60))
        cut = best_threshold(members, nonmembers)
        own.append((1 + np.mean(members > cut) - np.mean(nonmembers > cut)) / 2)
        crossed.append(balanced_accuracy(members, nonmembers, seed=seed).value)
    assert np.mean(own) > 0.55 and np.mean(crossed) == pytest.approx(0.5, abs=0.01)


def test_balanced_accuracy_keeps_copies_together() -> None:
    rng, found, naive = np.random.default_rng(10), [], []
    for seed in range(300):
        (members, labels), (nonmembers, others) = (copied(rng, 40, 5, near=0.99) for _ in range(2))
        groups = labels, ["n" + label for label in others]
        found.append((balanced_accuracy(members, nonmembers, *groups, seed=seed), 0.5))
        naive.append(balanced_accuracy(members, nonmembers, seed=seed))
    check(found, exact=True)
    assert np.mean([(one.low or 0) <= 0.5 <= (one.high or 0) for one in naive]) < 0.8
    assert balanced_accuracy(members, nonmembers, *groups, seed=3) == balanced_accuracy(
        members, nonmembers, *groups, seed=3
    )


def test_balanced_accuracy_of_what_cannot_be_judged() -> None:
    assert balanced_accuracy([1.0, 2.0, 3.0], [0.0] * 9).reason == "needs 4 members and as many nonmembers, has 3 and 9"
    assert balanced_accuracy([1.0] * 9, [1.0] * 9).reason.startswith("every score is the same")
    apart = balanced_accuracy(np.arange(50.0) + 100, np.arange(50.0))
    assert (apart.value, apart.high) == (1.0, 1.0) and 0.9 < (apart.low or 0) < 1.0
    turned = balanced_accuracy(np.arange(50.0), np.arange(50.0) + 100)
    assert turned.value is not None and turned.value <= 0.5


# --- rates and means -----------------------------------------------------------------------------


def test_tpr_where_copies_share_groups() -> None:
    rng, truth, found = np.random.default_rng(11), PHI(1.0 + QUANTILE(0.1)), []
    for _ in range(300):
        (members, labels), (nonmembers, others) = copied(rng, 80, 3), copied(rng, 120, 3)
        found.append(tpr_at_fpr(members + 1.0, nonmembers, 0.1, labels, ["n" + label for label in others]))
    check(((one, truth) for one in found), exact=True)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_rates(rate: float) -> None:
    rng, cut = np.random.default_rng(12), QUANTILE(rate)
    check(((rate_estimate(rng.random(60) < rate), rate) for _ in range(500)), exact=True)
    grouped = []
    for _ in range(500):
        scores, labels = copied(rng, 40, 3)
        grouped.append((rate_estimate(scores < cut, labels), rate))
    check(grouped, exact=True)


@pytest.mark.parametrize(("up", "down"), [(0.01, 0.01), (0.2, 0.05), (0.4, 0.3)])
def test_paired_differences_of_rates(up: float, down: float) -> None:
    rng = np.random.default_rng(13)
    draws = rng.choice([1.0, -1.0, 0.0], size=(1000, 100), p=[up, down, 1 - up - down])
    check(((difference_of_rates(row), up - down) for row in draws), exact=True)


def test_differences_of_independent_samples() -> None:
    rng, rates, means = np.random.default_rng(14), [], []
    for _ in range(800):
        shares = [rate_estimate(rng.random(size) < rate) for size, rate in ((50, 0.1), (80, 0.3))]
        rates.append((difference_of_estimates(*shares), -0.2))
        means.append((difference_of_means(rng.normal(0.3, 2, 15), rng.normal(0, 0.5, 40)), 0.3))
    check(rates, exact=True)
    check(means)


def test_means_of_groups() -> None:
    rng, found = np.random.default_rng(15), []
    for _ in range(800):
        values, labels = copied(rng, 30, 4)
        found.append((weighted_mean_estimate(values, np.ones(120), labels), 0.0))
    check(found)


# --- seeds and records together ------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.0, 0.25])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_and_records_both_enter_a_pooled_interval(seeds: int, spread: float) -> None:
    """Each seed draws its records and its training, of which the AUC's truth is the mean; few seeds err on the wide."""
    rng = np.random.default_rng([16, seeds])
    shift = 0.8
    truth = PHI(shift / math.sqrt(2 + spread**2))  # the mean of PHI((shift + spread z) / sqrt 2) over z
    found, single = [], []
    for _ in range(400):
        trained = rng.normal(shift, spread, seeds)
        alone = [auc_estimate(rng.normal(one, 1, 80), rng.normal(0, 1, 80)) for one in trained]
        found.append((pool_over_seeds(alone, (0.0, 1.0)), truth))
        single.append((alone[0].low or 0.0) <= truth <= (alone[0].high or 0.0))
    check(found, exact=True)
    assert not spread or np.mean(single) < 0.9, "one seed alone knows nothing of another training"
