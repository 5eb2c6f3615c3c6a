"""PiSSA."""

from __future__ import annotations

from typing import ClassVar

from byrote.methods.low_rank import LoRALike
from byrote.registry import register


@register("method", "pissa")
class PiSSA(LoRALike):
    """LoRA that starts from the largest singular vectors of each matrix; the frozen rest is what remains.

    Meng et al. 2024 (2404.02948). The scale is 1 (lora_alpha = r), as in the paper. The outputs start as the base
    model's, but the frozen matrices are not the base model's: with the adapter disabled this is another model.
    Loading the adapter makes the same residual from the pristine base again.
    """

    init_lora_weights: ClassVar[bool | str] = "pissa"
    learning_rates: ClassVar[tuple[float, ...]] = (2e-5, 1e-4, 5e-4, 2e-3)

    lora_alpha: float = 8
