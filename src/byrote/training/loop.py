"""The training loop: one for every method, readable from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from byrote.objectives.batching import ONE_IS_TOO_MUCH, length_grouped, out_of_memory
from byrote.training import distributed
from byrote.training import state as training_state
from byrote.training.cost import PeakMemory
from byrote.training.losses import ExampleLoss
from byrote.training.private import FirstStep, Privatiser
from byrote.training.state import LossPoint, Position
from byrote.types import ByroteError, Diverged, Ledger

if TYPE_CHECKING:
    import torch
    from torch import nn

SAVE_SECONDS = 60.0
"""A state is saved at least so often, unless saving itself takes more than a twentieth of the time."""


class Regimen(Protocol):
    """What a method does in training besides following the gradient of the loss; `methods.base` says it in full."""

    def begin(self, steps: int) -> None:
        """Before the first step of a run or of what is left of it."""
        ...

    def penalty(self) -> torch.Tensor:
        """() added to every batch's loss, but to no reported one."""
        ...

    def after_step(self, step: int) -> None:
        """After optimiser step `step`, from 1."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """To be saved."""
        ...

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """As it was saved."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers that a training run follows; names as in TrainingArguments where it has them."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    lr_scheduler_type: str
    weight_decay: float
    max_grad_norm: float | None
    seed: int
    max_steps: int | None = None

    def steps(self, examples: int) -> int:
        """Optimiser steps in all."""
        steps = self.epochs * math.ceil(examples / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0): linear warm-up, then constant or linearly down to 0."""
        warmup = math.ceil(self.warmup_ratio * steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.lr_scheduler_type == "constant":
            return self.learning_rate
        return self.learning_rate * (steps - step) / (steps - warmup)


class Training:
    """One training run, from wherever its saved state stands to its end.

    `loss` gives the per-example losses of a batch; `lengths` are the examples' token counts.
    `on_step(done, steps, loss)` is called after every step. With `private` the batches are Poisson
    draws and the gradients are what it makes of them; everything else is the same. Started in
    several processes, each does its share of every batch, and all end with the same weights.
    `regimen` is what the method does besides; it goes with no privacy.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: ExampleLoss,
        lengths: Sequence[int],
        plan: Plan,
        *,
        device: str = "cpu",
        on_step: Callable[[int, int, float | None], None] = lambda done, steps, loss: None,
        private: Privatiser | None = None,
        regimen: Regimen | None = None,
    ) -> None:
        import torch
        from accelerate import Accelerator

        if private and regimen:
            raise ByroteError("this method does more in training than follow the gradient, so privacy is not promised")

        self.loss, self.lengths, self.plan, self.device, self.on_step = loss, lengths, plan, device, on_step
        self.parameters = training_state.trainable(model)
        if not self.parameters:
            raise ByroteError("nothing to train: the method left no parameter trainable on this model")
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        self.private = private
        self.position = Position(micro_batch_size=private.micro_batch if private else plan.batch_size)
        self.steps = private.guarantee.steps if private else plan.steps(len(lengths))
        self._last_save, self._save_seconds = time.monotonic(), 0.0
        self.regimen = regimen
        if regimen:
            regimen.begin(self.steps)

    def resume(self, path: Path) -> None:
        """Go on from a state that `save` wrote."""
        position = training_state.load(path, self.parameters, self.optimizer)
        if self.private:
            if position.ledger is None:
                raise ByroteError("the saved state has no privacy account: it is not of a private run")
            ledger = Ledger.read(position.ledger)
            if ledger.steps != position.step:
                raise ByroteError(f"the saved state is of step {position.step}, its account of step {ledger.steps}")
            self.private.go_on_from(ledger)
            self.private.micro_batch, self.private.bad = position.micro_batch_size, position.bad_gradients
        if self.regimen:
            self.regimen.restore(training_state.load_regimen(path))
        self.position = position

    def ledger(self, *, with_profile: bool = True) -> Ledger | None:
        """The privacy account as it stands; None where the run is not private."""
        if self.private is None:
            return None
        known = Ledger.read(self.position.ledger).epochs if self.position.ledger else ()
        return self.private.ledger(self.position.step, known, with_profile=with_profile)

    def _close_epoch(self) -> None:
        """Add the end of an epoch to the account."""
        ledger = self.ledger(with_profile=False)
        if ledger is not None:
            ended = (self.position.epoch, ledger.steps, ledger.epsilon)
            self.position.ledger = asdict(replace(ledger, epochs=(*ledger.epochs, ended)))

    def save(self, path: Path) -> None:
        """Write everything that going on needs."""
        started = time.monotonic()
        ledger = self.ledger(with_profile=False)
        self.position.ledger = asdict(ledger) if ledger else None
        kept = self.regimen.state() if self.regimen else None
        training_state.save(path, self.parameters, self.optimizer, self.position, kept)
        self._last_save, self._save_seconds = time.monotonic(), time.monotonic() - started

    @property
    def due_for_saving(self) -> bool:
        """Whether enough time has gone by since the last save."""
        return time.monotonic() - self._last_save > max(SAVE_SECONDS, 20 * self._save_seconds)

    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.position.step >= self.steps

    def run(self, between_steps: Callable[[], None] = lambda: None) -> Iterator[int]:
        """Train; yields the number of each epoch when it ends, the last one cut by `max_steps` included.

        A run that resumes at the end of an epoch yields that epoch again first.
        """
        position = self.position
        if position.epoch and not position.batch:
            yield position.epoch
        while not self.finished():
            epoch = position.epoch
            peak = PeakMemory(self.device)
            for batch in self._batches(epoch, position.batch):
                started = time.monotonic()
                self._step(batch, epoch)
                position.batch += 1
                position.seconds += time.monotonic() - started
                position.peak_memory_bytes = max(position.peak_memory_bytes, peak.read())
                between_steps()
                if self.finished():
                    break
            position.epoch, position.batch = epoch + 1, 0
            self._close_epoch()
            yield position.epoch

    def _batches(self, epoch: int, done: int) -> Iterator[list[list[int]]]:
        """The batches of an epoch that are still to do, as units of examples: alone, or a group's when private."""
        if self.private:
            for _ in range(self.private.guarantee.steps_per_epoch - done):
                yield self.private.draw()
            return
        generator = np.random.default_rng(np.random.SeedSequence([self.plan.seed, epoch]))
        for indices in length_grouped(self.lengths, self.plan.batch_size, generator)[done:]:
            yield [[index] for index in indices]

    def _step(self, batch: list[list[int]], epoch: int) -> None:
        rate = self.plan.rate(self.position.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        first = FirstStep(self.private.engine) if self.private and self.position.step == 0 else None
        loss = self._private_gradient(self.private, batch) if self.private else self._gradient(batch)
        self.optimizer.step()
        if first:
            first.check()
        self.position.step += 1
        if self.regimen:
            self.regimen.after_step(self.position.step)
        self.position.tokens += sum(self.lengths[index] for unit in batch for index in unit)
        self.position.losses.append(LossPoint(self.position.step, epoch + 1, rate, loss))
        self.on_step(self.position.step, self.steps, loss)

    def _private_gradient(self, private: Privatiser, batch: list[list[int]]) -> float | None:
        """The private gradient; the batch's mean loss, which is not private. Nothing here stops a run because of what
        a record did, and `max_grad_norm` does not apply: it would act on the noise."""
        loss = private.gradients(batch)
        self.position.micro_batch_size, self.position.bad_gradients = private.micro_batch, private.bad
        return loss

    def _gradient(self, batch: list[list[int]]) -> float:
        """The gradient of the batch's mean loss, its norm bounded by `max_grad_norm`; the loss."""
        indices = [index for unit in batch for index in unit]
        loss = self._backward(indices)
        if not math.isfinite(loss):
            raise Diverged(
                f"training diverged: the loss was {loss} at step {self.position.step + 1} with learning rate "
                f"{self.plan.learning_rate:g}. Use a lower learning_rate, or auto."
            )
        if self.regimen:  # after the processes' sum, so that it counts once
            self.accelerator.backward(self.regimen.penalty())
        if self.plan.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.parameters.values(), self.plan.max_grad_norm)
        return loss

    def _backward(self, indices: list[int]) -> float:
        """Gradients of the batch's mean per-example loss; the loss in nats per token.

        Out of memory halves the micro-batch and does the step again: the gradients are the same to
        rounding, because every example's loss is its own mean.
        """
        import torch

        before = training_state.random_state()
        share = distributed.share_of(indices)
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            size = self.position.micro_batch_size
            try:
                total = torch.zeros((), dtype=torch.float64, device=self.device)
                for first in range(0, len(share), size):
                    losses = self.loss(share[first : first + size])
                    self.accelerator.backward(losses.sum() / len(indices))
                    total += losses.detach().sum()
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise ByroteError(ONE_IS_TOO_MUCH) from None
                self.position.micro_batch_size = min(size, len(indices)) // 2 or 1
                training_state.set_random_state(before)
        if distributed.processes() > 1:
            for parameter in self.parameters.values():
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            distributed.sum_over_processes([total, *(p.grad for p in self.parameters.values() if p.grad is not None)])
        return float(total) / len(indices)
