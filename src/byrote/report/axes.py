"""The results of a study that varies something: those of its points, together, and which point each number is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from byrote.report.checks import cell_label
from byrote.report.results import SCORE_COLUMNS, Results, csv_of, frame_of, frame_of_scores, json_of
from byrote.report.rows import COLUMNS, Row, cells_of
from byrote.store import canonical_json, read_manifest, write_text
from byrote.types import ByroteError, StudyError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

AXES, POINTS = "axes.json", "points"
METHOD = "method."
FEW = 3
"""Points that are named one by one where they have no values to themselves."""
NOT_RUN = "has not been run yet"


class AxisEntry(BaseModel):
    """One field that the study varies, and its values."""

    model_config = ConfigDict(extra="forbid")
    path: str
    """As in the study; "method.r" is a field of the methods inside every point."""
    values: list[Any]
    labels: list[str]

    @property
    def of_methods(self) -> bool:
        return self.path.startswith(METHOD)

    @property
    def field(self) -> str:
        """The path, of methods the field alone."""
        return self.path.removeprefix(METHOD)


class PointEntry(BaseModel):
    """One combination of values, which is a study of its own."""

    model_config = ConfigDict(extra="forbid")
    values: dict[str, Any]
    words: dict[str, str]
    """The values as people read them."""
    folder: str
    """Where its study.json and its report are, relative to the manifest's own folder."""
    error: str = ""
    """Why the whole of it failed."""

    @property
    def label(self) -> str:
        """'model tiny-4m, epochs 3'; 'all' where nothing but methods is varied."""
        return ", ".join(f"{path} {word}" for path, word in self.words.items()) or "all"

    @property
    def key(self) -> str:
        """The column `point`: its values as compact JSON; empty where nothing but methods is varied."""
        return canonical_json(self.values) if self.values else ""


class AxesManifest(BaseModel):
    """What a study varied, and where the results of each point are."""

    model_config = ConfigDict(extra="forbid")
    format: int = 1
    byrote: str
    name: str
    question: str
    axes: list[AxisEntry]
    points: list[PointEntry]
    claims: list[dict[str, Any]] = []
    """What the study claims of its points together."""

    def write(self, folder: Path) -> None:
        write_text(folder / AXES, self.model_dump_json(indent=1))

    @classmethod
    def read(cls, folder: Path) -> AxesManifest:
        """Raises StudyError where the folder holds none, ByroteError where it holds a damaged one."""
        missing = f"{folder} holds no results of a study that varies something: {AXES} is missing."
        return read_manifest(cls, folder / AXES, missing)


@dataclass(frozen=True, slots=True)
class PointRow(Row):
    """A row of the results with the point that it is of."""

    point: str
    """The point's values as compact JSON: '{"epochs":3}'."""


POINT_COLUMNS = (*COLUMNS, "point")


@dataclass(frozen=True, slots=True, eq=False)
class PointResults:
    """What one point showed. `results` is None where there are none, and then `reason` says why."""

    entry: PointEntry
    results: Results | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class VariedResults:
    """What a study that varies something showed. Make one with `VariedResults.read`."""

    manifest: AxesManifest
    points: tuple[PointResults, ...]

    @classmethod
    def read(cls, folder: Path | str) -> VariedResults:
        """The results in a folder that `byrote run` made. Raises ByroteError where there are none."""
        manifest = AxesManifest.read(Path(folder))
        return cls(manifest, tuple(_read(Path(folder), entry) for entry in manifest.points))

    def done(self) -> Iterator[tuple[PointEntry, Results]]:
        """The points that have results."""
        return ((point.entry, point.results) for point in self.points if point.results is not None)

    @cached_property
    def rows(self) -> list[PointRow]:
        """The estimates of all points, one point after the other; `point` tells them apart."""
        return [
            PointRow(*(*cells_of(replace(row, study=self.manifest.name)), entry.key))
            for entry, results in self.done()
            for row in results.rows
        ]

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader should know before trusting a number: each sentence once, with the points that it is about."""
        return self._said([(entry, results.warnings) for entry, results in self.done()])

    @cached_property
    def banners(self) -> list[str]:
        """Those that must stand before every number."""
        return self._said([(entry, [*found.broken_splits, *found.banners]) for entry, found in self.done()])

    def _said(self, sentences: Sequence[tuple[PointEntry, Sequence[str]]]) -> list[str]:
        about: dict[str, list[PointEntry]] = {}
        for entry, of_point in sentences:
            for sentence in of_point:
                about.setdefault(sentence, []).append(entry)
        everywhere = len(sentences)
        return [
            sentence if len(entries) == everywhere else f"At {self.where(entries)}: {sentence}"
            for sentence, entries in about.items()
        ]

    def where(self, entries: Sequence[PointEntry]) -> str:
        """Some of the points in words: by the values that they and no others have, where they have any such."""
        done = [entry for entry, _ in self.done()]
        every = "every point" if len(done) == len(self.points) else "every point with results"
        shared = set.intersection(*(set(entry.words.items()) for entry in entries))
        rest = [entry for entry in done if entry not in entries]
        if not rest:
            return every
        if not any(shared <= set(entry.words.items()) for entry in rest):
            return ", ".join(f"{path} {word}" for path, word in entries[0].words.items() if (path, word) in shared)
        if len(rest) == 1:
            return f"{every} but {rest[0].label}"
        return f"{len(entries)} of {len(done)} points" if len(entries) > FEW else "; ".join(e.label for e in entries)

    @property
    def failed(self) -> list[tuple[str, str, str]]:
        """(point, run, why) of every run that failed; the run is empty where the whole point failed."""
        found = []
        for point in self.points:
            if point.entry.error:
                found.append((point.entry.label, "", point.entry.error))
            if point.results is not None:
                found += [(point.entry.label, cell_label(cell), cell.error) for cell in point.results.failed]
        return found

    def table(self) -> pd.DataFrame:
        """The rows as a data frame; what is absent is <NA>, never 0."""
        return frame_of(self.rows, POINT_COLUMNS)

    def csv(self) -> str:
        """The rows as CSV; numbers in full precision, what is absent empty."""
        return csv_of(self.rows, POINT_COLUMNS)

    def json(self) -> str:
        """The rows as a JSON list of objects; what is absent is null."""
        return json_of(self.rows, POINT_COLUMNS)

    def scores(self) -> pd.DataFrame:
        """The scores of all points, with the column `point`."""
        return frame_of_scores(self.score_table())

    def score_table(self) -> pa.Table:
        """What `scores` gives, as scores.parquet holds it."""
        import pyarrow as pa

        tables = []
        for entry, results in self.done():
            table = results.score_table()
            tables.append(table.append_column("point", pa.array([entry.key] * len(table), pa.string())))
        return pa.concat_tables(tables) if tables else pa.table({name: [] for name in (*SCORE_COLUMNS, "point")})


def _read(folder: Path, entry: PointEntry) -> PointResults:
    """One point's results; a point that failed, or was not begun, or cannot be read, has none."""
    if entry.error:
        return PointResults(entry, None, entry.error)
    try:
        return PointResults(entry, Results.read(folder / entry.folder))
    except StudyError:
        return PointResults(entry, None, NOT_RUN)
    except ByroteError as error:
        return PointResults(entry, None, str(error))
