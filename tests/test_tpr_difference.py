"""The paired difference of two attacks' TPR: its value, its pairing, and how often its interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from byrote.statistics.roc import tpr_at_fpr
from byrote.statistics.tpr_difference import tpr_difference
from byrote.types import Floats


def two_attacks(
    rng: np.random.Generator, shifts: tuple[float, float], likeness: float, n: int = 200
) -> tuple[Floats, Floats, Floats, Floats]:
    """Members and nonmembers by two attacks of normal scores, which agree on records as far as `likeness` says."""
    found = []
    for member in (True, False):
        first, own = rng.normal(size=(2, n))
        second = likeness * first + math.sqrt(1 - likeness**2) * own
        found.append((first + shifts[0] * member, second + shifts[1] * member))
    return found[0][0], found[1][0], found[0][1], found[1][1]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.33])
def test_the_value_is_the_difference_of_the_two_rates(ties: bool, fpr: float) -> None:
    scores = two_attacks(np.random.default_rng(0), (1.5, 0.5), 0.4)
    if ties:
        scores = tuple(np.round(one) for one in scores)  # type: ignore[assignment]
    found = tpr_difference(*scores, fpr, replicates=50)
    rates = [tpr_at_fpr(*scores[at : at + 2], fpr).value for at in (0, 2)]
    assert rates[0] is not None and rates[1] is not None and found.value == pytest.approx(rates[0] - rates[1])
    assert (found.n, found.null_value, found.interval) == (400, 0.0, "group-bootstrap")


def test_what_two_attacks_share_is_no_uncertainty_of_their_difference() -> None:
    alike = tpr_difference(*two_attacks(np.random.default_rng(1), (1.5, 0.5), 0.98), 0.1, replicates=500)
    apart = tpr_difference(*two_attacks(np.random.default_rng(1), (1.5, 0.5), 0.0), 0.1, replicates=500)
    for found in (alike, apart):
        assert found.low is not None and found.high is not None
    assert alike.high - alike.low < 0.7 * (apart.high - apart.low)  # type: ignore[operator]
    one = two_attacks(np.random.default_rng(1), (1.5, 0.5), 0.0)[:2]
    same = tpr_difference(*one, *one, 0.1, replicates=50)
    assert (same.value, same.low, same.high) == (0.0, None, None)


def test_copies_are_drawn_together() -> None:
    scores = two_attacks(np.random.default_rng(2), (1.5, 0.5), 0.4)
    four = [np.repeat(one, 4) for one in scores]
    groups = [f"m{at // 4}" for at in range(800)], [f"n{at // 4}" for at in range(800)]
    once, grouped = tpr_difference(*scores, 0.1), tpr_difference(*four, 0.1, *groups)
    assert grouped.value == pytest.approx(once.value)
    assert grouped.low == pytest.approx(once.low, abs=0.02) and grouped.high == pytest.approx(once.high, abs=0.02)
    assert tpr_difference(*scores, 0.1) == once


def test_what_cannot_be_resolved_is_said() -> None:
    scores = two_attacks(np.random.default_rng(3), (1.5, 0.5), 0.4)
    assert tpr_difference(*scores, 0.01).reason == "needs 1000 nonmembers, has 200"
    flat = np.zeros(200)
    assert "every score is the same" in tpr_difference(*scores[:2], flat, flat, 0.1).reason
    with pytest.raises(ValueError, match="same records"):
        tpr_difference(*scores[:3], scores[3][:-1], 0.1)


@pytest.mark.parametrize(("shifts", "likeness"), [((2.0, 0.5), 0.5), ((0.9, 1.0), 0.8), ((0.0, 0.0), 0.5)])
def test_the_interval_holds_the_truth_at_its_rate(shifts: tuple[float, float], likeness: float) -> None:
    """True rates of normal scores are known; 95% of 150 intervals, within the error of so many."""
    rng, draws, fpr = np.random.default_rng(4), 150, 0.1
    truth = float(np.subtract(*(norm.sf(norm.isf(fpr) - shift) for shift in shifts)))
    inside = 0
    for at in range(draws):
        found = tpr_difference(*two_attacks(rng, shifts, likeness), fpr, replicates=200, seed=at)
        assert found.low is not None and found.high is not None
        inside += found.low <= truth <= found.high
    assert inside > draws * 0.95 - 3.5 * math.sqrt(draws * 0.95 * 0.05)
