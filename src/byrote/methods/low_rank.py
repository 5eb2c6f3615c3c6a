"""What methods share that change weight matrices by fewer numbers than the matrices hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from byrote.methods.base import Attached, Method, NotForThisModel, attach_peft, task_type
from byrote.methods.blocks import Placement, feed_forward_layers, is_transposed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Attention's query and value projections, as in LoRA's paper; GPT-2, GPT-NeoX and ModernBERT keep them in
# one fused matrix. A family that is missing here falls to PEFT's own table.
ATTENTION = {
    "llama": ("q_proj", "v_proj"),
    "mistral": ("q_proj", "v_proj"),
    "gemma": ("q_proj", "v_proj"),
    "gemma2": ("q_proj", "v_proj"),
    "gemma3_text": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
    "gpt_neox": ("query_key_value",),
    "distilbert": ("q_lin", "v_lin"),
    "albert": ("query", "value"),
    "modernbert": ("Wqkv",),
}


class Reparametrised(Method):
    """Abstract: a change of weight matrices that is made of fewer numbers; the base stays frozen.

    `placement` names the matrices: `attention` (the query and value projections; the fused matrix on GPT-2 and
    GPT-NeoX), `mlp` (every linear map of the feed-forward half), or `both`. `target_modules` names them one by one.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "reparametrised"

    placement: Placement = "attention"
    target_modules: Literal["all-linear"] | tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_way_to_say_where(self) -> Self:
        if self.target_modules is not None and self.placement != "attention":
            raise ValueError("set placement or target_modules, not both")
        return self

    def targets(self, model: PreTrainedModel) -> str | list[str]:
        """Names of the matrices, as PEFT's target_modules. Raises NotForThisModel."""
        if self.target_modules is not None:
            return self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        attention = [] if self.placement == "mlp" else list(self._attention(model))
        return attention + ([] if self.placement == "attention" else feed_forward_layers(model))

    def _attention(self, model: PreTrainedModel) -> tuple[str, ...]:
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TABLE

        kind = model.config.model_type
        found = ATTENTION.get(kind) or PEFT_TABLE.get(kind)
        if not found or isinstance(found, str):
            raise NotForThisModel(
                f"{self.name}: no default target modules for {kind} models; set target_modules, "
                f"for example {{name: {self.name}, target_modules: all-linear}}"
            )
        return tuple(found)


class LoRALike(Reparametrised):
    """Abstract: a product B·A beside each matrix, as LoraConfig makes it."""

    use_rslora: ClassVar[bool] = False
    use_dora: ClassVar[bool] = False
    init_lora_weights: ClassVar[bool | str] = True

    r: Annotated[int, Field(ge=1)] = 8
    lora_alpha: Annotated[float, Field(gt=0)] = 16
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def attach(self, model: PreTrainedModel) -> Attached:
        """A and B trainable."""
        from peft import LoraConfig

        return attach_peft(
            model,
            LoraConfig(
                task_type=task_type(model),
                r=self.r,
                lora_alpha=self.lora_alpha,
                lora_dropout=self.lora_dropout,
                target_modules=self.targets(model),
                fan_in_fan_out=is_transposed(model),
                use_rslora=self.use_rslora,
                use_dora=self.use_dora,
                init_lora_weights=self.init_lora_weights,
            ),
        )
