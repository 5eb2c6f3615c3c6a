"""Tuning of the head alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.methods.base import Attached, Method, NotForThisModel, classifies, train_only
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "head")
class Head(Method):
    """Only the output layer moves; a head that is tied to the input embedding is untied first.

    Head tuning of Mireshghallah et al. 2022 (2205.12506) and Hou 2025 (2507.00258). In GPT-2,
    Gemma and SmolLM2 the head *is* the input embedding: training it tied would change every
    layer's input as well, which is another method. The copy adds vocabulary x width parameters.
    Of a classification model it is the classification head: a linear probe.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "selective"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 1e-2)
    is_adapter: ClassVar[bool] = False

    def attach(self, model: PreTrainedModel) -> Attached:
        """Only the head trainable; a language model's is untied where it was tied."""
        import torch

        if classifies(model):
            return train_only(model, [])
        head: torch.nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        if head is None:
            raise NotForThisModel(f"head: a {model.config.model_type} model has no language-model head")
        notes: tuple[str, ...] = ()
        weight = head.get_parameter("weight")
        if weight is model.get_input_embeddings().weight:
            head.weight = torch.nn.Parameter(weight.detach().clone())
            model.config.tie_word_embeddings = False
            notes = ("The language-model head was tied to the input embedding; byrote untied it before training.",)
        return Attached(train_only(model, list(head.parameters())).model, notes)
