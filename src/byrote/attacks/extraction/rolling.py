"""Hashes of all runs of a sequence at once, so that equal runs are found without comparing each with each."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

# Prime moduli: modulo a power of two, texts can be written whose runs all collide. Two, to fill 62 bits.
RINGS = ((2_147_483_647, 1_103_515_245), (2_147_483_629, 1_664_525))


class Rolling:
    """A sequence of N whole numbers, of which the hash of any run is known at once.

    Equal runs have equal keys; runs that differ share one with a chance of about 2^-62.
    """

    def __init__(self, values: Ints) -> None:
        self._sums: list[Ints] = []
        for shift, (prime, base) in zip((0, 31), RINGS, strict=True):
            symbols = ((mixed(values) >> np.uint64(shift)) % np.uint64(prime)).astype(np.int64)
            terms = symbols * powers(base, prime, len(values)) % prime
            self._sums.append(np.concatenate([[0], np.cumsum(terms) % prime]))

    def __len__(self) -> int:
        return len(self._sums[0]) - 1

    def keys(self, starts: Ints, ends: Ints) -> Keys:
        """The keys of the runs from `starts` up to, not including, `ends`."""
        parts = []
        for sums, (prime, base) in zip(self._sums, RINGS, strict=True):
            # A run's sum carries the power of its place; the inverse takes that out again.
            back = powers(pow(base, -1, prime), prime, len(sums))
            parts.append((sums[ends] - sums[starts]) % prime * back[starts] % prime)
        return (parts[0].astype(np.uint64) << np.uint64(32)) | parts[1].astype(np.uint64)

    def windows(self, length: int) -> Keys:
        """The keys of all runs of one length, in their order; none where the sequence is shorter."""
        starts = np.arange(max(len(self) - length + 1, 0))
        return self.keys(starts, starts + length)


def mixed(values: Ints) -> Keys:
    """Each number turned into 64 bits that look drawn at random (splitmix64)."""
    bits = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def powers(base: int, prime: int, count: int) -> Ints:
    """The first `count` powers of `base` modulo `prime`."""
    return _powers(base, prime, max(count - 1, 1).bit_length())[:count]


@lru_cache(maxsize=64)
def _powers(base: int, prime: int, doublings: int) -> Ints:
    found = np.ones(1, dtype=np.int64)
    for doubling in range(doublings):
        found = np.concatenate([found, found * pow(base, 2**doubling, prime) % prime])
    found.flags.writeable = False
    return found
