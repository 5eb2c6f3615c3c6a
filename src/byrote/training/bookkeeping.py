"""Per-example gradients from one backward pass, by bookkeeping.

Every trainable layer's input a and output gradient g are kept; its own weight gradient, a sum over the batch, is
never computed. From a and g come each unit's gradient norm, and once the clipping factors are known the clipped
sum, as one matrix product per layer (Bu et al. 2022, 2210.00038). Per layer, whichever is cheaper: the per-unit
gradients themselves, or their norms by the ghost formula |gᵀa|² = Σ (a aᵀ) ∘ (g gᵀ) (Goodfellow 2015, 1510.01799;
Li et al. 2021, 2110.05679).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from byrote.training.layers import Kept, Layer, Layout, layer_of, norm_squared, sum_of
from byrote.training.losses import ExampleLoss
from byrote.training.per_example import Clipped, Clipping, Engine, EngineUnsuited, Unit, rows_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(eq=False, slots=True)
class Book:
    """What one pass left for each parameter: usually one entry, two where a weight is tied."""

    layout: Layout
    entries: dict[str, list[Kept]] = field(default_factory=dict)


class Bookkeeping(Engine):
    """One backward pass for a whole batch."""

    name: ClassVar[str] = "bookkeeping"

    def __init__(self, loss: ExampleLoss, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(loss, parameters)
        names = {id(parameter): name for name, parameter in parameters.items()}
        self.layers: list[tuple[nn.Module, Layer]] = []
        owned: set[str] = set()
        for module in loss.decoder.model.modules():
            own = {key: names[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in names}
            # Each module's own parameters, tied ones included: remove_duplicate works within one call only.
            if own:
                self.layers.append((module, layer_of(module, own)))
                owned |= set(own.values())
        if missing := sorted(set(parameters) - owned):
            raise EngineUnsuited(f"no layer owns {missing[0]}")

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """One pass; a second one without the units whose gradient is not finite, where there are any."""
        import torch

        losses, book = self._pass(units)
        with torch.no_grad():
            # A parameter that no gradient reached counts as a layer all the same.
            none = torch.zeros(len(units), device=losses.device)
            squared = {
                name: norm_squared(book.entries[name], book.layout) if name in book.entries else none
                for name in self.parameters
            }
            factors = clipping.factors(squared)
            if bool(factors.finite.all()):
                sums = {name: sum_of(kept, factors.of[name], book.layout) for name, kept in book.entries.items()}
                return Clipped(self._filled(sums), losses, factors.lengths)
        # 0 times NaN is NaN, so such units may not be in the matrix products at all.
        rest = [unit for unit, finite in zip(units, factors.finite.tolist(), strict=True) if finite]
        again = self.clipped_sums(rest, clipping).sums if rest else self._filled({})
        return Clipped(again, losses, factors.lengths)

    def _filled(self, sums: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """In the parameters' own order and shape; zero where no gradient came."""
        import torch

        return {
            name: sums[name].view_as(parameter) if name in sums else torch.zeros_like(parameter)
            for name, parameter in self.parameters.items()
        }

    def _pass(self, units: Sequence[Unit]) -> tuple[torch.Tensor, Book]:
        import torch

        rows, weights = rows_of(units)
        lengths = [self.loss.examples[row].targets for row in rows]
        book = Book(Layout.of(len(units), lengths))
        with self._frozen(), self._recording(book), _prompts_of_every_row(self.loss.decoder.model):
            losses = self.loss(rows)
            weighted = losses.view(len(units), -1) * torch.tensor(weights, device=losses.device)
            torch.autograd.backward(weighted.sum())
        return weighted.sum(1).detach(), book

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        """No weight has a gradient of its own, so that autograd makes none."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.parameters.values():
                parameter.requires_grad_(True)

    @contextlib.contextmanager
    def _recording(self, book: Book) -> Iterator[None]:
        hooks = [module.register_forward_hook(_recorder(layer, book)) for module, layer in self.layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _recorder(layer: Layer, book: Book) -> Callable[..., Any]:
    """A forward hook that keeps a layer's input, and its output's gradient once the backward pass comes by."""

    def record(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        given = inputs[0]
        if book.layout.needs_every_row(given):
            # One row for the whole batch (GPT-2's positions): give every row its own copy, hence its own gradient.
            given = given.expand(book.layout.rows, *given.shape[1:])
            output = output.expand(book.layout.rows, *output.shape[1:])
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        kept = given.detach()

        def take(gradient: torch.Tensor) -> None:
            for name, entry in layer.keep(kept, gradient.detach(), book.layout):
                book.entries.setdefault(name, []).append(entry)

        output.register_hook(take)  # type: ignore[no-untyped-call]
        return output

    return record


@contextlib.contextmanager
def _prompts_of_every_row(model: nn.Module) -> Iterator[None]:
    """PEFT looks up one copy of the virtual tokens and repeats the result; here every row gets its own lookup.

    With one copy, the gradients of a whole batch arrive as if from one example, and would be clipped as one.
    """
    from peft import PeftModel, PeftType

    if not isinstance(model, PeftModel) or model.active_peft_config.peft_type not in (
        PeftType.PROMPT_TUNING,
        PeftType.P_TUNING,
        PeftType.CPT,
    ):
        yield
        return
    peft_model: Any = model

    def get_prompt(batch_size: int, *_: Any, **__: Any) -> torch.Tensor:
        encoder, adapter = peft_model.prompt_encoder, peft_model.active_adapter
        tokens = peft_model.prompt_tokens[adapter].to(encoder[adapter].embedding.weight.device)
        found: torch.Tensor = encoder[adapter](tokens[None].expand(batch_size, -1))
        return found

    peft_model.get_prompt = get_prompt
    try:
        yield
    finally:
        del peft_model.get_prompt
