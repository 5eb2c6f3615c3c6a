"""Full fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.methods.base import Attached, Method
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "full")
class Full(Method):
    """Every weight of the model moves.

    The plain fine-tuning of Howard & Ruder 2018 (1801.06146); "FFT" in Hou 2025 (2507.00258).
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "selective"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-5, 5e-5, 2e-4, 1e-3)
    is_adapter: ClassVar[bool] = False

    def attach(self, model: PreTrainedModel) -> Attached:
        """Every parameter trainable."""
        model.requires_grad_(True)
        return Attached(model)
