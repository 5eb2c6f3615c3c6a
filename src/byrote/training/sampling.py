"""Where the random numbers of private training come from.

Noise and Poisson draws come from the operating system's entropy and are never published, stored or replayed: whoever
knew them could subtract the noise, or would know who was in which batch, and the guarantee would be void.
"""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

STATE_WORDS = slice(24, 24 + 624 * 8)
"""Where the Mersenne twister's 624 words lie in the state of torch's processor generator (5,056 bytes)."""


class Randomness(ABC):
    """A source of Poisson draws and of noise generators."""

    private: bool
    """Whether nobody can know or repeat what it gives."""

    @abstractmethod
    def numpy(self) -> np.random.Generator:
        """A generator for one Poisson draw."""

    @abstractmethod
    def torch(self, device: torch.device) -> torch.Generator:
        """A generator for one stretch of noise."""


class SystemRandomness(Randomness):
    """Every generator is new, and its state is the operating system's entropy."""

    private = True

    def numpy(self) -> np.random.Generator:
        """Seeded with 256 bits."""
        return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(256)))

    def torch(self, device: torch.device) -> torch.Generator:
        """On a processor the whole state is replaced: a seed would be cut to 32 bits, which can be searched."""
        import torch

        generator = torch.Generator(device)
        if device.type != "cpu":
            generator.manual_seed(secrets.randbits(63))
            return generator
        generator.manual_seed(0)
        state = generator.get_state().numpy().copy()
        words = np.frombuffer(os.urandom(624 * 4), dtype=np.uint32).astype(np.uint64)
        state[STATE_WORDS] = words.view(np.uint8)
        generator.set_state(torch.from_numpy(state))
        return generator


class RepeatableRandomness(Randomness):
    """For tests only: what it gives follows from a seed, so nothing that it protects is private."""

    private = False

    def __init__(self, seed: int) -> None:
        self.seeds = np.random.SeedSequence(seed)

    def numpy(self) -> np.random.Generator:
        """The next of a fixed sequence."""
        return np.random.default_rng(self.seeds.spawn(1)[0])

    def torch(self, device: torch.device) -> torch.Generator:
        """The next of a fixed sequence."""
        import torch

        return torch.Generator(device).manual_seed(int(self.seeds.spawn(1)[0].generate_state(1)[0]))


def poisson(units: int, rate: float, randomness: Randomness) -> list[int]:
    """Each of `units` indices by itself with probability `rate`: the sampling that privacy accounts assume."""
    drawn: list[int] = np.flatnonzero(randomness.numpy().random(units) < rate).tolist()
    return drawn


def some_of(group: Sequence[int], most: int, randomness: Randomness) -> list[int]:
    """At most `most` of a group's examples, at random; all where there are not more."""
    if len(group) <= most:
        return list(group)
    return [group[at] for at in sorted(randomness.numpy().permutation(len(group))[:most].tolist())]


def add_noise(tensors: Sequence[torch.Tensor], deviation: float, randomness: Randomness) -> None:
    """Add independent Gaussian noise of this standard deviation to every number, in place.

    One generator cannot keep up with a large model, so on a processor several draw at once, each with a state of its
    own. Noise is drawn in float32 at least: in bfloat16 its tails would be missing.
    """
    import torch

    if not tensors or deviation == 0:
        return
    device = tensors[0].device
    flat = [part for tensor in tensors for part in torch.split(tensor.view(-1), 2**20)]
    workers = min(len(flat), torch.get_num_threads()) if device.type == "cpu" else 1
    generators = [randomness.torch(device) for _ in range(workers)]

    def work(worker: int) -> None:
        for part in flat[worker::workers]:
            exact = part.dtype if part.dtype == torch.float64 else torch.float32
            noise = torch.empty(part.shape, dtype=exact, device=device).normal_(generator=generators[worker])
            part.add_(noise.to(part.dtype), alpha=deviation)

    if workers == 1:
        work(0)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
