"""Trains a few small runs and keeps their weights; started in several processes, all of them train together.

Called as `python -m torch.distributed.run --nproc_per_node 2 two_processes.py FOLDER`. test_distributed.py trains the
same runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from byrote.training.loop import Training
from byrote.training.sampling import RepeatableRandomness
from private_checks import always, bench, breaking, private, training_of, weights

RANK = int(os.environ.get("RANK", "0"))


def trained(training: Training) -> Training:
    """To its end, by SGD, whose steps do not blow up what is rounding."""
    training.optimizer = torch.optim.SGD(training.parameters.values(), lr=1.0)  # type: ignore[assignment]
    list(training.run())
    return training


def plain(batch_size: int, **changes: Any) -> tuple[torch.Tensor, list[float | None]]:
    """Training without privacy; every batch is uneven, or too small for two."""
    made = bench("full")
    training = trained(training_of(made, None, batch_size=batch_size, max_steps=6, **changes))
    return weights(made), [point.loss for point in training.position.losses]


def noisy(engine: str, method: str = "lora", **settings: Any) -> tuple[torch.Tensor, list[float | None]]:
    """Private training whose noise process 0 alone knows."""
    made = breaking(bench(method), [3], "nan")
    privatiser = private(made, engine, randomness=RepeatableRandomness(1 + 100 * RANK), **settings)
    training = trained(training_of(made, privatiser))
    ledger = training.ledger()
    assert ledger is not None and ledger.steps == 6
    return weights(made), [*(point.loss for point in training.position.losses), float(privatiser.bad)]


def of_batch(batch: list[list[int]]) -> tuple[torch.Tensor, list[float | None]]:
    """Private steps over one batch."""
    made = bench()
    randomness = RepeatableRandomness(1 + 100 * RANK)
    trained(training_of(made, always(private(made, "bookkeeping", randomness=randomness), batch)))
    return weights(made), []


RUNS: dict[str, Callable[[], tuple[torch.Tensor, list[float | None]]]] = {
    "plain, batches of 5 and 2": lambda: plain(5),
    "plain, batches of 1": lambda: plain(1),
    "plain, gradient norm bounded": lambda: plain(3, max_grad_norm=0.1),
    "bookkeeping": lambda: noisy("bookkeeping"),
    "vmap, prompt tuning": lambda: noisy("vmap", "prompt-tuning"),
    "loop, groups": lambda: noisy(
        "loop", units=[[0, 1, 2], [3, 4], [5], [6, 7]], records_per_group=2, expected_batch_size=2, unit="group"
    ),
    "every unit in every batch": lambda: noisy("bookkeeping", expected_batch_size=12),
    "a batch of one unit": lambda: of_batch([[4]]),
    "an empty batch": lambda: of_batch([]),
}


def main() -> None:
    """Every run, and how many processes there were."""
    import torch.distributed as dist

    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    found = {name: run() for name, run in RUNS.items()}
    save_file({name: values for name, (values, _) in found.items()}, folder / f"weights-{RANK}.safetensors")
    seen = {"processes": dist.get_world_size(), "losses": {name: losses for name, (_, losses) in found.items()}}
    (folder / f"seen-{RANK}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
