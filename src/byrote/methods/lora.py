"""LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.methods.base import Attached, Method, NotForThisModel, attach_peft
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Attention's query and value projections, as in the paper; GPT-2 and GPT-NeoX keep them in one
# fused matrix. A family that is missing here falls to PEFT's own table.
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
}


@register("method", "lora")
class LoRA(Method):
    """Low-rank updates B·A beside chosen weight matrices; the base stays frozen.

    Hu et al. 2021 (2106.09685). Update = lora_alpha / r * B A. Without `target_modules`, the
    query and value projections (the fused attention matrix on GPT-2 and GPT-NeoX).
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 5e-3)

    r: Annotated[int, Field(ge=1)] = 8
    lora_alpha: Annotated[float, Field(gt=0)] = 16
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | tuple[str, ...] | None = None

    def attach(self, model: PreTrainedModel) -> Attached:
        """LoRA's A and B trainable."""
        from peft import LoraConfig, TaskType
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TABLE

        kind = model.config.model_type
        targets = self.target_modules or ATTENTION.get(kind) or PEFT_TABLE.get(kind)
        if targets is None:
            raise NotForThisModel(
                f"lora: no default target modules for {kind} models; set target_modules, "
                "for example {name: lora, target_modules: all-linear}"
            )
        return attach_peft(
            model,
            LoraConfig(
                task_type=TaskType.CAUSAL_LM,
                r=self.r,
                lora_alpha=self.lora_alpha,
                lora_dropout=self.lora_dropout,
                target_modules=targets if isinstance(targets, str) else list(targets),
                fan_in_fan_out=kind == "gpt2",
            ),
        )
