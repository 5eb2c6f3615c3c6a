"""byrote's own small models, trained on the older service documentation only (see docs/models.md)."""

from __future__ import annotations

from typing import ClassVar

from byrote.cache import cache_folder
from byrote.models.base import BuiltinModel, ShippedModel
from byrote.registry import register
from byrote.types import StudyError


@register("model", "builtin:tiny")
class Tiny(ShippedModel):
    """Llama architecture, 1.4 M parameters, shipped with byrote: fine-tunes in seconds.

    Apache-2.0. 4 layers of width 128, context of 512 tokens, its own byte-level BPE of 4,096 tokens. Trained by
    tools/build_tiny.py on the documentation inside botocore 1.35.54 and on nothing else, so the
    paragraphs of builtin:aws-docs and builtin:aws-services, all newer, are non-members by construction.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 1_377_408


class BuiltOnDemand(BuiltinModel):
    """A larger one of the same recipe, built once by a command and kept in the cache."""

    size: ClassVar[str]

    def locate(self) -> str:
        """The folder in the cache. Raises StudyError with the command that makes it."""
        folder = cache_folder() / "models" / f"tiny-{self.size}"
        if not (folder / "config.json").is_file():
            raise StudyError(
                f"{self.name} has not been built on this machine. Build it once, in a checkout of byrote, with: "
                f"python tools/build_tiny.py {self.size}   (it will be kept in {folder})"
            )
        return str(folder)


@register("model", "builtin:tiny-4m")
class Tiny4M(BuiltOnDemand):
    """The recipe of builtin:tiny at width 256, 4.5 M parameters; built on demand by tools/build_tiny.py.

    Apache-2.0. It has seen fewer tokens than builtin:tiny (docs/models.md), all of the older documentation.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 4_458_752
    size: ClassVar[str] = "4m"


@register("model", "builtin:tiny-16m")
class Tiny16M(BuiltOnDemand):
    """The recipe of builtin:tiny at width 512, 15.7 M parameters; built on demand by tools/build_tiny.py.

    Apache-2.0. It has seen fewer tokens than builtin:tiny (docs/models.md), all of the older documentation.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 15_733_248
    size: ClassVar[str] = "16m"
