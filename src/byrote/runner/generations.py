"""What models generated, for the test records' prompts and for attacks' openings, kept in their run folders: made once,
and read by measures and attacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from byrote.runner import tables
from byrote.runner.kept_tables import GENERATIONS, Listen, in_parts
from byrote.store import RunFolder, canonical_json
from byrote.types import Decoding, Generation, Opening, Record

if TYPE_CHECKING:
    from byrote.runner.one import Run
    from byrote.target import Target

PART = 64
"""Prompts that are written at once: a kill loses no more. Each part is generated in the same company every time."""

Generations = dict[tuple[str, str], Generation]
"""By the run's key of the record, and by how it was generated."""


def generations_name(epoch: int) -> str:
    """The file of what was generated after an epoch."""
    return f"generations/epoch-{epoch:04d}.parquet"


def spelled(decoding: Decoding, prefix_tokens: int | None = None) -> str:
    """The settings of generation as they are kept."""
    prefix = {} if prefix_tokens is None else {"prefix_tokens": prefix_tokens}
    return canonical_json(asdict(decoding) | prefix)


def read_generations(folder: RunFolder, epoch: int) -> Generations:
    """Everything generated after an epoch; empty where nothing was."""
    return GENERATIONS.of(folder, generations_name(epoch))


def has_generations(run: Run, epoch: int, asked: Sequence[Opening]) -> bool:
    """Whether there is text for each of these."""
    table = run.folder.read_table(generations_name(epoch), columns=["text_key", "decoding"]) if asked else None
    known = set() if table is None else set(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
    return all((run.generation_key(one.record), spelled(one.decoding, one.prefix_tokens)) in known for one in asked)


def alike(asked: Iterable[Opening]) -> dict[tuple[Decoding, int | None], list[Record]]:
    """The records by how they are to be gone on from and after how many tokens, in the order given."""
    found: dict[tuple[Decoding, int | None], list[Record]] = {}
    for one in asked:
        found.setdefault((one.decoding, one.prefix_tokens), []).append(one.record)
    return found


def ensure_generations(run: Run, target: Target, epoch: int, asked: Sequence[Opening], label: str) -> None:
    """Generate what of this is not there yet, with the model as it stands after an epoch."""
    for (decoding, prefix), records in alike(asked).items():
        each = {run.generation_key(record): record for record in records}.values()
        ordered = sorted(each, key=lambda record: (len(record.text) - len(record.completion or ""), record.id))
        how, known = spelled(decoding, prefix), read_generations(run.folder, epoch)
        left = [
            (before, [one for one in part if (run.generation_key(one), how) not in known])
            for before, part in in_parts(ordered, PART)
        ]

        def answer(
            part: Sequence[Record], listen: Listen, decoding: Decoding = decoding, prefix: int | None = prefix
        ) -> Generations:
            said = run.generate(target, part, decoding, prefix, listen)
            how = spelled(decoding, prefix)
            return {(run.generation_key(one), how): text for one, text in zip(part, said, strict=True)}

        progress = run.context.progress
        progress.start(f"{label}: generating", len(ordered))
        GENERATIONS.ask(run.folder, generations_name(epoch), [part for part in left if part[1]], answer, progress)


def generation_seconds(folder: RunFolder, epoch: int) -> dict[str, float]:
    """What generating took, as a line of the run's cost; empty where nothing was generated."""
    table = folder.read_table(generations_name(epoch), columns=["text_key"])
    return {} if table is None else {"generation_seconds": tables.seconds_of(table)}


def cut_off(run: Run, epoch: int, records: Sequence[Record]) -> list[str]:
    """A sentence for each way of generating by which answers did not come to their end."""
    asked = alike(one for one in run.context.to_measure(records) if one.prefix_tokens is None)
    notes, found = [], read_generations(run.folder, epoch) if asked else {}
    for (decoding, _), prompts in asked.items():
        said = [found.get((run.generation_key(record), spelled(decoding))) for record in prompts]
        answers = [one for one in said if one is not None and not one.reason]
        if cut := sum(not one.ended for one in answers):
            notes.append(
                f"{cut} of {len(answers)} generated completions came to no end ({decoding}, within max_length)."
            )
    return notes
