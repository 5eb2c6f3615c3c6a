"""How likely the tokens of records are to be drawn after the last epoch, kept in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from byrote.runner.generations import spelled
from byrote.runner.kept_tables import CHANCES, Listen, in_parts
from byrote.types import Decoding, Floats, Record

if TYPE_CHECKING:
    from byrote.runner.one import Run
    from byrote.target import Target

PART = 256
"""Records that are written at once: a kill loses no more."""

Draws = Sequence[tuple[Record, Decoding]]
"""Records, and in which way text is drawn."""
Chances = dict[tuple[str, str], Floats]
"""(T,) log-probabilities by the run's key of the record, and by the way of drawing."""


def chances_name(epoch: int) -> str:
    """The file of the chances after an epoch."""
    return f"chances/epoch-{epoch:04d}.parquet"


def read_chances(run: Run, epoch: int) -> Chances:
    """Everything found after an epoch; empty where nothing was asked."""
    return CHANCES.of(run.folder, chances_name(epoch))


def missing_chances(run: Run, epoch: int, asked: Draws) -> dict[Decoding, list[Record]]:
    """Those that were not asked yet, by the way of drawing; each text once."""
    known = read_chances(run, epoch) if asked else {}
    missing: dict[Decoding, dict[str, Record]] = {}
    for record, decoding in asked:
        key = run.generation_key(record)
        if (key, spelled(decoding)) not in known:
            missing.setdefault(decoding, {}).setdefault(key, record)
    return {decoding: list(records.values()) for decoding, records in missing.items()}


def ensure_chances(run: Run, target: Target, epoch: int, asked: Draws, label: str) -> None:
    """Ask what was not asked yet, with the model as it stands after an epoch."""
    progress = run.context.progress
    for decoding, records in missing_chances(run, epoch, asked).items():

        def answer(part: Sequence[Record], listen: Listen, decoding: Decoding = decoding) -> Chances:
            drawn = target.chances(part, decoding, [run.before(record) for record in part])
            return {(run.generation_key(one), spelled(decoding)): row for one, row in zip(part, drawn, strict=True)}

        progress.start(f"{label}: chances of being drawn", len(records))
        CHANCES.ask(run.folder, chances_name(epoch), in_parts(records, PART), answer, progress)
