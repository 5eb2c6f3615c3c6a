"""The noise of private training: its law, and that no stretch of it ever comes twice."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from byrote.training.sampling import (
    STATE_WORDS,
    Randomness,
    RepeatableRandomness,
    SystemRandomness,
    add_noise,
    poisson,
)
from private_checks import (
    CLIP,
    ENGINES,
    NOISE,
    assert_gaussian,
    assert_independent,
    assert_noise_is,
    assert_noise_is_fresh_after_resume,
    bench,
    gradient,
    private,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("randomness", [RepeatableRandomness(4), SystemRandomness()], ids=["repeatable", "system"])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_noise_is_gaussian_at_sigma_times_the_clip_norm(engine: str, randomness: Randomness) -> None:
    made = bench("full")
    privatiser = private(made, engine, randomness=randomness)
    assert_noise_is(privatiser, made, NOISE * CLIP, [[0], [1], [2]])
    assert_noise_is(private(made, engine, randomness=randomness, noise_multiplier=2.0), made, 2.0 * CLIP, [])


def test_every_step_and_every_tensor_has_its_own_noise() -> None:
    made = bench("full")
    privatiser = private(made, randomness=SystemRandomness())
    one, other = gradient(privatiser, []), gradient(privatiser, [])
    assert_independent(one, other)
    tensors = [p.grad.flatten() for p in made.parameters.values() if p.grad is not None and p.numel() >= 500]
    assert len(tensors) > 10
    for at, tensor in enumerate(tensors):
        for later in tensors[at + 1 :]:
            size = min(len(tensor), len(later))
            assert_independent(tensor[:size], later[:size])


def test_a_resumed_run_has_new_noise(tmp_path: Path) -> None:
    assert_noise_is_fresh_after_resume(tmp_path)


def test_the_whole_state_of_a_generator_is_entropy() -> None:
    # Where torch keeps the words of its Mersenne twister: a seed fills them as numpy's own one does.
    seeded = torch.Generator().manual_seed(42).get_state().numpy()[STATE_WORDS].view(np.uint64)
    numpy_state = np.random.RandomState(42).get_state()[1]
    assert np.array_equal(seeded, numpy_state)
    system = SystemRandomness()
    states = np.array([system.torch(CPU).get_state().numpy()[STATE_WORDS].view(np.uint64) for _ in range(8)])
    assert states.shape == (8, 624) and states.max() < 2**32
    words = states.astype(np.uint32)
    for at in range(8):
        assert ((words == words[at]).sum(0) > 1).sum() <= 1  # 624 · 7 / 2^32: even one is a chance of 1e-6
    ones = int(np.unpackbits(words.view(np.uint8)).sum())
    assert abs(ones - words.size * 16) < 6 * math.sqrt(words.size * 32 / 4)


def test_repeatable_randomness_repeats_and_says_so() -> None:
    drawn = []
    for _ in range(2):
        randomness = RepeatableRandomness(9)
        draws = [torch.randn(4, generator=randomness.torch(CPU)).tolist() for _ in range(2)]
        drawn.append((poisson(50, 0.3, randomness), draws))
        assert draws[0] != draws[1]
    assert drawn[0] == drawn[1]
    assert not RepeatableRandomness(9).private and SystemRandomness().private


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_noise_in_every_precision(dtype: torch.dtype) -> None:
    tensors = [torch.zeros(150, 100, dtype=dtype), torch.zeros(7, dtype=dtype), torch.zeros(1, dtype=dtype)]
    add_noise(tensors, 0.3, RepeatableRandomness(2))
    assert all(tensor.dtype == dtype for tensor in tensors)
    assert_gaussian(torch.cat([tensor.double().flatten() for tensor in tensors]).numpy(), 0.3)
    distinct = len(tensors[0].unique())
    assert distinct == 15_000 if dtype == torch.float64 else distinct > 500


@pytest.mark.parametrize("randomness", [RepeatableRandomness(6), SystemRandomness()], ids=["repeatable", "system"])
def test_threads_draw_independent_noise(randomness: Randomness) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        tensors = [torch.zeros(20_000, dtype=torch.float64) for _ in range(8)]
        add_noise(tensors, 1.0, randomness)
    finally:
        torch.set_num_threads(threads)
    assert_gaussian(torch.cat(tensors).numpy(), 1.0)
    for at, tensor in enumerate(tensors):
        for later in tensors[at + 1 :]:
            assert_independent(tensor, later)
    everything = torch.cat(tensors)  # a stretch that came twice, at whatever distance, would repeat its numbers
    assert len(everything.unique()) == len(everything)


def test_noise_goes_into_the_tensors_themselves() -> None:
    part = torch.zeros(3, 4)
    add_noise([part], 1.0, RepeatableRandomness(0))
    assert bool((part != 0).all())
