"""What models were asked beside the records themselves: each distinct text once, kept in the run's folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from byrote.runner.kept_tables import STATS
from byrote.types import CONTEXT_END, Query, TokenStats

if TYPE_CHECKING:
    from byrote.runner.one import Run
    from byrote.target import Target

PART = 4096
"""Texts that are written at once: a kill loses no more."""
_NOTHING = np.zeros(0, np.float32)
NO_ANSWER = TokenStats(_NOTHING, _NOTHING, _NOTHING, _NOTHING.astype(np.int32))
"""Of a text that does not fit behind its context."""


def queries_name(epoch: int) -> str:
    """The file of the answers after an epoch."""
    return f"queries/epoch-{epoch:04d}.parquet"


def read_answers(run: Run, epoch: int) -> dict[str, TokenStats]:
    """Statistics of everything asked after an epoch, the records' own texts among it, by key."""
    return run.stats(epoch) | STATS.of(run.folder, queries_name(epoch))


def answers_identity(run: Run, epoch: int) -> str:
    """A hash of all that `read_answers` reads, whatever it took to make."""
    import pyarrow as pa

    found = hashlib.sha256()
    for table in (run.folder.read_table(name) for name in run.files(epoch)):
        if table is not None:
            buffer = pa.BufferOutputStream()
            bare = table.replace_schema_metadata(None).combine_chunks()
            with pa.ipc.new_stream(buffer, bare.schema) as stream:
                stream.write_table(bare)
            found.update(buffer.getvalue())
    return found.hexdigest()


def missing_queries(run: Run, epoch: int, queries: Iterable[Query]) -> list[Query]:
    """Those that have no answer after an epoch, each text once."""
    wanted = {query.key: query for query in queries}
    if not wanted:
        return []
    for table in (run.folder.read_table(name, columns=["text_key"]) for name in run.files(epoch)):
        for key in () if table is None else table["text_key"].to_pylist():
            wanted.pop(key, None)
    return list(wanted.values())


def ensure_queries(run: Run, target: Target, epoch: int, queries: Iterable[Query], label: str) -> None:
    """Ask the model as it stands after an epoch what it was not asked yet: texts with the same context together."""
    progress, missing = run.context.progress, missing_queries(run, epoch, queries)
    if not missing:
        return
    progress.start(f"{label}: scoring further texts", len(missing))
    done = 0
    for context, part in _parts(run, target, missing):
        started = time.monotonic()
        fitting = _fitting(run, target, part, context)
        stats = target.token_stats([query.record for query in fitting], progress.listener(done), context)
        found = {query.key: NO_ANSWER for query in part}
        found |= {query.key: one for query, one in zip(fitting, stats, strict=True)}
        STATS.keep(run.folder, queries_name(epoch), found, time.monotonic() - started)
        done += len(part)


def _parts(run: Run, target: Target, queries: Sequence[Query]) -> Iterable[tuple[tuple[int, ...], list[Query]]]:
    """Queries by the tokens of their context, at most PART at once."""
    contexts: dict[tuple[object, ...], list[Query]] = {}
    for query in queries:
        contexts.setdefault((run.before(query.record), *(one.text for one in query.context)), []).append(query)
    for same in contexts.values():
        tokens = run.before(same[0].record) + target.context_of(same[0].context, CONTEXT_END)
        for start in range(0, len(same), PART):
            yield tokens, same[start : start + PART]


def _fitting(run: Run, target: Target, queries: Sequence[Query], context: Sequence[int]) -> list[Query]:
    """Those whose text has room behind its context; nothing of either is cut away."""
    limit = getattr(target.decoder.model.config, "max_position_embeddings", None)
    if limit is None:
        return list(queries)
    room = int(limit) - len(context) - run.virtual_tokens
    examples = target.encode([query.record for query in queries])
    pairs = zip(queries, examples, strict=True)
    return [query for query, example in pairs if not query.context or len(example.ids) <= room]
