"""The size of each record's gradient after the last epoch, kept in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from byrote.runner import tables
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
    table = run.folder.read_table(gradients_name(epoch))
    return {} if table is None else tables.norms_from(table)


def missing_gradients(run: Run, epoch: int, records: Sequence[Record]) -> dict[str, Record]:
    """Those of these records, by the key of their text, whose gradient was not taken."""
    known = read_gradients(run, epoch) if records else {}
    return {key: record for record in records if (key := text_key(record.text)) not in known}


def ensure_gradients(run: Run, target: Target, epoch: int, records: Sequence[Record], label: str) -> None:
    """Take what was not taken yet, with the model as it stands after an epoch."""
    progress, missing = run.context.progress, list(missing_gradients(run, epoch, records).items())
    if missing:
        progress.start(f"{label}: taking gradients", len(missing))
    for start in range(0, len(missing), PART):
        part = missing[start : start + PART]
        began, before = time.monotonic(), run.folder.read_table(gradients_name(epoch))
        texts = [record for _, record in part]
        norms = target.gradient_norms(texts, [run.before(record) for record in texts])
        found = read_gradients(run, epoch) | {key: norm for (key, _), norm in zip(part, norms, strict=True)}
        seconds = time.monotonic() - began + (0.0 if before is None else tables.seconds_of(before))
        run.folder.write_table(gradients_name(epoch), tables.norms_table(found, seconds))
        progress.advance(start + len(part))
        progress.check()
