"""RandLoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, attach_peft, task_type
from byrote.methods.blocks import is_transposed
from byrote.methods.low_rank import Reparametrised
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "randlora")
class RandLoRA(Reparametrised):
    """Full-rank updates as a trained mixture of frozen random low-rank ones.

    Albert et al. 2025 (2502.00987). A larger `r` means *fewer* trained numbers: width / r bases are mixed.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (5e-5, 2e-4, 1e-3, 3e-3)

    r: Annotated[int, Field(ge=1)] = 32
    randlora_alpha: Annotated[int, Field(gt=0)] = 640
    randlora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    projection_prng_key: Annotated[int, Field(ge=0)] = 0

    def attach(self, model: PreTrainedModel) -> Attached:
        """The mixing coefficients trainable."""
        from peft import RandLoraConfig

        return attach_peft(
            model,
            RandLoraConfig(
                task_type=task_type(model),
                r=self.r,
                randlora_alpha=self.randlora_alpha,
                randlora_dropout=self.randlora_dropout,
                projection_prng_key=self.projection_prng_key,
                target_modules=self.targets(model),
                fan_in_fan_out=is_transposed(model),
            ),
        )
