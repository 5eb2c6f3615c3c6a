"""What logits say of one token among all: the statistics that attacks read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def vocabulary_stats(logits: torch.Tensor, targets: torch.Tensor, scratch: torch.Tensor, columns: torch.Tensor) -> None:
    """Write log_prob, mean, std and rank of logits (R, V) float32 for targets (R,) into `columns` (4, R).

    mean and std are of log p over the vocabulary under p itself. The variance is a sum of squares
    about the mean: E[x^2] - E[x]^2 cancels to 1e-3 in float32. A vocabulary entry masked to -inf
    has probability 0 and adds nothing. Overwrites `logits` and `scratch` (at least (R, V)).
    """
    import torch

    target = logits.gather(1, targets[:, None])
    top = logits.amax(1, keepdim=True)
    columns[3] = torch.count_nonzero(logits > target, dim=1)
    logits.sub_(top).clamp_(min=-1e4)
    weight = torch.exp(logits, out=scratch[: len(logits)])
    total = weight.sum(1, keepdim=True)
    mean = torch.linalg.vecdot(weight, logits)[:, None] / total
    log_total = total.log()
    variance = torch.linalg.vecdot(weight, logits.sub_(mean).square_()) / total[:, 0]
    columns[0] = (target - top - log_total)[:, 0]
    columns[1] = (mean - log_total)[:, 0]
    columns[2] = variance.clamp_(min=0).sqrt_()
