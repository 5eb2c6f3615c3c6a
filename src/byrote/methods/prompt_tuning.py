"""Prompt tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.methods.base import Attached, PromptMethod, task_type
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "prompt-tuning")
class PromptTuning(PromptMethod):
    """Trained input embeddings before every text; the model stays frozen.

    Lester et al. 2021 (2104.08691). The vectors start as the embeddings of random vocabulary
    entries ("SAMPLE_VOCAB"), which the paper found better at small scale, or as random numbers ("RANDOM").
    """

    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 1e-2, 3e-2, 1e-1)

    prompt_tuning_init: Literal["SAMPLE_VOCAB", "RANDOM"] = "SAMPLE_VOCAB"

    def attach(self, model: PreTrainedModel) -> Attached:
        """The virtual tokens' embeddings trainable."""
        from peft import PromptTuningConfig

        return self.attach_prompt(
            model,
            PromptTuningConfig(
                task_type=task_type(model),
                num_virtual_tokens=self.num_virtual_tokens,
                prompt_tuning_init=self.prompt_tuning_init,
            ),
        )
