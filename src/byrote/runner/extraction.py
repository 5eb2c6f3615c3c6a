"""How much of each record comes out of a run's model: no model is touched here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from byrote.attacks.extraction.base import ExtractionMeasure, chosen, measure_all
from byrote.runner.kept_rows import append, current, keys, unknown
from byrote.runner.one import Run
from byrote.runner.witness import Witness
from byrote.types import Record

EXTRACTION = "extraction.parquet"


def ensure_extraction(run: Run, measures: Sequence[ExtractionMeasure], seed: int, base: Run, epochs: range) -> bool:
    """Add to the run's numbers what is missing of these measures on members and nonmembers; whether anything was."""
    splits, background = run.context.splits(seed), run.context.background(seed)
    witnesses = [Witness(run, base, epoch, background) for epoch in epochs]
    return measure_records(measures, (splits.members, splits.nonmembers), witnesses)


def measure_records(
    measures: Sequence[ExtractionMeasure], sides: Sequence[Sequence[Record]], witnesses: Sequence[Witness]
) -> bool:
    """Add what is missing of these measures on each side's records, by each witness; whether anything was.

    The witnesses are of one run after different epochs; what is generated is measured by the last one alone.
    """
    import pyarrow as pa

    if not witnesses:
        return False
    folder, make = witnesses[0].run.folder, witnesses[0].make
    known = keys(current(folder, EXTRACTION, "measure", measures, make), "measure")
    rows: list[dict[str, Any]] = []
    for witness in witnesses:
        for measure in measures:
            if measure.at_the_end and witness is not witnesses[-1]:
                continue
            for side in sides:
                asked = chosen(measure, side)
                if missing := unknown(known, witness.epoch, measure.name, measure.settings(), asked):
                    rows += _rows(measure, witness, missing, asked)
    return append(folder, EXTRACTION, rows, "measure", {"statistics": pa.list_(pa.float64())}, measures, make=make)


def _rows(
    measure: ExtractionMeasure, witness: Witness, records: Sequence[Record], side: Sequence[Record]
) -> list[dict[str, Any]]:
    """One for each of these records, of a side whose records are all sources of what may come out."""
    cut, made = witness.run.context.cut, witness.make(measure)
    sources = [cut(one).rest for record in side for one in measure.openings(record, witness.background)]
    found = measure_all(measure, [witness.of(measure, record) for record in records], sources)
    return [
        {
            "epoch": witness.epoch,
            "measure": measure.name,
            "settings": measure.settings(),
            "made_by": made,
            "record_id": record.score_id,
            "statistics": [] if isinstance(numbers, str) else list(numbers),
            "reason": numbers if isinstance(numbers, str) else "",
        }
        for record, numbers in zip(records, found, strict=True)
    ]
