"""How large the gradient of each example's loss is, in all the weights of a model; no weight is changed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from byrote.objectives.batching import Example, collate
from byrote.objectives.lm import Reader, per_example_loss

if TYPE_CHECKING:
    import torch
    from torch import nn


def gradient_norms(
    reader: Reader, examples: Sequence[Example], pad_token_id: int, device: str | torch.device
) -> list[float]:
    """The Euclidean norm of the gradient of each example's mean loss; NaN for one without a target.

    One example at a time, without dropout, in every weight that is a number with a fraction: those of a 4-bit base are
    left out.
    """
    import torch

    reader.model.eval()
    norms = []
    with torch.enable_grad(), _all_weights(reader.model) as weights:
        for example in examples:
            if not example.targets:
                norms.append(math.nan)
                continue
            loss = per_example_loss(reader, collate([example], pad_token_id, device)).sum()
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            sizes = [torch.linalg.vector_norm(one.float()) for one in gradients if one is not None]
            norms.append(float(torch.stack(sizes).double().norm()))
    return norms


@contextlib.contextmanager
def _all_weights(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Every weight that can have a gradient, asking for one; afterwards each asks for what it did before."""
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield weights
    finally:
        for weight, asked in zip(weights, before, strict=True):
            weight.requires_grad_(asked)
