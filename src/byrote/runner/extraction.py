"""How much of each record comes out of a run's model: no model is touched here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from byrote.attacks.extraction.base import ExtractionMeasure, chosen, measure_all
from byrote.registry import Component
from byrote.runner.context import Context
from byrote.runner.kept_rows import append, current, keys, unknown
from byrote.runner.witness import Witness
from byrote.store import identity
from byrote.types import Record, text_key


def extraction_of(context: Context, seed: int) -> str:
    """The name of what comes out of a seed's members and nonmembers, its canaries among them.

    The untuned model's run answers for all seeds and plants, and the same record is compared with other texts in each.
    """
    splits = context.splits(seed)
    sides = [[record.score_id for record in side] for side in (splits.members, splits.nonmembers)]
    return f"{context.split_folder(seed).id}-{identity(sides)}"


def extraction_name(of: str) -> str:
    """The file of a run's numbers."""
    return f"extraction/{of}.parquet"


def measure_records(
    measures: Sequence[ExtractionMeasure], sides: Sequence[Sequence[Record]], witnesses: Sequence[Witness], seed: int
) -> bool:
    """Add what is missing of these measures on each side's records of a seed, by each witness; whether anything was.

    The witnesses are of one run after different epochs; what is generated is measured by the last one alone.
    """
    import pyarrow as pa

    if not witnesses:
        return False
    folder, name = witnesses[0].run.folder, extraction_name(extraction_of(witnesses[0].run.context, seed))

    @cache
    def of_sides() -> str:
        return identity([[text_key(record.text) for record in side] for side in sides])

    def make(measure: Component) -> str:
        """Where texts are compared with all of a side, a number hangs on the sides too."""
        made = witnesses[0].make(measure)
        compared = isinstance(measure, ExtractionMeasure) and "continuations" in measure.needs
        return identity([made, of_sides()]) if compared else made

    known = keys(current(folder, name, "measure", measures, make), "measure")
    rows: list[dict[str, Any]] = []
    for witness in witnesses:
        for measure in measures:
            if measure.at_the_end and witness is not witnesses[-1]:
                continue
            for part, least in _alike(sides):
                asked = chosen(measure, part)
                if missing := unknown(known, witness.epoch, measure.name, measure.settings(), asked):
                    rows += _rows(measure, witness, missing, part, least, make)
    return append(folder, name, rows, "measure", {"statistics": pa.list_(pa.float64())}, measures, make=make)


def _alike(sides: Sequence[Sequence[Record]]) -> Iterator[tuple[list[Record], int]]:
    """The data's own records of each side, and each family of canaries, with the size of the smaller side."""
    for family in dict.fromkeys(record.family for side in sides for record in side):
        parts = [part for side in sides if (part := [record for record in side if record.family == family])]
        for part in parts:
            yield part, min(map(len, parts))


def _rows(
    measure: ExtractionMeasure,
    witness: Witness,
    records: Sequence[Record],
    side: Sequence[Record],
    least: int,
    make: Callable[[Component], str],
) -> list[dict[str, Any]]:
    """One for each of these records; all records of the side are sources, asked about or not. The smaller side has
    `least` of them.
    """
    cuts = witness.run.context.cuts
    sources = [cuts.of(one).rest for record in side for one in measure.openings(record, witness.background)]
    evidence = [replace(witness.of(measure, record), sources=least) for record in records]
    found = measure_all(measure, evidence, sources)
    made = make(measure)  # now that it shows whether its encoder could be loaded
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
