"""Intervals of means between bounds: their coverage, and their width where few values carry the spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from byrote.statistics.bounded import bounded_mean


@pytest.mark.parametrize(
    "draw",
    [
        lambda g, n: g.beta(0.2, 0.8, n),
        lambda g, n: g.random(n),
        lambda g, n: np.where(g.random(n) < 0.01, 1.0, 0.0),
        lambda g, n: np.where(g.random(n) < 0.02, g.random(n), 1e-9),
    ],
)
def test_intervals_of_bounded_means_cover(draw: Any) -> None:
    generator = np.random.default_rng(3)
    truth = float(draw(generator, 2_000_000).mean())
    found = [bounded_mean(draw(generator, 120)) for _ in range(400)]
    covered = np.mean([one.low <= truth <= one.high for one in found if one.low is not None and one.high is not None])
    assert covered >= 0.93, covered


@pytest.mark.parametrize(
    "draw",
    [
        lambda g, n: np.where(g.random(n) < 0.01, 1.0, 0.0) - np.where(g.random(n) < 0.01, 1.0, 0.0),
        lambda g, n: np.where(g.random(n) < 0.04, g.uniform(-1.0, 1.0, n), 0.0),
        lambda g, n: np.where(g.random(n) < 0.02, g.random(n), 1e-9),
        lambda g, n: np.where(g.random(n) < 0.02, -1.0, np.where(g.random(n) < 0.02, 0.1, 0.0)),
        lambda g, n: g.choice([-1.0, 0.0, 1.0], n, p=[0.02, 0.96, 0.02]) * 0.99 + g.uniform(-0.01, 0.01, n),
    ],
)
def test_intervals_of_rare_differences_cover_and_are_narrow(draw: Any) -> None:
    generator = np.random.default_rng(5)
    truth = float(draw(generator, 2_000_000).mean())
    found = [bounded_mean(draw(generator, 120), bounds=(-1.0, 1.0)) for _ in range(400)]
    limits = [(one.low, one.high) for one in found if one.low is not None and one.high is not None]
    assert len(limits) == 400 and {one.interval for one in found} >= {"mover"}
    covered = np.mean([low <= truth <= high for low, high in limits])
    assert covered >= 0.93, covered
    assert max(high - low for low, high in limits) < 0.25


@pytest.mark.parametrize("n", [4, 6, 10])
@pytest.mark.parametrize(
    "draw",
    [
        lambda g, n: g.choice([-1.0, 1.0], n, p=[0.3, 0.7]),
        lambda g, n: g.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.5, 0.4]),
        lambda g, n: g.beta(0.3, 0.6, n) - g.beta(0.3, 1.5, n),
    ],
)
def test_intervals_of_few_differences_cover(draw: Any, n: int) -> None:
    """No value is above and below 0: the two shares stand against each other, which two independent ones would not."""
    generator = np.random.default_rng(7)
    truth = float(draw(generator, 1_000_000).mean())
    found = [bounded_mean(draw(generator, n), bounds=(-1.0, 1.0)) for _ in range(600)]
    limits = [(one.low, one.high) for one in found if one.low is not None and one.high is not None]
    covered = sum(low <= truth <= high for low, high in limits) / len(found)
    assert covered >= 0.93 and all(-1.0 <= low < high <= 1.0 for low, high in limits), covered


def test_bounded_means_know_groups_and_their_bounds() -> None:
    assert (bounded_mean([0.0] * 60).low, bounded_mean([0.0] * 60).high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 60)))
    alone, copies = bounded_mean([0.0, 1.0] * 30), bounded_mean([0.0, 1.0] * 30, [str(at // 10) for at in range(60)])
    assert alone.interval == "linearised" and copies.high - copies.low != alone.high - alone.low  # type: ignore[operator]
    signed = bounded_mean([0.0] * 40, bounds=(-1.0, 1.0))
    assert signed.high == pytest.approx(1 - 0.025 ** (1 / 40)) and signed.low == pytest.approx(-signed.high)
    assert bounded_mean([0.5]).value is None
