"""Data parallel training in as few words as it takes: who does which share, and sums over all processes.

accelerate starts the processes and picks the backend. With one process every function here does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def processes() -> int:
    """How many processes train together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 is the one that draws random numbers for all."""
    import torch.distributed as dist

    return dist.get_rank() if processes() > 1 else 0


def share_of(items: Sequence[T]) -> list[T]:
    """This process's part of a batch; the parts together are the batch."""
    return list(items[rank() :: processes()])


def as_the_first(value: T) -> T:
    """What process 0 gave, in every process."""
    import torch.distributed as dist

    if processes() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def sum_over_processes(tensors: Sequence[torch.Tensor]) -> None:
    """Every tensor becomes its sum over all processes, in place."""
    import torch.distributed as dist

    if processes() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
