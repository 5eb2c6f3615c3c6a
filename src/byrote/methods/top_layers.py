"""Tuning of the last blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.methods.base import Attached, Method, NotForThisModel, train_only
from byrote.methods.blocks import blocks_of, norms_of
from byrote.registry import register

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@register("method", "top-layers")
class TopLayers(Method):
    """The last `layers` blocks and what stands between them and the head move; embeddings and lower blocks do not.

    Lee et al. 2019 (1911.03090). Between them and the head stand the final norm and an encoder's pooler. The
    language-model head stays as it is, tied or not (it is the `head` method's); a classification head trains.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "selective"
    learning_rates: ClassVar[tuple[float, ...]] = (2e-5, 1e-4, 5e-4, 2e-3)
    is_adapter: ClassVar[bool] = False

    layers: Annotated[int, Field(ge=1)] = 1

    def attach(self, model: PreTrainedModel) -> Attached:
        """Their parameters trainable."""
        blocks = blocks_of(model)
        if self.layers > len(blocks):
            raise NotForThisModel(f"top-layers: layers is {self.layers}, but the model has {len(blocks)} blocks")
        modules = [block.module for block in blocks[-self.layers :]] + _above(model, blocks[0].name)
        return train_only(model, [parameter for module in modules for parameter in module.parameters()])


def _above(model: PreTrainedModel, block: str) -> list[nn.Module]:
    """The final norm, which lies beside the list of blocks (embeddings' own norms do too), and a pooler."""
    beside = block.rsplit(".", 2)[0]
    final = [
        module
        for name, module in norms_of(model).items()
        if name.rpartition(".")[0] == beside and "emb" not in name.rpartition(".")[2]
    ]
    poolers = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "pooler"]
    return final + poolers
