"""Bottleneck adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.methods.base import Attached, Method, NotForThisModel, attach_peft, task_type
from byrote.methods.blocks import Block, blocks_of
from byrote.methods.bottleneck import bottleneck_config
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "adapter")
class Adapter(Method):
    """Small networks with a bottleneck and a residual connection, inside every block; the base stays frozen.

    `placement: houlsby` puts one after attention and one after the feed-forward layer (Houlsby et al. 2019,
    1902.00751), `pfeiffer` the latter only (Pfeiffer et al. 2020, 2005.00247); both before the block's own residual
    is added. `parallel` gives them the layer's input instead of its output (He et al. 2021, 2110.04366, with
    `scaling` 4). The up-projections start at zero, so training starts at the base model.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "additive"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 5e-3)

    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    bottleneck_size: Annotated[int, Field(ge=1)] = 16
    non_linearity: Literal["relu", "gelu", "silu"] = "relu"
    parallel: bool = False
    scaling: Annotated[float, Field(gt=0)] = 1.0

    def attach(self, model: PreTrainedModel) -> Attached:
        """The networks trainable."""
        targets = [name for block in blocks_of(model) for name in self._targets(block, model.config.model_type)]
        config = bottleneck_config()(
            task_type=task_type(model),
            target_modules=targets,
            bottleneck_size=self.bottleneck_size,
            non_linearity=self.non_linearity,
            parallel=self.parallel,
            scaling=self.scaling,
        )
        return attach_peft(model, config)

    def _targets(self, block: Block, kind: str) -> list[str]:
        """After: the projections that end each half of a block. Beside: the halves themselves."""
        halves = [block.feed_forward] if self.placement == "pfeiffer" else [block.attention, block.feed_forward]
        if not all(halves):
            raise NotForThisModel(f"adapter: byrote finds no attention or no feed-forward layer in {kind} blocks")
        if not self.parallel:
            return [list(half)[-1] for half in halves]
        found = []
        for half in halves:
            names = {name.removeprefix(f"{block.name}.").partition(".")[0] for name in half}
            if len(names) > 1:
                raise NotForThisModel(
                    f"adapter: {kind} blocks keep no half in one module, so nothing can run beside it; "
                    "leave parallel off"
                )
            found.append(f"{block.name}.{names.pop()}")
        return found
