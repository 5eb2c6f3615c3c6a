"""LLaMA-adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.methods.base import Attached, Method, NotForThisModel, attach_peft, classifies, task_type
from byrote.methods.blocks import blocks_of
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "llama-adapter")
class LlamaAdapter(Method):
    """Trained prompts that the upper attention layers look at beside the text, through gates that start closed.

    Zhang et al. 2023 (2303.16199), for Llama, Mistral and GPT-2. They take no position of the text. Not for
    classification: PEFT would neither train nor save the head beside them.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "additive"
    tasks: ClassVar[tuple[str, ...]] = ("lm", "completion")
    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 1e-2, 3e-2, 1e-1)

    adapter_len: Annotated[int, Field(ge=1)] = 10
    adapter_layers: Annotated[int, Field(ge=1)] | None = None
    """Counted from the top; None: all but the lowest."""

    def attach(self, model: PreTrainedModel) -> Attached:
        """The prompts and their gates trainable."""
        from peft import AdaptionPromptConfig

        if classifies(model):
            raise NotForThisModel("llama-adapter: PEFT does not train a classification head beside it; take adapter")
        layers = self.adapter_layers or max(1, len(blocks_of(model)) - 1)
        return attach_peft(
            model,
            AdaptionPromptConfig(task_type=task_type(model), adapter_len=self.adapter_len, adapter_layers=layers),
        )
