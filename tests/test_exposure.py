"""Exposure of canaries: its definition, tails far beyond what a float holds, and how often its interval covers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from byrote.statistics.exposure import (
    FEWEST,
    exposure_by_rank,
    exposure_estimate,
    extrapolated_exposure,
    left_out_exposure,
    most_exposed,
    unlike,
    unseen_exposure,
)

UNSEEN = math.log2(math.e)


def normal_references(n: int) -> np.ndarray:
    """N scores that are as normal as scores can be."""
    return stats.norm.ppf((np.arange(n) + 0.5) / n)


def test_the_rank_is_counted_from_the_likeliest_and_ties_share_theirs() -> None:
    references = [1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0]  # eight with the canary
    found = exposure_by_rank([9.0, 5.5, 4.5, 0.0, 3.0], references)
    assert found == pytest.approx([3.0, 2.0, 3 - math.log2(3), 0.0, 3 - math.log2(5)])
    assert most_exposed(7) == 3.0


def test_a_canary_that_was_never_inserted_has_one_and_a_half_bits() -> None:
    rng = np.random.default_rng(1)
    drawn = [exposure_by_rank(rng.normal(size=1), rng.normal(size=300))[0] for _ in range(4000)]
    error = float(np.std(drawn)) / math.sqrt(len(drawn))
    assert abs(float(np.mean(drawn)) - UNSEEN) < 4 * error + 0.02
    assert unseen_exposure(300) == pytest.approx(float(np.mean(drawn)), abs=4 * error)
    assert unseen_exposure(100_000) == pytest.approx(UNSEEN, abs=1e-3)


def test_references_left_out_in_turn() -> None:
    rng = np.random.default_rng(2)
    references = rng.normal(3, 2, 200)
    one = [exposure_by_rank([x], np.delete(references, at))[0] for at, x in enumerate(references)]
    assert left_out_exposure(references) == pytest.approx(one)
    assert left_out_exposure(references).mean() == pytest.approx(unseen_exposure(199))
    many = left_out_exposure(rng.normal(size=4001))
    assert many.mean() == pytest.approx(unseen_exposure(4000), abs=0.01) and len(many) == 4001
    beyond = left_out_exposure(references, extrapolated_exposure)
    assert beyond.mean() == pytest.approx(UNSEEN, abs=4 * beyond.std() / math.sqrt(200))


@pytest.mark.parametrize("shape", [-15.0, -3.0, -0.3, 0.0, 0.3, 3.0, 15.0])
def test_the_tail_of_the_law_by_integrating_it(shape: float) -> None:
    """Scores that have the law of this shape, so that the fit is known, and canaries out to 1,000 deviations."""
    references = stats.skewnorm.ppf((np.arange(20_000) + 0.5) / 20_000, shape)
    mean, deviation = references.mean(), references.std()
    skewness = float((((references - mean) / deviation) ** 3).mean())
    # The fitted shape, by solving for the one whose law has this skewness: another way than the closed form.
    fitted = _solve(lambda a: float(stats.skewnorm.stats(a, moments="s")), skewness)
    law = stats.skewnorm(fitted)
    width = deviation / law.std()
    centre = mean - width * law.mean()
    assert fitted == pytest.approx(shape, abs=0.02 * abs(shape) + 1e-3)
    for x in (-1.0, 0.5, 2.0, 3.5, 6.0, 40.0, 1000.0):
        due = -(law.logpdf(x) + math.log(_mass_from(law, x))) / math.log(2)
        found = extrapolated_exposure([centre + width * x], references)[0]
        assert found == pytest.approx(due, rel=1e-6, abs=1e-9), x


def _mass_from(law: Any, x: float) -> float:
    """The mass above x in units of the density there."""

    def density(t: float) -> float:
        return math.exp(law.logpdf(t) - law.logpdf(x))

    ends = [x + 2.0**k for k in range(-24, 8) if density(x + 2.0 ** (k - 1)) > 1e-12]
    parts = [integrate.quad(density, *pair, epsabs=1e-14, epsrel=1e-10)[0] for pair in pairwise([x, *ends])]
    return float(sum(parts))


def _solve(of: Callable[[float], float], wanted: float) -> float:
    low, high = -100.0, 100.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) < wanted else (low, middle)
    return (low + high) / 2


def test_the_most_exposed_is_not_the_least() -> None:
    """Where the tail underflows, others gave exposure 0, or infinity."""
    references = normal_references(500)
    far = extrapolated_exposure([3.0, 10.0, 50.0, 1e4, 1e8], references)
    assert np.isfinite(far).all() and (np.diff(far) > 0).all()
    assert far[0] == pytest.approx(-stats.norm.logsf(3.0) / math.log(2), rel=0.01)
    assert far[2] == pytest.approx(50.0**2 / 2 / math.log(2), rel=0.02)
    low = extrapolated_exposure([-50.0, -1e8], references)
    assert low == pytest.approx([0.0, 0.0], abs=1e-12)


def test_it_follows_the_ranks_where_ranks_can_tell() -> None:
    rng = np.random.default_rng(4)
    references, canaries = rng.normal(-4, 0.3, 3000), rng.normal(-3.7, 0.3, 40)
    by_rank, beyond = exposure_by_rank(canaries, references), extrapolated_exposure(canaries, references)
    assert np.abs(by_rank - beyond)[by_rank < 8].max() < 0.6


def test_a_law_that_does_not_fit_is_not_used() -> None:
    rng = np.random.default_rng(5)
    assert unlike(rng.normal(size=400)) == unlike(stats.skewnorm.rvs(4, size=400, random_state=rng)) == ""
    two_kinds = np.concatenate([rng.normal(-3, 0.2, 200), rng.normal(3, 0.2, 200)])
    assert "follow no skew-normal law" in unlike(two_kinds)
    assert unlike(rng.normal(size=FEWEST - 1)) == f"needs {FEWEST} references to fit a law to, has {FEWEST - 1}: see " \
        "the exposure by rank"  # fmt: skip
    assert "same score" in unlike(np.full(FEWEST, -2.5))
    for references in (two_kinds, np.full(FEWEST, -2.5)):
        absent = exposure_estimate([1.0, 2.0, 3.0], references, of=extrapolated_exposure)
        assert absent.value is None and "see the exposure by rank" in absent.reason
        assert exposure_estimate([1.0, 2.0, 4.0], references).value is not None


def test_the_interval_covers_the_mean() -> None:
    """12 canaries among 120 references, both drawn anew each time."""
    rng = np.random.default_rng(6)

    def draw(groups: int, each: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(rng.normal(1.5, 1, groups), each), rng.normal(size=120)

    truth = {
        exposure_by_rank: float(np.mean([exposure_by_rank(*draw(50)).mean() for _ in range(3000)])),
        extrapolated_exposure: float(-stats.norm.logsf(rng.normal(1.5, 1, 200_000)).mean() / math.log(2)),
    }
    for of, mean in truth.items():
        for each in (1, 4):
            labels = [str(at) for at in np.repeat(np.arange(12), each)]
            found = [exposure_estimate(*draw(12, each), labels, of) for _ in range(150)]
            known = [one for one in found if one.low is not None and one.high is not None]
            covered = np.mean([one.low <= mean <= one.high for one in known])  # type: ignore[operator]
            assert len(known) > 140 and covered > 0.88, (of.__name__, each, covered)


def test_where_all_are_at_the_maximum_the_interval_says_how_many_could_be_elsewhere() -> None:
    found = exposure_estimate([9.0] * 8, normal_references(127), null_value=1.4)
    assert (found.value, found.high, found.n, found.null_value) == (7.0, 7.0, 8, 1.4)
    assert found.low == pytest.approx(7.0 * 0.05 ** (1 / 8))
    copies = exposure_estimate([9.0] * 8, normal_references(127), ["a"] * 4 + ["b"] * 4)
    assert copies.low == pytest.approx(7.0 * 0.05 ** (1 / 2))


def test_too_few_are_not_averaged() -> None:
    references = normal_references(100)
    assert exposure_estimate([1.0], references).reason == "needs 2 records, has 1"
    assert exposure_estimate([1.0, 1.5], references, ["a", "a"]).reason == "needs 2 records that are not copies, has 1"
    assert "never inserted, has 1" in exposure_estimate([1.0, 2.0], [0.5]).reason
    with pytest.raises(ValueError, match="canary score 1 is nan"):
        exposure_estimate([1.0, math.nan], references)
    with pytest.raises(ValueError, match="needs references"):
        exposure_by_rank([1.0], [])
