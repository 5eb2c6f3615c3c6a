"""What every built-in base model is."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from byrote.registry import Component
from byrote.types import StudyError


class BuiltinModel(Component):
    """Base of the models that are known by a name; one file and one `@register("model", ...)` adds one."""

    licence: ClassVar[str]
    parameters: ClassVar[int]
    """How many, tied ones counted once."""

    @abstractmethod
    def locate(self) -> str:
        """What the name stands for here: a model folder, a .gguf file, or a Hub id.

        Nothing is fetched or converted yet. Raises StudyError that says what to install or run.
        """


class ShippedModel(BuiltinModel):
    """A model whose files lie inside the package, in the folder of its name."""

    def locate(self) -> str:
        """The folder inside the installed package."""
        folder = Path(__file__).parent / self.name.removeprefix("builtin:")
        if not (folder / "config.json").is_file():
            raise StudyError(f"this installation of byrote lacks the files of {self.name}; install byrote again")
        return str(folder)
