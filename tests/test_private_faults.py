"""Faults that private training has had elsewhere, planted one by one: each turns the named check red.

The checks themselves pass on the code as it is, here and in test_private.py and test_private_units.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from byrote.objectives.batching import Batch
from byrote.objectives.lm import Decoder
from byrote.training import private as private_module
from byrote.training.losses import TextLoss
from byrote.training.per_example import Clipped, Clipping, Engine, EngineUnsuited, Factors, Unit
from byrote.training.private import Privatiser
from byrote.training.sampling import Randomness, RepeatableRandomness, SystemRandomness, add_noise
from byrote.training.self_test import check, probes
from private_checks import (
    CLIP,
    ENGINES,
    NOISE,
    Bench,
    assert_clips_each_unit,
    assert_divides_by_the_declared_size,
    assert_draws_are_poisson,
    assert_examples_stand_alone,
    assert_no_unit_moves_the_sum_by_more_than,
    assert_noise_is,
    assert_noise_is_fresh_after_resume,
    bench,
    private,
)

UNITS = [[index] for index in range(12)]
Plant = Callable[[pytest.MonkeyPatch], None]


# --- the checks, each on what is there now ---------------------------------------------------------


def noise_is_sigma_times_the_clip_norm(folder: Path, engine: str) -> None:
    made = bench("full")
    assert_noise_is(private(made, engine), made, NOISE * CLIP, UNITS[:3])


def noise_is_added_once_to_a_split_batch(folder: Path, engine: str) -> None:
    made = bench("full")
    privatiser = private(made, engine)
    privatiser.micro_batch = 2
    assert_noise_is(privatiser, made, NOISE * CLIP, UNITS[:6])


def every_unit_is_clipped(folder: Path, engine: str) -> None:
    made = bench("lora", 6)
    assert_clips_each_unit(made, ENGINES[engine](made.loss, made.parameters), UNITS[:6])


def no_unit_moves_the_sum_by_more_than_the_clip_norm(folder: Path, engine: str) -> None:
    made = bench("lora", 6)
    built = ENGINES[engine](made.loss, made.parameters)
    assert_no_unit_moves_the_sum_by_more_than(built, UNITS[:6], Clipping(CLIP))


def the_gradient_is_over_the_declared_size(folder: Path, engine: str) -> None:
    made = bench()
    assert_divides_by_the_declared_size(private(made, engine, noise_multiplier=0.0), made)


def batches_are_poisson_draws(folder: Path, engine: str) -> None:
    assert_draws_are_poisson(private(bench(), engine), 2000)


def a_resumed_run_has_new_noise(folder: Path, engine: str) -> None:
    assert_noise_is_fresh_after_resume(folder)


def the_loss_of_an_example_is_its_own(folder: Path, engine: str) -> None:
    assert_examples_stand_alone(bench())


# --- the faults ------------------------------------------------------------------------------------


def noise_of(factor: float) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        def wrong(tensors: Sequence[torch.Tensor], deviation: float, randomness: Randomness) -> None:
            add_noise(tensors, factor * deviation, randomness)

        patch.setattr(private_module, "add_noise", wrong)

    return plant


def noise_in_every_part(patch: pytest.MonkeyPatch) -> None:
    for engine in ENGINES.values():
        right = engine.clipped_sums

        def noisy(
            self: Engine, units: Sequence[Unit], clipping: Clipping, right: Callable[..., Clipped] = right
        ) -> Clipped:
            found = right(self, units, clipping)
            if math.isfinite(clipping.norm):
                add_noise(list(found.sums.values()), NOISE * clipping.norm, RepeatableRandomness(len(units)))
            return found

        patch.setattr(engine, "clipped_sums", noisy)


def clipping_off(patch: pytest.MonkeyPatch) -> None:
    right = Clipping.factors

    def off(self: Clipping, squared: dict[str, torch.Tensor]) -> Factors:
        found = right(self, squared)
        return Factors({name: torch.ones_like(f) for name, f in found.of.items()}, found.lengths, found.finite)

    patch.setattr(Clipping, "factors", off)


def clipping_by_layer_to_the_whole_norm(patch: pytest.MonkeyPatch) -> None:
    right = Clipping.factors

    def wrong(self: Clipping, squared: dict[str, torch.Tensor]) -> Factors:
        found = right(self, squared)
        alone = {name: right(self, {name: value}).of[name] for name, value in squared.items()}
        return Factors(alone, found.lengths, found.finite)

    patch.setattr(Clipping, "factors", wrong)


def the_batch_clipped_as_one_example(patch: pytest.MonkeyPatch) -> None:
    """What Opacus does to prompt tuning: one norm and one factor for all."""
    for engine in ENGINES.values():
        right = engine.clipped_sums

        def merged(
            self: Engine, units: Sequence[Unit], clipping: Clipping, right: Callable[..., Clipped] = right
        ) -> Clipped:
            everything = [index for unit in units for index in unit]
            return right(self, [everything], clipping)

        patch.setattr(engine, "clipped_sums", merged)


def one_factor_for_all(patch: pytest.MonkeyPatch) -> None:
    """What Opacus' ghost clipping does to prompt tuning: a factor from the mean norm."""
    right = Clipping.factors

    def wrong(self: Clipping, squared: dict[str, torch.Tensor]) -> Factors:
        found = right(self, squared)
        return Factors({name: f.mean().expand_as(f) for name, f in found.of.items()}, found.lengths, found.finite)

    patch.setattr(Clipping, "factors", wrong)


def division_by_the_true_size(patch: pytest.MonkeyPatch) -> None:
    right = Privatiser.gradients

    def wrong(self: Privatiser, batch: Sequence[Unit]) -> float | None:
        loss = right(self, batch)
        for parameter in self.engine.parameters.values():
            assert parameter.grad is not None
            parameter.grad *= self.guarantee.expected_batch_size / max(1, len(batch))
        return loss

    patch.setattr(Privatiser, "gradients", wrong)


def shuffled_batches(patch: pytest.MonkeyPatch) -> None:
    """Every unit once an epoch, in batches of the expected size, as ordinary data loaders draw."""
    waiting: list[int] = []

    def wrong(units: int, rate: float, randomness: Randomness) -> list[int]:
        size = round(units * rate)
        if len(waiting) < size:
            waiting[:] = randomness.numpy().permutation(units).tolist()
        batch = waiting[:size]
        del waiting[:size]
        return batch

    patch.setattr(private_module, "poisson", wrong)


def batches_of_one_size(patch: pytest.MonkeyPatch) -> None:
    def wrong(units: int, rate: float, randomness: Randomness) -> list[int]:
        drawn: list[int] = randomness.numpy().choice(units, round(units * rate), replace=False).tolist()
        return drawn

    patch.setattr(private_module, "poisson", wrong)


def a_draw_that_stays(patch: pytest.MonkeyPatch) -> None:
    """Each unit keeps its coin from the step before, now and then: the sizes alone look right."""
    coins: list[np.ndarray] = []

    def wrong(units: int, rate: float, randomness: Randomness) -> list[int]:
        generator = randomness.numpy()
        fresh = generator.random(units) < rate
        keep = generator.random(units) < 0.3
        coins[:] = [np.where(keep, coins[0], fresh) if coins else fresh]
        drawn: list[int] = np.flatnonzero(coins[0]).tolist()
        return drawn

    patch.setattr(private_module, "poisson", wrong)


def noise_from_the_generator_that_is_saved(patch: pytest.MonkeyPatch) -> None:
    """Noise from torch's global generator, whose state a resumed run puts back: it comes again."""

    def wrong(self: SystemRandomness, device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,))))

    patch.setattr(SystemRandomness, "torch", wrong)


def noise_from_the_step(patch: pytest.MonkeyPatch) -> None:
    """A seed that is counted from the start of the process."""
    calls = iter([1, 2, 2, 2])  # the step that was lost with the kill, and the same step of two resumed runs
    patch.setattr(
        SystemRandomness, "torch", lambda self, device: torch.Generator(device).manual_seed(next(calls))
    )  # fmt: skip


def the_batches_token_mean(patch: pytest.MonkeyPatch) -> None:
    """transformers' own loss: every token of the batch weighs the same, so long texts weigh more."""

    def wrong(decoder: Decoder, batch: Batch) -> torch.Tensor:
        logits = decoder.logits(decoder.rows(batch))
        losses = torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
        examples = len(batch.input_ids)
        total = torch.zeros(examples, dtype=losses.dtype).index_add(0, batch.owners, losses)
        return total / len(losses) * examples

    patch.setattr("byrote.training.losses.per_example_loss", wrong)


PLANTED: dict[str, tuple[Plant, Callable[[Path, str], None], str]] = {
    "noise halved": (noise_of(0.5), noise_is_sigma_times_the_clip_norm, "deviation 0.0"),
    "no noise": (noise_of(0.0), noise_is_sigma_times_the_clip_norm, "deviation"),
    "noise a twentieth short": (noise_of(0.95), noise_is_sigma_times_the_clip_norm, "deviation 0.07.* instead of 0.08"),
    "noise in every part": (noise_in_every_part, noise_is_added_once_to_a_split_batch, "deviation 0.2"),
    "clipping off": (clipping_off, every_unit_is_clipped, "Clipping.*off by"),
    "clipping off, by influence": (clipping_off, no_unit_moves_the_sum_by_more_than_the_clip_norm, "one unit moved"),
    "each layer clipped to the whole norm": (
        clipping_by_layer_to_the_whole_norm,
        no_unit_moves_the_sum_by_more_than_the_clip_norm,
        "one unit moved",
    ),
    "batch clipped as one": (the_batch_clipped_as_one_example, every_unit_is_clipped, "Clipping.*off by"),
    "one factor for all": (one_factor_for_all, every_unit_is_clipped, "Clipping.*off by"),
    "one factor for all, by influence": (
        one_factor_for_all,
        no_unit_moves_the_sum_by_more_than_the_clip_norm,
        "one unit moved",
    ),
    "true batch size": (division_by_the_true_size, the_gradient_is_over_the_declared_size, "a batch of 1: .* factor 4"),
    "shuffled batches": (shuffled_batches, batches_are_poisson_draws, "counts"),
    "batches of one size": (batches_of_one_size, batches_are_poisson_draws, "counts"),
    "draws that depend on the last": (a_draw_that_stays, batches_are_poisson_draws, "steps depend on each other"),
    "noise of a saved generator": (noise_from_the_generator_that_is_saved, a_resumed_run_has_new_noise, "replayed"),
    "noise of the step": (noise_from_the_step, a_resumed_run_has_new_noise, "replayed"),
    "the batch's token mean": (the_batches_token_mean, the_loss_of_an_example_is_its_own, "loss of example"),
    "the batch's token mean, by its sums": (the_batches_token_mean, every_unit_is_clipped, "norm=inf.*off by"),
}


PASSED: list[Callable[[Path, str], None]] = []
"""Checks that were seen to pass while no fault is planted."""


@pytest.mark.parametrize(("plant", "named_check", "message"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_turns_its_check_red(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    plant: Plant,
    named_check: Callable[[Path, str], None],
    message: str,
) -> None:
    if named_check not in PASSED:
        named_check(tmp_path, "bookkeeping")
        PASSED.append(named_check)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=message):
        named_check(tmp_path, "bookkeeping")


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_the_faults_of_clipping_are_seen_in_the_other_engines(engine: str, tmp_path: Path) -> None:
    every_unit_is_clipped(tmp_path, engine)
    for plant in (clipping_off, the_batch_clipped_as_one_example):
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            with pytest.raises(AssertionError):
                every_unit_is_clipped(tmp_path, engine)


@pytest.mark.parametrize("engine", ["bookkeeping", "vmap"])
@pytest.mark.parametrize(
    "plant", [the_batch_clipped_as_one_example, clipping_off, one_factor_for_all], ids=lambda plant: plant.__name__
)
def test_a_broken_engine_does_not_get_past_the_self_test(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, engine: str
) -> None:
    made = bench()
    loss = TextLoss(made.loss.decoder, probes(made.examples), 0, "cpu")
    check(ENGINES[engine], loss, made.parameters)
    plant(monkeypatch)
    with pytest.raises(EngineUnsuited):
        check(ENGINES[engine], loss, made.parameters)


def test_a_loss_over_the_batch_does_not_get_past_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Bench = bench()
    the_batches_token_mean(monkeypatch)
    loss: Any = TextLoss(made.loss.decoder, probes(made.examples), 0, "cpu")
    with pytest.raises(EngineUnsuited, match="norms are off"):
        check(ENGINES["bookkeeping"], loss, made.parameters)
