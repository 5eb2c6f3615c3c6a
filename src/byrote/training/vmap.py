"""Per-example gradients by torch.func: exact for whatever is written in torch operations, at a price in memory.

The whole model is differentiated once per unit in a vectorised call (Subramani et al. 2020, 2010.09063). transformers
looks at the values of attention masks to take shortcuts, which such a call cannot; inside it we make transformers
believe that it is being traced, as torch.compile does.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from byrote.objectives.batching import collate
from byrote.training.losses import ExampleLoss
from byrote.training.per_example import Clipped, Clipping, Engine, EngineUnsuited, Unit, rows_of, squares

if TYPE_CHECKING:
    import torch
    from torch import nn

BUDGET_BYTES = 2**29
"""For the per-unit gradients that exist at one moment."""


@contextlib.contextmanager
def masks_without_looking() -> Iterator[None]:
    """transformers makes attention masks from their shapes alone. A private name of transformers 5, checked here."""
    import transformers.masking_utils

    masking_utils: Any = transformers.masking_utils
    if not callable(getattr(masking_utils, "is_tracing", None)):
        raise EngineUnsuited("this version of transformers has no masking_utils.is_tracing")
    before = masking_utils.is_tracing
    masking_utils.is_tracing = lambda *_: True
    try:
        yield
    finally:
        masking_utils.is_tracing = before


class VMap(Engine):
    """Vectorised over units, as many at a time as the memory budget holds."""

    name: ClassVar[str] = "vmap"

    def __init__(self, loss: ExampleLoss, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(loss, parameters)
        size = sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
        self.units_at_once = max(1, BUDGET_BYTES // max(1, size))
        self.module = _module(loss)

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """Chunks of units, each clipped and summed before the next."""
        import torch

        parts = [
            self._chunk(units[first : first + self.units_at_once], clipping)
            for first in range(0, len(units), self.units_at_once)
        ]
        sums = parts[0].sums
        for part in parts[1:]:
            for name, value in part.sums.items():
                sums[name] += value
        return Clipped(sums, torch.cat([p.losses for p in parts]), torch.cat([p.lengths for p in parts]))

    def _chunk(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        import torch
        from torch.func import functional_call, grad_and_value, vmap

        rows, weights = rows_of(units)
        loss = self.loss
        loss.decoder.model.train(loss.training)
        batch = collate([loss.examples[row] for row in rows], loss.pad_token_id, loss.device)
        width = len(weights[0])
        labels = torch.zeros(len(rows), dtype=torch.int64, device=loss.device) if batch.labels is None else batch.labels
        parts = (batch.input_ids, batch.attention_mask, batch.has_target, labels)
        inputs = tuple(part.view(len(units), width, *part.shape[1:]) for part in parts)
        values = {f"model.{name}": parameter.detach() for name, parameter in self.parameters.items()}

        def unit_loss(
            parameters: dict[str, torch.Tensor], inputs: tuple[torch.Tensor, ...], weight: torch.Tensor
        ) -> torch.Tensor:
            losses: torch.Tensor = functional_call(self.module, parameters, inputs)
            return (losses * weight).sum()

        every = vmap(grad_and_value(unit_loss), in_dims=(None, 0, 0), randomness="different")
        with masks_without_looking(), warnings.catch_warnings():
            # On a processor torch's attention goes through the units one by one: as fast, and nothing to act on.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            found, losses = every(values, inputs, torch.tensor(weights, device=loss.device))
        gradients = {name.removeprefix("model."): gradient for name, gradient in found.items()}
        factors = clipping.factors(squares(gradients))
        sums = {name: _weighted(g, factors.of[name], factors.finite) for name, g in gradients.items()}
        return Clipped(sums, losses.detach(), factors.lengths)


def _weighted(gradients: torch.Tensor, factors: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
    """(...) the factor-weighted sum of gradients (U, ...), over the units that are finite: 0 times NaN is NaN."""
    import torch

    if not bool(finite.all()):
        gradients, factors = gradients[finite], factors[finite]
    total: torch.Tensor = torch.tensordot(factors.to(gradients.dtype), gradients, dims=1)
    return total


def _module(loss: ExampleLoss) -> nn.Module:
    """The loss as a module, so that torch.func can put parameters into its model."""
    from torch import nn

    from byrote.objectives.batching import Batch

    class LossOfRows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loss.decoder.model

        def forward(
            self, ids: torch.Tensor, mask: torch.Tensor, has_target: torch.Tensor, labels: torch.Tensor
        ) -> torch.Tensor:
            known = loss.examples[0].label is not None
            return loss.decoder.loss_without_looking(Batch(ids, mask, has_target, labels if known else None))

    return LossOfRows()
