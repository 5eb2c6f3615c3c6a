"""Prefix tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, PromptMethod, task_type
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "prefix-tuning")
class PrefixTuning(PromptMethod):
    """Trained keys and values before every text, in every layer; the model stays frozen.

    Li & Liang 2021 (2101.00190). `prefix_projection` puts the paper's reparametrising MLP of
    width `encoder_hidden_size` before them (None: the model's width).
    """

    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 1e-2, 3e-2, 1e-1)

    prefix_projection: bool = False
    encoder_hidden_size: Annotated[int, Field(ge=1)] | None = None

    def attach(self, model: PreTrainedModel) -> Attached:
        """The prefix (and its MLP, where asked for) trainable."""
        from peft import PrefixTuningConfig

        return self.attach_prompt(
            model,
            PrefixTuningConfig(
                task_type=task_type(model),
                num_virtual_tokens=self.num_virtual_tokens,
                prefix_projection=self.prefix_projection,
                encoder_hidden_size=self.encoder_hidden_size or model.config.hidden_size,
            ),
        )
