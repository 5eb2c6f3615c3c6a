"""The full state of a training run, so that a killed run goes on and ends with the same weights.

PEFT's prompt-family adapters cannot be reloaded as trainable, so byrote keeps its own: every
trainable parameter, AdamW's two moments, the random generators, what a method's regimen keeps, and
the position, in one safetensors file whose header carries the rest as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class LossPoint:
    """One optimiser step: the mean loss of its batch before the step, in nats per token."""

    step: int
    epoch: int
    learning_rate: float
    loss: float | None
    """None where a private run drew an empty batch."""


@dataclass(slots=True)
class Position:
    """Where a run stands, and what it measured on the way."""

    step: int = 0
    """Optimiser steps done."""
    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches of the current epoch that are done."""
    micro_batch_size: int = 0
    seconds: float = 0.0
    tokens: int = 0
    peak_memory_bytes: int = 0
    losses: list[LossPoint] = field(default_factory=list)
    bad_gradients: int = 0
    """Units so far whose gradient was not finite, of a private run."""
    ledger: dict[str, Any] | None = None
    """The privacy account at this step; None where the run is not private."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def random_state() -> dict[str, torch.Tensor]:
    """torch's global generators; dropout draws from them."""
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Put back what `random_state` returned."""
    import torch

    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def save(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    position: Position,
    regimen: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write the whole state to `path`; `regimen` is what the method's own part of training keeps."""
    from safetensors.torch import save_file

    tensors = {f"random/{name}": value for name, value in random_state().items()}
    tensors |= {f"regimen/{name}": value.detach().contiguous() for name, value in (regimen or {}).items()}
    for name, parameter in parameters.items():
        tensors[f"weight/{name}"] = parameter.detach().contiguous()
        moments = optimizer.state.get(parameter, {})
        tensors.update({f"{moment}/{name}": moments[moment].contiguous() for moment in MOMENTS if moment in moments})
    save_file(tensors, path, metadata={"position": json.dumps(asdict(position))})


def load(path: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Position:
    """Put a saved state back into `parameters`, `optimizer` and the random generators."""
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        raw = json.loads(file.metadata()["position"])
        position = Position(**{**raw, "losses": [LossPoint(**point) for point in raw["losses"]]})
        names = set(file.keys())
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
            if f"exp_avg/{name}" in names:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(position.step)),
                    **{moment: file.get_tensor(f"{moment}/{name}").to(parameter.device) for moment in MOMENTS},
                }
        set_random_state({name.split("/")[1]: file.get_tensor(name) for name in names if name.startswith("random/")})
    return position


def load_regimen(path: Path) -> dict[str, torch.Tensor]:
    """What a saved state holds of a method's regimen."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {
            key.removeprefix("regimen/"): file.get_tensor(key) for key in set(file.keys()) if key.startswith("regimen/")
        }
