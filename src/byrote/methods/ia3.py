"""(IA)³."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.methods.base import Attached, Method, NotForThisModel, attach_peft, task_type
from byrote.methods.blocks import blocks_of, is_transposed
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEYS_AND_VALUES = ("k_proj", "v_proj", "key", "value", "k_lin", "v_lin", "c_attn", "query_key_value", "Wqkv")
"""As families call them. The fused ones, the last three, hold the queries too, which are then scaled too."""


@register("method", "ia3")
class IA3(Method):
    """Trained vectors that scale keys, values and the feed-forward layer's inner activations; the base stays frozen.

    Liu et al. 2022 (2205.05638), at the paper's places on every family, which PEFT's own tables are not.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "additive"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 7e-3, 3e-2, 1e-1)

    target_modules: tuple[str, ...] | None = None
    feedforward_modules: tuple[str, ...] | None = None
    """Those of `target_modules` that are scaled before the matrix and not after it."""

    def attach(self, model: PreTrainedModel) -> Attached:
        """The scaling vectors trainable."""
        from peft import IA3Config

        if self.target_modules is not None:
            targets, inner = list(self.target_modules), list(self.feedforward_modules or ())
        else:
            blocks = blocks_of(model)
            inner = [list(block.feed_forward)[-1] for block in blocks if block.feed_forward]
            targets = [name for block in blocks for name in block.attention if name.endswith(KEYS_AND_VALUES)] + inner
            if len(targets) == len(inner):
                raise NotForThisModel(
                    f"ia3: byrote knows no keys and values in {model.config.model_type} models; set target_modules"
                )
        return attach_peft(
            model,
            IA3Config(
                task_type=task_type(model),
                target_modules=targets,
                feedforward_modules=inner,
                fan_in_fan_out=is_transposed(model),
            ),
        )
