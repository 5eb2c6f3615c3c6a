"""Context-aware prompt tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, NotForThisModel, PromptMethod, classifies, task_type
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INPUT = 2
"""PEFT's mark of a context token that is an example's text, and may move."""


@register("method", "cpt")
class CPT(PromptMethod):
    """Prompt tuning that starts from real tokens and may move each no farther than a small distance.

    Blau et al. 2024 (2410.17222). The paper's context are demonstrations: give their ids as `cpt_token_ids`;
    without them the context is `num_virtual_tokens` random entries of the vocabulary. `opt_projection_epsilon`
    x sqrt(width / 2048) bounds how far an embedding may go. **Deviation:** the paper's loss also weighs the
    context's own labels by their age; byrote trains on its own loss of the record alone, as for every method.
    """

    tasks: ClassVar[tuple[str, ...]] = ("lm", "completion")
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 1e-3, 3e-3, 1e-2)

    cpt_token_ids: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(None, min_length=1)
    opt_projection_epsilon: Annotated[float, Field(gt=0)] = 0.1

    @property
    def virtual_tokens(self) -> int:
        """The context."""
        return self.num_virtual_tokens if self.cpt_token_ids is None else len(self.cpt_token_ids)

    def attach(self, model: PreTrainedModel) -> Attached:
        """The context's displacements trainable."""
        import torch
        from peft import CPTConfig

        if classifies(model):
            raise NotForThisModel("cpt: PEFT has it for language models only; take prompt-tuning")
        size: int = model.get_input_embeddings().get_parameter("weight").shape[0]
        ids = self.cpt_token_ids or tuple(torch.randint(size, (self.num_virtual_tokens,)).tolist())
        if max(ids) >= size:
            raise NotForThisModel(f"cpt: cpt_token_ids holds {max(ids)}, but the vocabulary ends at {size - 1}")
        return self.attach_prompt(
            model,
            CPTConfig(
                task_type=task_type(model),
                cpt_token_ids=list(ids),
                cpt_mask=[1] * len(ids),
                cpt_tokens_type_mask=[INPUT] * len(ids),
                opt_projection_epsilon=self.opt_projection_epsilon,
            ),
        )
