"""BitFit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.methods.base import Attached, Method, NotForThisModel, classification_head, train_only
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "bitfit")
class BitFit(Method):
    """Only the bias terms move.

    Ben Zaken et al. 2021 (2106.10199). Llama, Gemma and Qwen 3 have none, so that nothing would train there.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "selective"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 1e-2)
    is_adapter: ClassVar[bool] = False

    def attach(self, model: PreTrainedModel) -> Attached:
        """Every bias trainable."""
        head = {id(parameter) for layer in classification_head(model) for parameter in layer.parameters()}
        biases = [p for name, p in model.named_parameters() if name.endswith("bias") and id(p) not in head]
        if not biases:
            raise NotForThisModel(
                f"bitfit: this {model.config.model_type} model has no bias terms, so nothing would train; "
                "norm-tuning moves about as few weights"
            )
        return train_only(model, biases)
