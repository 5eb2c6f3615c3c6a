"""Per-example gradients: what every engine gives, how it is clipped, and the engine that is always right.

A *unit* is what privacy protects: one record, or some records of one group whose gradient is clipped
as one. A unit's loss is the mean of its records' losses. An engine turns U units into the sum of their
clipped gradients; three do so, from the fastest to the plainest: bookkeeping, vmap and loop.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.training.losses import ExampleLoss
from byrote.types import ByroteError

if TYPE_CHECKING:
    import torch
    from torch import nn

Unit = Sequence[int]
"""Indices of one unit's examples."""

AUTOMATIC_GAMMA = 0.01
"""The stability constant of automatic clipping, as its paper has it (Bu et al. 2022, 2206.07136)."""


class EngineUnsuited(ByroteError):
    """The engine cannot work on this model; the message says why."""


@dataclass(frozen=True, slots=True)
class Clipping:
    """How a unit's gradient is bounded: afterwards its L2 norm over all parameters is at most `norm`.

    flat scales down what is longer (Abadi et al. 2016, 1607.00133); automatic scales everything by
    norm / (length + 0.01) (Bu et al. 2022, 2206.07136); per-layer clips each of L modules alone to
    norm / sqrt(L) (McMahan et al. 2018, 1710.06963).
    """

    norm: float
    kind: Literal["flat", "automatic", "per-layer"] = "flat"

    def factors(self, squared: Mapping[str, torch.Tensor]) -> Factors:
        """From squared gradient norms, (U,) per parameter, to what each unit's gradients are multiplied by.

        A unit whose norm is not finite gets zero: it contributes nothing, and the batch goes on.
        """
        import torch

        lengths = torch.stack(list(squared.values())).sum(0).sqrt()
        finite = torch.isfinite(lengths)
        if self.kind != "per-layer":
            scale = self._scale(lengths, self.norm).where(finite, 0.0)
            return Factors(dict.fromkeys(squared, scale), lengths, finite)
        layers: dict[str, list[str]] = {}
        for name in squared:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        share = self.norm / math.sqrt(len(layers))
        factors: dict[str, torch.Tensor] = {}
        for names in layers.values():
            scale = self._scale(torch.stack([squared[name] for name in names]).sum(0).sqrt(), share)
            factors |= dict.fromkeys(names, scale.where(finite, 0.0))
        return Factors(factors, lengths, finite)

    def _scale(self, lengths: torch.Tensor, norm: float) -> torch.Tensor:
        if self.kind == "automatic":
            return norm / (lengths + AUTOMATIC_GAMMA)
        return (norm / (lengths + 1e-6)).clamp(max=1.0)  # a length of zero divides by nothing


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What U units' gradients are multiplied by, (U,) for each parameter."""

    of: Mapping[str, torch.Tensor]
    lengths: torch.Tensor
    """(U,) L2 norms before clipping."""
    finite: torch.Tensor
    """(U,) bool."""


@dataclass(frozen=True, slots=True, eq=False)
class Clipped:
    """The clipped sum over U units, and what was seen on the way."""

    sums: dict[str, torch.Tensor]
    """By parameter name, in the parameter's own shape."""
    losses: torch.Tensor
    """(U,) in nats per token; not finite where the model's numbers are not."""
    lengths: torch.Tensor
    """(U,) gradient norms before clipping."""

    @property
    def bad(self) -> int:
        """Units without a finite gradient, which contributed zero."""
        return int((~self.lengths.isfinite()).sum())


class Engine(ABC):
    """Clipped sums of per-example gradients over the trainable parameters of one model."""

    name: ClassVar[str]

    def __init__(self, loss: ExampleLoss, parameters: Mapping[str, nn.Parameter]) -> None:
        """Raises EngineUnsuited where the model has something that this engine cannot do."""
        self.loss, self.parameters = loss, parameters

    @abstractmethod
    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """The sum of these units' clipped gradients. `units` is not empty. Leaves every `.grad` alone."""


def is_narrow(tensor: torch.Tensor) -> bool:
    """Whether it has the few digits of bfloat16 or float16."""
    import torch

    return tensor.dtype in (torch.float16, torch.bfloat16)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The same in float32 at least."""
    return tensor.float() if is_narrow(tensor) else tensor


def squares(gradients: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """(U,) squared norms of per-unit gradients (U, ...), in float32 at least."""
    return {name: wide(g).flatten(1).square().sum(1) for name, g in gradients.items()}


class Loop(Engine):
    """One backward pass for each unit: slow, always right, and what the other engines are compared with."""

    name: ClassVar[str] = "loop"

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """Each unit's gradient by torch's own backward, clipped and added."""
        import torch

        sums = {name: torch.zeros_like(wide(parameter)) for name, parameter in self.parameters.items()}
        losses, lengths = [], []
        for unit in units:
            loss, gradients = self.gradient(unit)
            factors = clipping.factors(squares({name: g[None] for name, g in gradients.items()}))
            if bool(factors.finite[0]):
                for name, gradient in gradients.items():
                    sums[name] += gradient * factors.of[name][0].to(gradient.dtype)
            losses.append(loss)
            lengths.append(factors.lengths[0])
        return Clipped(sums, torch.stack(losses), torch.stack(lengths))

    def gradient(self, unit: Unit) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(), and by parameter: the loss of one unit and its gradient; zero where none arrives."""
        import torch

        before = {name: parameter.grad for name, parameter in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.grad = None
        try:
            loss = self.loss(list(unit)).mean()
            if loss.requires_grad:
                torch.autograd.backward(loss)
            found = {
                name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                for name, parameter in self.parameters.items()
            }
        finally:
            for name, parameter in self.parameters.items():
                parameter.grad = before[name]
        return loss.detach(), found


def rows_of(units: Sequence[Unit]) -> tuple[list[int], list[list[float]]]:
    """Units as one flat batch: (U·k) example indices, and the weight of each row in its unit's loss, (U, k).

    Every unit gets k rows, the size of the largest; what is missing is its first example again, with weight 0.
    """
    width = max(len(unit) for unit in units)
    rows = [index for unit in units for index in (*unit, *[unit[0]] * (width - len(unit)))]
    weights = [[1.0 / len(unit)] * len(unit) + [0.0] * (width - len(unit)) for unit in units]
    return rows, weights
