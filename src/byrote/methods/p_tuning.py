"""P-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.methods.base import Attached, PromptMethod, task_type
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "p-tuning")
class PTuning(PromptMethod):
    """Virtual tokens made by a small trained network; the model stays frozen.

    Liu et al. 2021 (2103.10385). The network is an MLP or an LSTM of width
    `encoder_hidden_size` (None: the model's width).
    """

    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 1e-3, 3e-3, 1e-2)

    encoder_reparameterization_type: Literal["MLP", "LSTM"] = "MLP"
    encoder_hidden_size: Annotated[int, Field(ge=1)] | None = None
    encoder_num_layers: Annotated[int, Field(ge=1)] = 2
    encoder_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def attach(self, model: PreTrainedModel) -> Attached:
        """The virtual tokens and their network trainable."""
        from peft import PromptEncoderConfig

        return self.attach_prompt(
            model,
            PromptEncoderConfig(
                task_type=task_type(model),
                num_virtual_tokens=self.num_virtual_tokens,
                encoder_reparameterization_type=self.encoder_reparameterization_type,
                encoder_hidden_size=self.encoder_hidden_size or model.config.hidden_size,
                encoder_num_layers=self.encoder_num_layers,
                encoder_dropout=self.encoder_dropout,
            ),
        )
