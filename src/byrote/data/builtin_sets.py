"""The data sets that come with byrote, so that it works without a network."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from typing import ClassVar

from byrote.data.base import Columns, Place, Source, Table
from byrote.data.parquet import open_parquet
from byrote.registry import register
from byrote.types import StudyError


class BuiltIn(Source):
    """Base of the built-in sets: a Parquet file in the package, with columns that need not be named."""

    columns: ClassVar[Columns]

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether this is the set's own name."""
        return source == cls.name

    def open(self, place: Place) -> Table:
        """Open the set's file inside the installed package."""
        file_name = self.name.removeprefix("builtin:") + ".parquet"
        with as_file(files("byrote.data") / "builtin" / file_name) as path:
            if not path.is_file():
                raise StudyError(f"this installation of byrote lacks its file {file_name}; install byrote again")
            table = open_parquet(path, self.name)
        return replace(table, defaults=self.columns, licence="Apache-2.0", description=type(self).summary())


@register("source", "builtin:aws-docs")
class AwsDocs(BuiltIn):
    """Paragraphs of AWS service documentation first published after the older release.

    From botocore 1.44.5 without what 1.35.54 already held (Apache-2.0). Columns: id, text, service.
    """

    columns: ClassVar[Columns] = Columns(text="text", id="id")


@register("source", "builtin:aws-commands")
class AwsCommands(BuiltIn):
    """Instructions and the AWS commands that carry them out.

    From the examples of awscli 1.46.3 (Apache-2.0). Columns: id, prompt, completion, service.
    """

    columns: ClassVar[Columns] = Columns(prompt="prompt", completion="completion", id="id")


@register("source", "builtin:aws-services")
class AwsServices(BuiltIn):
    """Paragraphs of AWS documentation labelled with one of eight product areas.

    From botocore 1.44.5 (Apache-2.0), balanced classes. Columns: id, text, label.
    """

    columns: ClassVar[Columns] = Columns(text="text", label="label", id="id")
