"""Rank-stabilised LoRA."""

from __future__ import annotations

from typing import ClassVar

from byrote.methods.low_rank import LoRALike
from byrote.registry import register


@register("method", "rslora")
class RsLoRA(LoRALike):
    """LoRA with its update scaled by the square root of the rank, so that large ranks learn as fast as small ones.

    Kalajdzievski 2023 (2312.03732). Update = lora_alpha / sqrt(r) * B A.
    """

    use_rslora: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[float, ...]] = (5e-5, 2e-4, 1e-3, 3e-3)
