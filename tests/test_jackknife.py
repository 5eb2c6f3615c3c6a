"""Intervals of numbers of a whole set: the jackknife against its definition, its coverage, and rates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byrote.statistics.interval import clopper_pearson, rate_estimate, t_quantile, weighted_mean_estimate
from byrote.statistics.jackknife import jackknife_estimate
from byrote.types import Estimate, Floats
from byrote.utility.macro_f1 import MacroF1


def ratio(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1]


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high


def test_the_jackknife_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.normal(3, 1, 12), rng.uniform(1, 2, 12)])
    without = [ratio(np.delete(rows, at, 0).sum(0)) for at in range(12)]
    error = math.sqrt(11 / 12 * sum((value - np.mean(without)) ** 2 for value in without))
    estimate = jackknife_estimate(rows, ratio, null_value=0.5)
    value = rows[:, 0].sum() / rows[:, 1].sum()
    half = t_quantile(0.95, 11) * error
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((value, value - half, value + half))
    assert (estimate.n, estimate.interval, estimate.null_value) == (12, "jackknife", 0.5)
    # On the logit scale the standard error is divided by the slope of the inverse logit.
    bounded = jackknife_estimate(rows, ratio, bounds=(0.0, 10.0))
    share = value / 10
    logits = [math.log(share / (1 - share)) + side * half / 10 / (share * (1 - share)) for side in (-1, 1)]
    assert (bounded.low, bounded.high) == pytest.approx([10 / (1 + math.exp(-logit)) for logit in logits])


def test_of_a_mean_it_is_the_interval_of_the_mean() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 0.1, 300)
    ours = jackknife_estimate(np.column_stack([values, np.ones(300)]), ratio)
    theirs = weighted_mean_estimate(values, np.ones(300))
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), rel=1e-9)


def test_copies_add_nothing() -> None:
    rng = np.random.default_rng(3)
    rows = np.column_stack([rng.normal(3, 1, 40), rng.uniform(1, 2, 40)])
    labels = [str(at) for at in np.repeat(np.arange(40), 3)]
    alone, copied = jackknife_estimate(rows, ratio), jackknife_estimate(np.repeat(rows, 3, 0), ratio, labels)
    assert (copied.value, copied.low, copied.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert (copied.n, copied.interval) == (120, "group-jackknife")


def test_what_has_no_spread_has_no_limits() -> None:
    same = jackknife_estimate(np.ones((20, 2)), ratio, null_value=0.2)
    assert (same.value, same.low, same.high, same.interval, same.null_value, same.n) == (1.0, None, None, "", 0.2, 20)
    mean = weighted_mean_estimate(np.zeros(20), np.ones(20))
    assert (mean.value, mean.low, mean.high) == (0.0, None, None)
    assert jackknife_estimate(np.ones((1, 2)), ratio).reason == "needs 2 records, has 1"
    assert "not copies" in jackknife_estimate(np.ones((2, 2)), ratio, ["a", "a"]).reason
    with np.errstate(invalid="ignore"):
        assert "cannot be computed" in jackknife_estimate(np.zeros((5, 2)), ratio).reason
    with pytest.raises(ValueError, match="finite"):
        jackknife_estimate(np.full((3, 2), np.nan), ratio)


def test_bounded_values_that_are_all_the_same_have_limits() -> None:
    """Should a share q of the population have that value, a sample of nothing else has the chance q^n."""
    q = 0.05 ** (1 / 20)
    for value, bounds, low, high in (
        (1.0, (0.0, 1.0), q, 1.0),
        (0.0, (-1.0, 1.0), q - 1, 1 - q),
        (1.0, (-1.0, 1.0), 2 * q - 1, 1.0),
    ):
        estimate = weighted_mean_estimate(np.full(20, value), np.ones(20), bounds=bounds)
        assert (estimate.low, estimate.high) == pytest.approx((low, high)) and estimate.value == value
    copies = weighted_mean_estimate(np.ones(40), np.ones(40), [str(at // 2) for at in range(40)], bounds=(0.0, 1.0))
    assert copies.low == pytest.approx(q)


def test_limits_of_a_mean_stay_within_its_bounds() -> None:
    estimate = weighted_mean_estimate([0.0, 0.0, 0.0, 1.0], np.ones(4), bounds=(0.0, 1.0))
    assert estimate.low == 0.0 and estimate.high is not None and 0.5 < estimate.high <= 1.0


def test_a_rate_has_the_exact_interval_and_copies_count_once() -> None:
    hits = np.array([1.0] * 3 + [0.0] * 27)
    rate = rate_estimate(hits)
    assert (rate.value, rate.low, rate.high) == pytest.approx((0.1, *clopper_pearson(3, 30)))
    assert (rate.n, rate.interval) == (30, "clopper-pearson")
    copied = rate_estimate(np.repeat(hits, 4), [str(at) for at in np.repeat(np.arange(30), 4)])
    assert (copied.low, copied.high) == pytest.approx((rate.low, rate.high))
    none = rate_estimate(np.zeros(30))
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 30)))
    assert rate_estimate([]).reason == "needs 2 records, has 0"
    with pytest.raises(ValueError, match="1 or 0"):
        rate_estimate([0.5, 1.0])


@pytest.mark.parametrize(
    ("shares", "right", "records"),
    [((0.34, 0.33, 0.33), 0.9, 100), ((0.6, 0.3, 0.1), 0.7, 150), ((0.125,) * 8, 0.6, 150)],
)
def test_the_interval_of_macro_f1_covers(shares: tuple[float, ...], right: float, records: int) -> None:
    """Labels drawn by `shares`; a prediction is the label with chance `right`, else drawn by `shares` too."""
    rng, macro, k = np.random.default_rng(4), MacroF1(), len(shares)

    def draw(n: int) -> Floats:
        true, other = (rng.choice(k, n, p=shares) for _ in range(2))
        predicted = np.where(rng.random(n) < right, true, other)
        rows = np.zeros((n, k, 3))
        rows[np.arange(n), true, 0] = true == predicted
        rows[np.arange(n), predicted, 1] = rows[np.arange(n), true, 2] = 1
        return rows.reshape(n, -1)

    truth = float(macro.value(draw(400_000).sum(0)))
    estimates = [jackknife_estimate(draw(records), macro.value, bounds=macro.bounds) for _ in range(500)]
    assert 0.92 <= np.mean([covers(one, truth) for one in estimates]) <= 0.98
    assert all(0 <= one.low < one.high <= 1 for one in estimates if one.low is not None and one.high is not None)
    # One that takes copies for records does not cover.
    doubled = [jackknife_estimate(np.repeat(draw(records), 4, 0), macro.value, bounds=macro.bounds) for _ in range(200)]
    assert np.mean([covers(one, truth) for one in doubled]) < 0.8
