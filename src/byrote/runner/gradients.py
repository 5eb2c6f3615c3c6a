"""The size of each record's gradient after the last epoch, kept in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from byrote.runner.kept_tables import NORMS, Listen, in_parts
from byrote.types import Record, text_key

if TYPE_CHECKING:
    from byrote.runner.one import Run
    from byrote.target import Target

PART = 128
"""Records that are written at once: a kill loses no more."""


def gradients_name(epoch: int) -> str:
    """The file of the norms after an epoch."""
    return f"gradients/epoch-{epoch:04d}.parquet"


def read_gradients(run: Run, epoch: int) -> dict[str, float]:
    """Norms of the gradients after an epoch, by the key of the record's text."""
    return NORMS.of(run.folder, gradients_name(epoch))


def missing_gradients(run: Run, epoch: int, records: Sequence[Record]) -> dict[str, Record]:
    """Those of these records, by the key of their text, whose gradient was not taken."""
    known = read_gradients(run, epoch) if records else {}
    return {key: record for record in records if (key := text_key(record.text)) not in known}


def ensure_gradients(run: Run, target: Target, epoch: int, records: Sequence[Record], label: str) -> None:
    """Take what was not taken yet, with the model as it stands after an epoch."""
    progress, missing = run.context.progress, list(missing_gradients(run, epoch, records).values())

    def answer(part: Sequence[Record], listen: Listen) -> dict[str, float]:
        norms = target.gradient_norms(part, [run.before(record) for record in part])
        return {text_key(record.text): norm for record, norm in zip(part, norms, strict=True)}

    if missing:
        progress.start(f"{label}: taking gradients", len(missing))
        NORMS.ask(run.folder, gradients_name(epoch), in_parts(missing, PART), answer, progress)
