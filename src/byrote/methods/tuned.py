"""A model that somebody else tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from byrote.methods.base import Attached, Method
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "tuned")
class Tuned(Method):
    """A model that was tuned elsewhere, taken as it is; nothing is trained.

    `byrote audit` asks for it: who was a member is then told by whoever tuned the model, and not drawn by byrote, so
    it cannot stand in a study file. That a finished model can be attacked without a say in its training is shown by
    Shokri et al. 2017 (1610.05820). The fields say where the weights were found; a run is known by their content. The
    family is that of the adapter: `parameter` here, which is right for a whole model, and `prompt` in the results of
    a prompt, prefix or P-tuning adapter.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "selective"
    learning_rates: ClassVar[tuple[float, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("lm", "completion")
    is_adapter: ClassVar[bool] = False
    not_private: ClassVar[str] = "tuned trains nothing: what its training promised is for whoever trained it to say"

    model: str | None = None
    """The tuned model; None where it is the study's own, or its adapter is all that was tuned."""
    adapter: str | None = None
    """A PEFT folder, to be put on that model."""

    @model_validator(mode="after")
    def _without_a_rate(self) -> Tuned:
        if self.learning_rate is not None or self.private_learning_rate is not None:
            raise ValueError("tuned trains nothing, so it has no learning rate")
        return self

    def attach(self, model: PreTrainedModel) -> Attached:
        """The model as it is, with nothing trainable."""
        model.requires_grad_(False)
        return Attached(model)
