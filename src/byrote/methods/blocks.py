"""Where a model keeps its blocks, and what in a block is attention and what is feed-forward.

Families name their layers in many ways, but all hold their blocks in one list of modules, name attention by that
word, and end each half of a block with the projection that leads back into the residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from byrote.methods.base import NotForThisModel

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Placement = Literal["attention", "mlp", "both"]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One layer of the model: its linear maps by full name, in the order of their definition."""

    name: str
    module: nn.Module
    attention: dict[str, nn.Module]
    """The last one is the output projection."""
    feed_forward: dict[str, nn.Module]
    """The last one leads back to the model's width."""


def blocks_of(model: PreTrainedModel) -> list[Block]:
    """From the first to the last. Raises NotForThisModel where there are none that we understand."""
    from torch import nn

    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise NotForThisModel(f"{model.config.model_type} models keep no list of blocks that byrote could find")
    # Experts lie in lists too, but inside a block.
    name, longest = max(lists, key=lambda one: sum(parameter.numel() for parameter in one[1].parameters()))
    return [_block(f"{name}.{index}", module) for index, module in enumerate(longest)]


def _block(name: str, module: nn.Module) -> Block:
    attention: dict[str, nn.Module] = {}
    feed_forward: dict[str, nn.Module] = {}
    for path, layer in module.named_modules():
        if is_linear(layer):
            half = attention if any("attn" in part or "attention" in part for part in path.split(".")) else feed_forward
            half[f"{name}.{path}"] = layer
    return Block(name, module, attention, feed_forward)


def is_linear(module: nn.Module) -> bool:
    """nn.Linear, or GPT-2's Conv1D, which is one with the weight the other way round."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def is_transposed(model: PreTrainedModel) -> bool:
    """Whether the linear maps are GPT-2's Conv1D; PEFT calls that fan_in_fan_out."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def feed_forward_layers(model: PreTrainedModel) -> list[str]:
    """Full names of every linear map outside attention."""
    return [name for block in blocks_of(model) for name in block.feed_forward]


def norms_of(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Every normalisation with weights by full name: LayerNorm, and each family's RMSNorm."""
    return {
        name: module
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm") and any(True for _ in module.parameters())
    }
