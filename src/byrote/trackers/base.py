"""What a tracker is: it takes finished runs with their numbers, and keeps them in its own way."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from byrote.registry import Component
from byrote.types import StudyError


@dataclass(frozen=True, slots=True)
class Tracked:
    """One run as trackers take it, or the study as a whole with its report. No record's text is in it."""

    study: str
    name: str
    """As in 'lora, ε 8, seed 0'."""
    id: str
    """The same each time that this run is sent."""
    settings: Mapping[str, str]
    series: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """By epoch: losses, utility, leakage, each with `.low` and `.high` where it has an interval."""
    final: Mapping[str, float] = field(default_factory=dict)
    """The last epoch's estimates, and what the run cost."""
    files: tuple[Path, ...] = ()


class Tracker(Component):
    """Abstract: one tool that results can be sent to.

    To add one, write one file here. The tool's package is imported in `send` alone. Nothing may leave the machine
    unless the user's own environment says so (`unless_told`).
    """

    package: ClassVar[str]
    """What is imported, which is also what pip installs."""

    def check(self) -> None:
        """Raises StudyError where the package is missing, before anything is trained."""
        if find_spec(self.package) is None:
            raise StudyError(
                f"report_to: {self.name} needs the package {self.package}, which is not installed here: "
                f"pip install {self.package}"
            )

    @abstractmethod
    def place(self, folder: Path) -> str:
        """Where `send` will keep them, in words that tell any two places apart; `folder` is that of the results."""

    @abstractmethod
    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        """Keep these runs."""


def unless_told(name: str, value: str) -> None:
    """Set a variable of the environment where the user has not."""
    os.environ.setdefault(name, value)
