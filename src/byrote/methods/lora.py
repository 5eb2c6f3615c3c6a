"""LoRA."""

from __future__ import annotations

from typing import ClassVar

from byrote.methods.low_rank import LoRALike
from byrote.registry import register


@register("method", "lora")
class LoRA(LoRALike):
    """Low-rank updates B·A beside chosen weight matrices; the base stays frozen.

    Hu et al. 2021 (2106.09685). Update = lora_alpha / r * B A. Without `target_modules`, the
    query and value projections (the fused attention matrix on GPT-2 and GPT-NeoX); `placement` puts it elsewhere,
    which Hou 2025 (2507.00258) found to matter for what is memorised.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 5e-3)
