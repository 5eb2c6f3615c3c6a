"""DoRA."""

from __future__ import annotations

from typing import ClassVar

from byrote.methods.low_rank import LoRALike
from byrote.registry import register


@register("method", "dora")
class DoRA(LoRALike):
    """LoRA on the direction of each weight column, with the columns' lengths trained beside it.

    Liu et al. 2024 (2402.09353). W' = m (W + lora_alpha / r * B A) / its column norms, which get no gradient.
    """

    use_dora: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 5e-3)
