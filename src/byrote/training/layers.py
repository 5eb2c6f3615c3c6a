"""What the bookkeeping engine keeps of each kind of layer, and how norms and clipped sums come out of it.

Shapes: U units, each of k rows; a layer's input and its output's gradient are seen as (U, L, ...) with L places
per unit. The language-model head sees the target rows of all units one after another; these stay packed, as one
stretch of rows per unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from byrote.training.per_example import EngineUnsuited, wide

if TYPE_CHECKING:
    import torch
    from torch import nn

INSTANTIATE_BYTES = 2**28
"""Per-unit gradients of one layer larger than this are never made."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a batch belong to its units."""

    units: int
    rows: int
    stretches: tuple[int, ...]
    """Target rows of each unit, where these are packed one after another."""
    grams: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict, compare=False)
    """Inputs times themselves, (U, L, L): query, key and value projections read the same input."""

    @classmethod
    def of(cls, units: int, targets: Sequence[int]) -> Layout:
        """From the target count of every row."""
        width = len(targets) // units
        return cls(units, len(targets), tuple(sum(targets[u * width : (u + 1) * width]) for u in range(units)))

    def needs_every_row(self, given: torch.Tensor) -> bool:
        """Whether a layer was called once for the whole batch."""
        return given.shape[0] == 1 and self.rows > 1

    def is_packed(self, given: torch.Tensor) -> bool:
        """Whether these are the packed target rows rather than a padded batch."""
        return given.ndim == 2 and given.shape[0] == sum(self.stretches) and given.is_floating_point()

    def by_unit(self, tensor: torch.Tensor, trailing: int) -> torch.Tensor:
        """(U, L, ...) of a padded batch, the last `trailing` dimensions kept. Raises EngineUnsuited."""
        if tensor.shape[0] != self.rows:
            raise EngineUnsuited(f"a layer saw {tensor.shape[0]} rows instead of the batch's {self.rows}")
        return tensor.reshape(self.units, -1, *tensor.shape[tensor.ndim - trailing :])

    def split(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """One (L_u, d) stretch of packed rows per unit."""
        import torch

        return list(torch.split(tensor, list(self.stretches)))

    def gram(self, tensor: torch.Tensor) -> torch.Tensor:
        """(U, L, L) inner products of a unit's places, made once for each tensor that is kept."""
        key = (tensor.data_ptr(), *tensor.shape, *tensor.stride())
        if key not in self.grams:
            self.grams[key] = inner(tensor)
        return self.grams[key]

    def spread(self, factors: torch.Tensor) -> torch.Tensor:
        """(R,) each unit's factor for its packed rows."""
        import torch

        return torch.repeat_interleave(factors, torch.tensor(self.stretches, device=factors.device))


def inner(places: torch.Tensor) -> torch.Tensor:
    """(..., L, L) inner products of places (..., L, d), in float32 at least.

    Where a unit's places cancel, its norm is a small difference of large products: rounded to bfloat16 it may come out
    as zero, and the gradient would not be clipped.
    """
    exact = wide(places)
    return exact @ exact.transpose(-1, -2)


class Kept(ABC):
    """What was kept of one use of one parameter."""

    @abstractmethod
    def squared(self, layout: Layout) -> torch.Tensor:
        """(U,) squared norms of the units' gradients."""

    @abstractmethod
    def sum(self, factors: torch.Tensor, layout: Layout) -> torch.Tensor:
        """The factor-weighted sum of the units' gradients, in the parameter's shape."""

    @abstractmethod
    def gradients(self, layout: Layout) -> torch.Tensor:
        """(U, ...) the units' gradients themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Whole(Kept):
    """The units' gradients themselves."""

    made: torch.Tensor

    def squared(self, layout: Layout) -> torch.Tensor:
        """(U,)."""
        return self.made.float().flatten(1).square().sum(1)

    def sum(self, factors: torch.Tensor, layout: Layout) -> torch.Tensor:
        """A weighted sum over units."""
        flat = self.made.flatten(1)
        return (factors.to(flat.dtype) @ flat).view(self.made.shape[1:])

    def gradients(self, layout: Layout) -> torch.Tensor:
        """As they are."""
        return self.made


@dataclass(frozen=True, slots=True, eq=False)
class Product(Kept):
    """gᵀa of a linear map, unmade: a (U, L, d) and g (U, L, p), or packed (R, d) and (R, p)."""

    a: torch.Tensor
    g: torch.Tensor
    packed: bool
    transposed: bool
    """Whether the weight is (d, p), as in GPT-2's Conv1D, and not (p, d)."""

    def squared(self, layout: Layout) -> torch.Tensor:
        """(U,) by the ghost formula."""
        import torch

        if self.packed:
            pairs = zip(layout.split(self.a), layout.split(self.g), strict=True)
            return torch.stack([(inner(a).float() * inner(g).float()).sum() for a, g in pairs]).clamp(min=0)
        left, right = layout.gram(self.a), inner(self.g)
        return (left.float() * right.float()).sum((1, 2)).clamp(min=0)

    def sum(self, factors: torch.Tensor, layout: Layout) -> torch.Tensor:
        """One matrix product over all places, the smaller side scaled."""
        scale = layout.spread(factors)[:, None] if self.packed else factors[:, None, None]
        scale, a, g = scale.to(self.a.dtype), self.a, self.g
        a, g = (a * scale, g) if a.shape[-1] <= g.shape[-1] else (a, g * scale)
        a, g = a.flatten(0, -2), g.flatten(0, -2)
        return a.T @ g if self.transposed else g.T @ a

    def gradients(self, layout: Layout) -> torch.Tensor:
        """(U, p, d), or (U, d, p)."""
        import torch

        first, second = (self.a, self.g) if self.transposed else (self.g, self.a)
        if self.packed:
            pairs = zip(layout.split(first), layout.split(second), strict=True)
            return torch.stack([one.T @ two for one, two in pairs])
        return first.transpose(1, 2) @ second


@dataclass(frozen=True, slots=True, eq=False)
class Lookup(Kept):
    """An embedding's gradient, unmade: ids (U, L) and the gradient e (U, L, d) of what was looked up."""

    ids: torch.Tensor
    e: torch.Tensor
    entries: int

    def squared(self, layout: Layout) -> torch.Tensor:
        """(U,): places that looked up the same entry add before they are squared."""
        same = self.ids[:, :, None] == self.ids[:, None, :]
        dots = inner(self.e).float()
        return dots.where(same, 0.0).sum((1, 2)).clamp(min=0)

    def sum(self, factors: torch.Tensor, layout: Layout) -> torch.Tensor:
        """(V, d)."""
        import torch

        weighted = (self.e * factors[:, None, None].to(self.e.dtype)).flatten(0, 1)
        empty = torch.zeros(self.entries, self.e.shape[-1], dtype=self.e.dtype, device=self.e.device)
        return empty.index_add_(0, self.ids.flatten(), weighted)

    def gradients(self, layout: Layout) -> torch.Tensor:
        """(U, V, d)."""
        import torch

        units, places, width = self.e.shape
        made = torch.zeros(units * self.entries, width, dtype=self.e.dtype, device=self.e.device)
        offsets = torch.arange(units, device=self.ids.device)[:, None] * self.entries
        made.index_add_(0, (self.ids + offsets).flatten(), self.e.reshape(units * places, width))
        return made.view(units, self.entries, width)


def norm_squared(kept: Sequence[Kept], layout: Layout) -> torch.Tensor:
    """(U,) squared norms of one parameter's gradients, over all its uses: the parts add before they are squared."""
    if len(kept) == 1:
        return kept[0].squared(layout)
    lookups, products = [k for k in kept if isinstance(k, Lookup)], [k for k in kept if isinstance(k, Product)]
    if len(lookups) == len(products) == 1 and len(kept) == 2:  # a head tied to its embedding
        cross = _cross(lookups[0], products[0], layout)
        return (lookups[0].squared(layout) + products[0].squared(layout) + 2 * cross).clamp(min=0)
    total = kept[0].gradients(layout)
    for more in kept[1:]:
        total = total + more.gradients(layout)
    return Whole(total).squared(layout)


def _cross(lookup: Lookup, product: Product, layout: Layout) -> torch.Tensor:
    """(U,) inner products of an embedding's gradient and a tied head's: Σ (e·a) g[id] over pairs of places."""
    import torch

    if product.transposed:
        raise EngineUnsuited("an embedding tied to a transposed weight")
    a = layout.split(product.a) if product.packed else list(product.a)
    g = layout.split(product.g) if product.packed else list(product.g)
    parts = [
        ((wide(e) @ wide(a_u).T).float() * g_u[:, ids].T.float()).sum()
        for ids, e, a_u, g_u in zip(lookup.ids, lookup.e, a, g, strict=True)
    ]
    return torch.stack(parts)


def sum_of(kept: Sequence[Kept], factors: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The factor-weighted sum of one parameter's gradients, over all its uses."""
    total = kept[0].sum(factors, layout)
    for more in kept[1:]:
        total = total + more.sum(factors, layout)
    return total


class Layer(ABC):
    """A layer with trainable parameters; `names` maps its own names ("weight", "bias") to the model's."""

    def __init__(self, module: nn.Module, names: Mapping[str, str]) -> None:
        self.module, self.names = module, names

    @abstractmethod
    def keep(self, given: torch.Tensor, gradient: torch.Tensor, layout: Layout) -> Iterator[tuple[str, Kept]]:
        """What to keep of one call, by parameter: from its input and its output's gradient."""


class LinearLayer(Layer):
    """y = W a + b: nn.Linear, and GPT-2's Conv1D, whose weight lies the other way round."""

    def keep(self, given: torch.Tensor, gradient: torch.Tensor, layout: Layout) -> Iterator[tuple[str, Kept]]:
        """The weight as gradients or as a product, whichever is cheaper; the bias as gradients."""
        import torch

        packed = layout.is_packed(given)
        a, g = (given, gradient) if packed else (layout.by_unit(given, 1), layout.by_unit(gradient, 1))
        if "weight" in self.names:
            transposed = not isinstance(self.module, torch.nn.Linear)
            product = Product(a, g, packed, transposed)
            places = max(layout.stretches) if packed else a.shape[1]
            size = a.shape[-1] * g.shape[-1]
            small = size * layout.units * a.element_size() <= INSTANTIATE_BYTES
            cheap = size <= 2 * places * places and small
            yield self.names["weight"], Whole(product.gradients(layout)) if cheap else product
        if "bias" in self.names:
            made = torch.stack([part.sum(0) for part in layout.split(g)]) if packed else g.sum(1)
            yield self.names["bias"], Whole(made)


class EmbeddingLayer(Layer):
    """A table of vectors; what stands at `padding_idx` gets no gradient, as in torch."""

    def keep(self, given: torch.Tensor, gradient: torch.Tensor, layout: Layout) -> Iterator[tuple[str, Kept]]:
        """Ids and gradients as they are."""
        module = self.module
        table: torch.Tensor = module.get_parameter("weight")
        ids, e = layout.by_unit(given, 0), layout.by_unit(gradient, 1)
        if (padding := getattr(module, "padding_idx", None)) is not None:
            e = e.masked_fill((ids == padding)[:, :, None], 0.0)
        if (scale := getattr(module, "embed_scale", None)) is not None:  # Gemma's table is scaled as it is read
            e = e * scale
        yield self.names["weight"], Lookup(ids, e, table.shape[0])


class NormLayer(Layer):
    """y = x̂ ∘ w (+ b), with x̂ the normalised input: LayerNorm, and every family's RMSNorm."""

    def keep(self, given: torch.Tensor, gradient: torch.Tensor, layout: Layout) -> Iterator[tuple[str, Kept]]:
        """Gradients: they have only d numbers."""
        g = layout.by_unit(gradient, 1)
        if "weight" in self.names:
            yield self.names["weight"], Whole((g * layout.by_unit(self.normalised(given), 1)).sum(1))
        if "bias" in self.names:
            yield self.names["bias"], Whole(g.sum(1))

    def normalised(self, given: torch.Tensor) -> torch.Tensor:
        """x̂."""
        import torch

        if isinstance(self.module, torch.nn.LayerNorm):
            return torch.nn.functional.layer_norm(given, given.shape[-1:], eps=self.module.eps)
        wide = given.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(given.dtype)

    @property
    def eps(self) -> float:
        """Families spell it in two ways."""
        for name in ("variance_epsilon", "eps"):
            value = getattr(self.module, name, None)
            if isinstance(value, float):
                return value
        raise EngineUnsuited(f"{type(self.module).__name__} has no epsilon")


def layer_of(module: nn.Module, names: Mapping[str, str]) -> Layer:
    """The layer kind of a module. Raises EngineUnsuited where there is none."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kind = type(module).__name__
    if set(names) <= {"weight", "bias"}:
        if type(module) in (nn.Linear, Conv1D):
            return LinearLayer(module, names)
        # A subclass with other arithmetic is found by the self-test.
        if isinstance(module, nn.Embedding) and module.max_norm is None and not module.scale_grad_by_freq:
            return EmbeddingLayer(module, names)
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            return NormLayer(module, names)
        if kind.endswith("RMSNorm"):
            layer = NormLayer(module, names)
            layer.eps  # noqa: B018  # raises at once rather than in the first step
            return layer
    raise EngineUnsuited(f"no bookkeeping for {kind} ({', '.join(sorted(names.values())[:2])})")
