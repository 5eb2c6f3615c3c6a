"""DP-SGD: clip every unit's gradient, sum, add noise once, divide by the declared batch size.

Abadi et al. 2016 (1607.00133). This is the one place where a gradient becomes private.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from byrote.objectives.batching import ONE_IS_TOO_MUCH, out_of_memory
from byrote.training import distributed
from byrote.training.accounting import Spent, accountant_version, epsilon_of, profile
from byrote.training.per_example import Clipping, Engine, Unit, is_narrow, wide
from byrote.training.sampling import Randomness, add_noise, poisson, some_of
from byrote.types import ByroteError, Ledger

if TYPE_CHECKING:
    import torch

MICRO_BATCH = 32
"""Units whose gradients are in memory together, until memory says less."""
ROUNDING = 2**-6
"""What a clipped gradient may gain where a few bfloat16 products are rounded up, relatively."""
PROBE = 256
"""Numbers of each parameter that are looked at to see whether the first step moved it."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What a private run promises: public constants, all fixed before the first step."""

    noise_multiplier: float
    """Standard deviation of the noise, in units of the clipping norm."""
    clipping: Clipping
    expected_batch_size: int
    """In units; what the noisy sum is divided by, whatever the size of the batch that was drawn."""
    units: int
    """The declared number of units."""
    steps: int
    steps_per_epoch: int
    """Batches that together are expected to hold every unit once."""
    delta: float
    unit: Literal["record", "group"] = "record"
    records_per_group: int = 1
    target_epsilon: float | None = None
    accountant: Literal["prv", "rdp"] = "prv"
    claimed: bool = True
    """False for a learning-rate trial, which does the same on records that nobody promised anything."""

    @property
    def sampling_rate(self) -> float:
        """The chance of each unit to be in a batch."""
        return self.expected_batch_size / self.units


class Privatiser:
    """Draws the batches of one private run and makes their gradients private.

    `units` lists each unit's examples: one each, or a group's. `refused` are the engines that failed the self-test.
    """

    def __init__(
        self,
        guarantee: Guarantee,
        engine: Engine,
        units: Sequence[Unit],
        randomness: Randomness,
        refused: Sequence[str] = (),
    ) -> None:
        self.guarantee, self.engine, self.units, self.randomness = guarantee, engine, units, randomness
        self.refused = tuple(refused)
        self.micro_batch = min(MICRO_BATCH, guarantee.expected_batch_size)
        narrow = any(is_narrow(parameter) for parameter in engine.parameters.values())
        norm = guarantee.clipping.norm * (1 - ROUNDING if narrow else 1)
        self.clipping = replace(guarantee.clipping, norm=norm)  # after rounding, too, no gradient is longer than stated
        self.bad = 0
        """Units so far whose gradient was not finite; outside the guarantee."""

    def draw(self) -> list[list[int]]:
        """One Poisson batch, the same in every process: each unit with the declared rate. Often not of the expected
        size, and possibly empty."""
        most = self.guarantee.records_per_group
        drawn = poisson(len(self.units), self.guarantee.sampling_rate, self.randomness)
        return distributed.as_the_first([some_of(self.units[index], most, self.randomness) for index in drawn])

    def gradients(self, batch: Sequence[Unit]) -> float | None:
        """Set every parameter's `.grad` to the private gradient of a batch; the mean loss of its finite units, or None.

        A batch larger than memory is done in parts, with the noise added once. An empty batch is noise alone. With
        several processes each clips its share, and the first adds the noise before the sum.
        """
        import torch

        parameters = self.engine.parameters
        sums, losses, bad = self._clipped(distributed.share_of(batch))
        g = self.guarantee
        if distributed.rank() == 0:
            add_noise(list(sums.values()), g.noise_multiplier * g.clipping.norm, self.randomness)
        finite = losses[losses.isfinite()].double()
        counts = [float(finite.sum()), len(finite), bad]
        seen = torch.tensor(counts, dtype=torch.float64, device=self.engine.loss.device)
        distributed.sum_over_processes([*sums.values(), seen])
        for name, parameter in parameters.items():
            parameter.grad = sums[name].div_(g.expected_batch_size).to(parameter.dtype)
        self.bad += int(seen[2])
        return float(seen[0] / seen[1]) if seen[1] else None

    def _clipped(self, units: Sequence[Unit]) -> tuple[dict[str, torch.Tensor], torch.Tensor, int]:
        """Clipped sums, the units' losses, and how many gradients were not finite, over micro-batches.

        Micro-batches are added in float32 at least: in bfloat16 one unit more would round the others' sum to
        somewhere else. Within one, a bfloat16 engine rounds once; `ROUNDING` leaves room for that.
        Out of memory halves these and starts the batch again; the sum does not depend on them.
        """
        import torch

        examples = self.engine.loss.examples
        longest_first = sorted(units, key=lambda unit: -max(len(examples[index].ids) for index in unit))
        while True:
            try:
                return self._in_parts(longest_first)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.micro_batch == 1:
                    raise ByroteError(ONE_IS_TOO_MUCH) from None
                self.micro_batch = self.micro_batch // 2
                torch.cuda.empty_cache()

    def _in_parts(self, units: Sequence[Unit]) -> tuple[dict[str, torch.Tensor], torch.Tensor, int]:
        import torch

        sums: dict[str, torch.Tensor] = {}
        bad = 0
        losses = [torch.zeros(0)]
        for first in range(0, len(units), self.micro_batch):
            part = self.engine.clipped_sums(units[first : first + self.micro_batch], self.clipping)
            losses.append(part.losses.where(part.lengths.isfinite(), float("nan")).float().cpu())
            bad += part.bad
            for name, value in part.sums.items():
                sums[name] = sums[name].add_(value) if name in sums else wide(value)
        if not sums:
            sums = {name: torch.zeros_like(wide(parameter)) for name, parameter in self.engine.parameters.items()}
        return sums, torch.cat(losses), bad

    def ledger(self, steps: int, epochs: Sequence[tuple[int, int, float]] = (), *, with_profile: bool = True) -> Ledger:
        """The account after so many steps. The profile takes a second or two and is wanted only in the end."""
        g, rate = self.guarantee, self.guarantee.sampling_rate
        spent, loose = Spent(math.inf, "none"), None
        points: tuple[tuple[float, float], ...] = ()
        if g.claimed:
            spent = epsilon_of(g.noise_multiplier, rate, steps, g.delta, g.accountant)
            loose = epsilon_of(g.noise_multiplier, rate, steps, g.delta, "rdp").epsilon
            points = profile(g.noise_multiplier, rate, steps) if with_profile else ()
        return Ledger(
            epsilon=spent.epsilon,
            delta=g.delta,
            unit=g.unit,
            units=g.units,
            expected_batch_size=g.expected_batch_size,
            noise_multiplier=g.noise_multiplier,
            clip_norm=g.clipping.norm,
            clipping=g.clipping.kind,
            steps=steps,
            planned_steps=g.steps,
            accountant=spent.accountant,
            accountant_version=accountant_version(),
            engine=self.engine.name,
            target_epsilon=g.target_epsilon,
            records_per_group=g.records_per_group,
            accountant_note=spent.reason,
            epsilon_rdp=loose,
            profile=points,
            epochs=tuple(epochs),
            refused_engines=self.refused,
            private=self.randomness.private and g.claimed,
        )

    def go_on_from(self, ledger: Ledger) -> None:
        """Take the noise of an interrupted run. Raises ByroteError where its account is not this run's."""
        g = self.guarantee
        private = self.randomness.private and g.claimed  # no step of repeatable noise may become a private one
        ours = (g.clipping.norm, g.clipping.kind, g.expected_batch_size, g.units, g.steps, g.delta, g.unit, private)
        theirs = (
            ledger.clip_norm, ledger.clipping, ledger.expected_batch_size, ledger.units, ledger.planned_steps,
            ledger.delta, ledger.unit, ledger.private,
        )  # fmt: skip
        if ours != theirs:
            raise ByroteError("the saved state has another privacy account than this run: it cannot go on from there")
        self.guarantee = replace(g, noise_multiplier=ledger.noise_multiplier)


class FirstStep:
    """Checks that the first step moves every trainable parameter: with noise on all of them, each must.

    It catches an optimiser that holds other tensors than the model (opacus #820: days of training that did nothing).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.before = dict(self._probes())

    def _probes(self) -> Iterator[tuple[str, torch.Tensor]]:
        model = self.engine.loss.decoder.model
        for name, parameter in model.named_parameters():
            if name in self.engine.parameters:
                yield name, parameter.detach().flatten()[:PROBE].clone()

    def check(self) -> None:
        """Raises ByroteError that names a parameter that stood still.

        In bfloat16 a small update of a large weight is rounded away; there it is enough that some parameter moved.
        """
        still = [name for name, after in self._probes() if bool((after == self.before[name]).all())]
        narrow = any(is_narrow(parameter) for parameter in self.engine.parameters.values())
        for name in still:
            if not narrow or len(still) == len(self.before):
                raise ByroteError(
                    f"private training was stopped after its first step: {name} did not move. Its updates are lost, "
                    "either to rounding (a low learning_rate in bfloat16) or because the optimiser holds other weights."
                )
