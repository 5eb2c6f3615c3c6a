"""Whose gradient is clipped, and to what: single records, groups of records, and records that break."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from byrote.training.layers import Layout, Product
from byrote.training.per_example import Clipping, rows_of, squares
from byrote.training.private import ROUNDING
from byrote.training.sampling import RepeatableRandomness, some_of
from private_checks import (
    CLIP,
    ENGINES,
    METHODS,
    Bench,
    assert_clips_each_unit,
    assert_counts_fit,
    assert_no_unit_moves_the_sum_by_more_than,
    bench,
    breaking,
    flat,
    gradient,
    naive_clipped,
    naive_sum,
    private,
    training_of,
    weights,
)

KINDS = ("flat", "automatic", "per-layer")
GROUPS = [[0, 1], [2], [3, 4, 5], [6, 7]]

# --- clipping ------------------------------------------------------------------------------------


def random_gradients(generator: torch.Generator, units: int) -> dict[str, torch.Tensor]:
    """(U, ...) of four parameters in three modules, at lengths from 1e-12 to 1e12, one of them 0."""
    shapes = {"a.weight": (3, 4), "a.bias": (3,), "b.weight": (5,), "b.inner.weight": (2, 2)}
    scale = 10 ** (24 * torch.rand(units, generator=generator, dtype=torch.float64) - 12)
    scale[0] = 0.0
    scale[1] = 0.1
    return {
        name: torch.randn(units, *shape, generator=generator, dtype=torch.float64)
        * scale.view(-1, *[1] * len(shape)).to(torch.float64)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_factors_are_the_papers_and_bound_every_gradient(kind: Any, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    for norm in (1e-3, 0.1, 1.0, 50.0):
        gradients = {name: g.to(dtype) for name, g in random_gradients(generator, 40).items()}
        factors = Clipping(norm, kind).factors(squares(gradients))
        assert bool(factors.finite.all())
        for unit in range(40):
            one = {name: g[unit] for name, g in gradients.items()}
            clipped = {name: g * factors.of[name][unit] for name, g in one.items()}
            assert float(flat(clipped).norm()) <= norm * (1 + 1e-5)
            right = flat(naive_clipped(one, Clipping(norm, kind)))
            # Up to the 1e-6 that keeps a length of zero from dividing.
            torch.testing.assert_close(flat(clipped), right, atol=2e-6, rtol=1e-5 + 1e-6 / norm)
            torch.testing.assert_close(factors.lengths[unit].double(), flat(one).norm(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_gets_no_factor(kind: Any) -> None:
    gradients = random_gradients(torch.Generator().manual_seed(5), 6)
    gradients["b.weight"][2, 3] = math.nan
    gradients["a.bias"][4, 0] = -math.inf
    gradients["a.weight"][5] = 1e200  # finite, but its square is not
    factors = Clipping(0.1, kind).factors(squares(gradients))
    assert factors.finite.tolist() == [True, True, False, True, False, False]
    for factor in factors.of.values():
        assert bool(factor.isfinite().all()) and factor[[2, 4, 5]].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_every_unit_is_clipped_alone(method: str, engine: str) -> None:
    made = bench(method, 6)
    assert_clips_each_unit(made, ENGINES[engine](made.loss, made.parameters), [[i] for i in range(6)])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_a_group_is_clipped_as_one_by_the_mean_over_its_records(method: str, engine: str) -> None:
    made = bench(method, 8)
    assert_clips_each_unit(made, ENGINES[engine](made.loss, made.parameters), GROUPS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_unit_has_more_influence_than_the_clip_norm(kind: Any, engine: str) -> None:
    for number, method in enumerate(METHODS):
        made = bench(method, 8)
        built = ENGINES[engine](made.loss, made.parameters)
        units = [[[0], [1], [2], [3]], GROUPS, [[4], [5, 6]]][number]
        assert_no_unit_moves_the_sum_by_more_than(built, units, Clipping([CLIP, 3.0, 1.0][number], kind))


@pytest.mark.parametrize("engine", ENGINES)
def test_rounding_gives_no_unit_more_influence(engine: str) -> None:
    """In bfloat16, where units that pull the same way would round the whole sum up or down with every other one."""
    made = bench("full", 3, dtype=torch.bfloat16)
    privatiser = private(made, engine, noise_multiplier=0.0)
    privatiser.micro_batch = 32
    batch = [[index % 3] for index in range(120)]
    whole = flat(privatiser._clipped(batch)[0])
    assert float(whole.norm()) > 50 * CLIP
    for left_out in (0, 1, 2):
        without = flat(privatiser._clipped(batch[:left_out] + batch[left_out + 1 :])[0])
        assert float((whole - without).norm()) <= CLIP
        assert float(flat(privatiser._clipped([[left_out]])[0]).norm()) <= CLIP
    assert privatiser.gradients(batch) is not None
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in made.parameters.values())
    assert privatiser.ledger(1).clip_norm == CLIP


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("apart", [0.05, 0.2, 1.0])
def test_a_norm_is_not_rounded_away_where_places_cancel(apart: float, dtype: torch.dtype, packed: bool) -> None:
    """Neighbouring places pull against each other; by how much they differ is what is left of the gradient."""
    places = 64
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a = 2 * torch.randn(64) + apart * torch.randn(places, 64)
        signs = torch.tensor([1.0, -1.0]).repeat(places // 2)
        g = signs[:, None] * torch.nn.functional.normalize(torch.randn(512), dim=0) / places
    a, g = a.to(dtype), g.to(dtype)
    kept = Product(a, g, True, False) if packed else Product(a[None], g[None], False, False)
    layout = Layout(1, 1, (places,))
    length = float(kept.squared(layout)[0].sqrt())
    assert float(kept.sum(torch.ones(1), layout).double().norm()) <= length * (1 + ROUNDING / 2)


def test_rows_of_units_of_unequal_size() -> None:
    rows, shares = rows_of([[7, 8], [3], [1, 2]])
    assert rows == [7, 8, 3, 3, 1, 2]
    assert shares == [[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]


# --- groups --------------------------------------------------------------------------------------


def test_a_drawn_group_gives_at_most_so_many_records_all_equally_often() -> None:
    randomness, group = RepeatableRandomness(3), [10, 11, 12, 13, 14]
    draws = [tuple(some_of(group, 3, randomness)) for _ in range(4000)]
    assert all(len(set(drawn)) == 3 and set(drawn) <= set(group) for drawn in draws)
    subsets = sorted(set(draws))
    assert len(subsets) == 10
    assert_counts_fit(np.array([draws.count(subset) for subset in subsets]), np.full(10, 0.1))
    assert some_of(group, 5, randomness) == group and some_of([4], 3, randomness) == [4]


def test_groups_are_drawn_whole_or_not_at_all() -> None:
    units = [[0, 1, 2, 3], [4], [5, 6], [7, 8, 9, 10, 11]]
    privatiser = private(bench(), units=units, records_per_group=3, expected_batch_size=2, unit="group")
    seen = np.zeros(12)
    for _ in range(2000):
        batch = privatiser.draw()
        groups = [next(at for at, unit in enumerate(units) if set(drawn) <= set(unit)) for drawn in batch]
        assert groups == sorted(set(groups))
        for drawn, group in zip(batch, groups, strict=True):
            assert len(drawn) == min(3, len(units[group]))
            seen[drawn] += 1
    rates = np.array([0.5 * min(3, len(unit)) / len(unit) for unit in units for _ in unit])
    deviations = (seen / 2000 - rates) / np.sqrt(rates * (1 - rates) / 2000)
    assert np.abs(deviations).max() < 5.5


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_over_groups_is_the_naive_one(engine: str) -> None:
    made = bench("full", 8)
    settings: dict[str, Any] = {"units": GROUPS, "records_per_group": 2, "unit": "group", "noise_multiplier": 0.0}
    privatiser = private(made, engine, expected_batch_size=2, **settings)
    privatiser.micro_batch = 2
    batch = privatiser.draw()
    while len(batch) < 3:
        batch = privatiser.draw()
    right = flat(naive_sum(made, batch, Clipping(CLIP))) / 2
    torch.testing.assert_close(gradient(privatiser, batch), right, atol=1e-7, rtol=1e-3)


# --- records that break --------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "kind"), [("nan", "flat"), ("inf", "automatic"), ("gradient", "per-layer")])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_a_bad_record_counts_as_zero_and_the_others_as_always(method: str, engine: str, how: str, kind: Any) -> None:
    made = breaking(bench(method, 7), [2, 5], how)
    built = ENGINES[engine](made.loss, made.parameters)
    found = built.clipped_sums([[i] for i in range(7)], Clipping(CLIP, kind))
    without = built.clipped_sums([[0], [1], [3], [4], [6]], Clipping(CLIP, kind))
    assert found.bad == 2 and found.lengths.isfinite().nonzero()[:, 0].tolist() == [0, 1, 3, 4, 6]
    assert float(flat(without.sums).norm()) > 0.5 * CLIP
    torch.testing.assert_close(flat(found.sums), flat(without.sums), atol=1e-7, rtol=1e-5)
    # In a group, it takes the group with it; and a batch of nothing else is a batch of nothing.
    grouped = built.clipped_sums([[0, 1], [2, 3], [6]], Clipping(CLIP))
    assert grouped.bad == 1
    right = built.clipped_sums([[0, 1], [6]], Clipping(CLIP))
    torch.testing.assert_close(flat(grouped.sums), flat(right.sums), atol=1e-7, rtol=1e-5)
    nothing = built.clipped_sums([[2], [5]], Clipping(CLIP))
    assert nothing.bad == 2 and not bool(flat(nothing.sums).any())


@pytest.mark.parametrize("engine", ENGINES)
def test_training_goes_on_with_bad_records_and_counts_them(engine: str, tmp_path: Path) -> None:
    def fresh() -> tuple[Bench, Any]:
        made = breaking(bench("lora"), [3], "nan")
        return made, training_of(made, private(made, engine, expected_batch_size=12))  # all are in every batch

    made, training = fresh()
    seen: list[float | None] = []
    training.on_step = lambda done, steps, loss: seen.append(loss)

    def keep() -> None:
        if training.position.step == 4:
            training.save(tmp_path / "state.safetensors")

    list(training.run(keep))
    assert training.private.bad == 6
    assert bool(weights(made).isfinite().all())
    assert all(loss is not None and math.isfinite(loss) for loss in seen)
    _, resumed = fresh()
    resumed.resume(tmp_path / "state.safetensors")
    list(resumed.run())
    assert resumed.private.bad == 6  # what was counted before the interruption is not forgotten


def test_noise_is_added_where_every_record_is_bad() -> None:
    made = breaking(bench("lora"), list(range(12)), "nan")
    privatiser = private(made)
    assert privatiser.gradients([[0], [1]]) is None
    assert privatiser.bad == 2
    assert all(p.grad is not None and bool((p.grad != 0).all()) for p in made.parameters.values())
