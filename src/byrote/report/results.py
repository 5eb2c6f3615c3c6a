"""The results of one study: rows, scores and warnings.

`Results.read(folder)` recomputes every estimate from the stored scores, so a report never shows a
number that its facts do not give.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.report.accounts import banners
from byrote.report.checks import all_warnings, contradictions, null_ranges
from byrote.report.controls import broken_splits, control_sentences
from byrote.report.estimates import all_rows
from byrote.report.evidence import Evidence
from byrote.report.limits import crossed
from byrote.report.measures import merged_settings
from byrote.report.pieces import Series
from byrote.report.rows import COLUMNS, Row
from byrote.store import Cell, Manifest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCORE_COLUMNS = ("run_id", "model", "method", "privacy", "seed", "epoch", "attack", "settings", "record_id", "split",
                 "slice", "group", "score", "reason")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Results:
    """What a study showed. Make one with `Results.read`."""

    evidence: Evidence

    @classmethod
    def read(cls, folder: Path | str) -> Results:
        """The results in a folder that `byrote run` made. Raises ByroteError where there are none."""
        return cls(Evidence.read(Path(folder)))

    @property
    def manifest(self) -> Manifest:
        return self.evidence.manifest

    @cached_property
    def rows(self) -> list[Row]:
        """Every estimate: each cell's epochs first, then what is pooled over seeds."""
        return all_rows(self.evidence)

    @cached_property
    def warnings(self) -> list[str]:
        """Everything a reader should know before trusting a number, in plain sentences."""
        return all_warnings(self.evidence, self.rows)

    @cached_property
    def banners(self) -> list[str]:
        """Those of the warnings that must stand before any epsilon; none where nothing is private."""
        return [*self.contradictions, *banners(self.evidence), *crossed(self.evidence, self.rows)]

    @cached_property
    def contradictions(self) -> list[str]:
        """What must stand before everything: private runs that were seen to leak more than their ledger allows."""
        return contradictions(self.evidence, self.rows)

    @cached_property
    def broken_splits(self) -> list[str]:
        """What must stand before every membership number: splits that are not random."""
        return broken_splits(self.evidence, self.rows)

    @cached_property
    def controls(self) -> list[str]:
        """What the controls came to, in plain sentences."""
        return [*control_sentences(self.evidence, self.rows), *self.null_ranges]

    @cached_property
    def null_ranges(self) -> list[str]:
        """Where the AUC of each attack with a stated null falls under permuted labels, in plain sentences."""
        return null_ranges(self.evidence)

    @property
    def failed(self) -> list[Cell]:
        """The runs that came to nothing; each says why in `error`."""
        return [cell for cell in self.manifest.cells if cell.status == "failed"]

    def table(self) -> pd.DataFrame:
        """The rows as a data frame; what is absent is <NA>, never 0."""
        return frame_of(self.rows, COLUMNS)

    def scores(self) -> pd.DataFrame:
        """One row per run, seed, epoch, attack and record of the split; a score is <NA> where a reason is given.

        `settings` is spelled as in the rows, so that the two tables join.
        """
        return frame_of_scores(self.score_table())

    def csv(self) -> str:
        """The rows as CSV; numbers in full precision, what is absent empty."""
        return csv_of(self.rows, COLUMNS)

    def json(self) -> str:
        """The rows as a JSON list of objects; what is absent is null."""
        return json_of(self.rows, COLUMNS)

    def score_table(self) -> pa.Table:
        """What `scores` gives, as scores.parquet holds it."""
        import pyarrow as pa

        text, whole, real = pa.string(), pa.int64(), pa.float64()
        types = {"seed": whole, "epoch": whole, "score": real}
        schema = pa.schema([(name, types.get(name, text)) for name in SCORE_COLUMNS])
        tables = [pa.table(columns, schema=schema) for columns in self._score_columns()]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def _score_columns(self) -> Iterator[dict[str, Any]]:
        """The columns of one cell, attack and epoch at a time; members first, in the split's order."""
        evidence = self.evidence
        for cell in evidence.done():
            parts = [(s, evidence.resampled(cell, evidence.part(cell.seed, s))) for s in ("member", "nonmember")]
            ids = tuple(record_id for _, part in parts for record_id in part.ids)
            same = {
                "run_id": [cell.run_id] * len(ids),
                "model": [self.manifest.model] * len(ids),
                "method": [cell.method] * len(ids),
                "privacy": [cell.privacy] * len(ids),
                "seed": [cell.seed] * len(ids),
                "record_id": [record_id for _, part in parts for record_id in part.records],
                "split": [split for split, part in parts for _ in part.ids],
                "slice": [name for _, part in parts for name in part.slices],
                "group": [group for _, part in parts for group in part.groups],
            }
            for epoch in evidence.epochs(cell):
                for attack in evidence.attacks:
                    column = evidence.pieces[cell.run_id].scores.get(Series(epoch, attack.name, attack.settings))
                    if column is None:
                        continue
                    values = column.take(ids)
                    settings = merged_settings(cell.settings, attack.name, attack.settings)
                    yield same | {
                        "epoch": [epoch] * len(ids),
                        "attack": [attack.name] * len(ids),
                        "settings": [settings] * len(ids),
                        "score": [float(value) if np.isfinite(value) else None for value in values],
                        "reason": column.why(ids),
                    }


def frame_of(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a data frame with these columns."""
    import pandas as pd

    frame = pd.DataFrame(map(attrgetter(*columns), rows), columns=list(columns), dtype=object)
    whole, real = ("seed", "epoch", "n"), ("delta", "value", "low", "high", "null_value")
    types = dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "Float64")
    return frame.astype({name: types.get(name, "string") for name in columns})


def csv_of(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Rows as CSV with these columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(attrgetter(*columns), rows))
    return text.getvalue()


def json_of(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Rows as a JSON list of objects with these keys."""
    cells = map(attrgetter(*columns), rows)
    lines = (json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False) for row in cells)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def frame_of_scores(table: pa.Table) -> pd.DataFrame:
    """A table of scores as a data frame."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=_nullable)
    return frame


def _nullable(kind: pa.DataType) -> Any:
    """The pandas type that keeps an absent number absent."""
    import pandas as pd

    return {"int64": pd.Int64Dtype(), "double": pd.Float64Dtype()}.get(str(kind), pd.StringDtype())
