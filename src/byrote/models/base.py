"""What every built-in base model is."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from byrote.registry import Component


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
