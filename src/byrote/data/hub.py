"""Records from a data set of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from byrote.data.base import BadRow, Place, Row, Source, Table
from byrote.network import cache_only_when_unreachable
from byrote.registry import register
from byrote.types import StudyError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?", re.ASCII)


@register("source", "hub")
class Hub(Source):
    """A data set of the Hugging Face Hub: "owner/name", or "owner/name:configuration".

    Read through `datasets`, which runs no code from the Hub. HF_HOME, HF_TOKEN and
    HF_HUB_OFFLINE are honoured. `split` (default "train") and `revision` say which part and version.
    """

    last_resort: ClassVar[bool] = True

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether the name has the form of a Hub id."""
        return HUB_ID.fullmatch(source) is not None and not source.startswith(("builtin:", "."))

    def open(self, place: Place) -> Table:
        """Fetch the data set, or take it from the local cache."""
        name, _, configuration = place.source.partition(":")
        data = fetch(name, configuration or None, place)
        if not len(data):
            raise StudyError(f"{place.source}, split {place.split!r}, is empty: it holds no records")
        columns = {
            column: getattr(feature, "dtype", "") in ("string", "large_string")
            for column, feature in data.features.items()
        }
        licence = str(data.info.license or "")
        description = (data.info.description or "").strip().partition("\n")[0]
        return Table(f"{name}/{place.split}", columns, read_rows(data), licence=licence, description=description)


def fetch(name: str, configuration: str | None, place: Place) -> Any:
    """The `datasets.Dataset` of one split. Raises StudyError with what to do."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    try:
        with cache_only_when_unreachable():
            return datasets.load_dataset(name, configuration, split=place.split, revision=place.revision)
    except DatasetNotFoundError:
        raise StudyError(
            f"the Hub has no data set {name!r}{f' at revision {place.revision}' if place.revision else ''} that you "
            "may read. For a file, give a path that ends in .jsonl, .csv, .parquet or .txt; for a private data set, "
            "set HF_TOKEN"
        ) from None
    except (ConnectionError, TimeoutError) as error:
        raise StudyError(
            f"cannot reach the Hub for the data set {name!r} ({first_line(error)}). Is there a network? Without one, "
            "use a file or a built-in set such as builtin:aws-docs"
        ) from None
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        # Unknown split or configuration, broken files, full disk: the library's own first line names it.
        raise StudyError(
            f"the data set {place.source!r}, split {place.split!r}, cannot be loaded: {first_line(error)}"
        ) from None


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_rows(data: Any) -> Iterator[Row | BadRow]:
    """Row by row; a class label that is stored as a number is given its name."""
    import datasets

    classes = {column: feature for column, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)}
    for number, values in enumerate(data, 1):
        for column, feature in classes.items():
            index = values[column]
            # The Hub's convention for "no label" is -1.
            values[column] = feature.int2str(index) if index is not None and index >= 0 else None
        yield Row(number, values)
