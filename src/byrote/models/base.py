"""What every built-in base model is, and where byrote keeps files that it made."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from byrote.registry import Component


def cache_folder() -> Path:
    """BYROTE_CACHE, or `byrote` in XDG_CACHE_HOME, or ~/.cache/byrote. It need not exist yet."""
    chosen = os.environ.get("BYROTE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "byrote"


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
