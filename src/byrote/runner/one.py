"""One run's folder and its token statistics; the untuned base model, scored once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from byrote.runner import tables
from byrote.runner.context import Context
from byrote.runner.environment import describe
from byrote.runner.generations import ensure_generations, generation_seconds, has_generations
from byrote.store import RunFolder, identity
from byrote.study import BaseExperiment, Experiment
from byrote.types import Decoding, Generation, Record, TokenStats, text_key

if TYPE_CHECKING:
    from torch import nn

    from byrote.target import Target

EXPERIMENT, ENVIRONMENT, HISTORY, COST = "experiment.json", "environment.json", "training.json", "cost.json"


def stats_name(epoch: int) -> str:
    """The file of one epoch's token statistics."""
    return f"stats/epoch-{epoch:04d}.parquet"


class Run:
    """A run folder with the experiment that it answers."""

    def __init__(self, context: Context, experiment: Experiment | BaseExperiment) -> None:
        self.context, self.experiment = context, experiment
        self.id = identity(experiment.model_dump(mode="json"))
        self.folder: RunFolder = context.store.run(self.id)

    def history(self) -> dict[str, Any]:
        """What training left: epochs, losses, validation losses, notes. Empty until it is finished."""
        return self.folder.read_json(HISTORY) or {}

    def stats(self, epoch: int) -> dict[str, TokenStats]:
        """Token statistics of an epoch by text key; empty where there are none."""
        table = self.folder.read_table(stats_name(epoch))
        return {} if table is None else tables.stats_from(table)

    def has(self, epoch: int, records: Sequence[Record]) -> bool:
        """Whether the statistics of an epoch cover these records."""
        return not self.missing(epoch, records)

    def missing(self, epoch: int, records: Sequence[Record]) -> dict[str, Record]:
        """Those of these records, by the key of their text, that have no statistics after an epoch."""
        table = self.folder.read_table(stats_name(epoch), columns=["text_key"])
        known = set() if table is None else set(table["text_key"].to_pylist())
        return {key: record for record in records if (key := text_key(record.text)) not in known}

    def score(self, target: Target, epoch: int, texts: Mapping[str, Record], label: str) -> None:
        """Add the statistics of these texts, by key, after an epoch: one pass, beside what is on disk."""
        progress = self.context.progress
        progress.start(f"{label}: scoring epoch {epoch}" if epoch else f"{label}: scoring", len(texts))
        started = time.monotonic()

        def advance(done: int, total: int) -> None:
            progress.advance(done)
            progress.check()

        found = target.token_stats(list(texts.values()), advance)
        self.keep_stats(epoch, dict(zip(texts, found, strict=True)), time.monotonic() - started)

    def keep_stats(self, epoch: int, found: Mapping[str, TokenStats], seconds: float) -> None:
        """Put what a pass of so many seconds found beside what is on disk."""
        table = self.folder.read_table(stats_name(epoch))
        known = {} if table is None else tables.stats_from(table)
        seconds += 0.0 if table is None else tables.seconds_of(table)
        self.folder.write_table(stats_name(epoch), tables.stats_table({**known, **found}, seconds))

    def generate(
        self, target: Target, records: Sequence[Record], decoding: Decoding, advance: Callable[[int, int], None]
    ) -> list[Generation]:
        """What the model of this run answers to the prompts of these records."""
        return target.generate(records, decoding, advance)

    def target(self, model: nn.Module, remember: bool = False) -> Target:
        """The scoring pass over a model of this run, checked against the model's own logits."""
        from byrote.target import Target

        context = self.context
        limit = getattr(model.config, "max_position_embeddings", None) or context.study.max_length
        target = Target(
            model,
            context.tokenizer,
            max_length=min(context.study.max_length, limit),
            device=context.device,
            remember=remember,
            objective=context.study.objective,
            labels=context.labels,
        )
        target.check()
        return target


class BaseRun(Run):
    """The untuned base model, scored once for all methods and seeds."""

    def ensure(self, records: Sequence[Record], prompts: Sequence[Record] = ()) -> bool:
        """Score what is not scored yet, and generate for `prompts` what is not there yet; whether there was work."""
        if self._is_done(records, prompts):
            return False
        with self.folder.locked():
            if self._is_done(records, prompts):  # by another process, a moment ago
                return False
            from byrote.training.cost import seeded

            context = self.context
            with seeded(0):  # a classifier's head is new
                model = context.load_model().model
            self.folder.write_json(EXPERIMENT, self.experiment.model_dump(mode="json"))
            self.folder.write_json(ENVIRONMENT, describe(context.device))
            target = self.target(model)
            if missing := self.missing(0, records):
                self.score(target, 0, missing, "base model")
            ensure_generations(self, target, 0, prompts, "base model")
            table = self.folder.read_table(stats_name(0))
            self.folder.write_json(
                COST,
                {
                    "scoring_seconds": tables.seconds_of(table) if table is not None else 0.0,
                    **generation_seconds(self.folder, 0),
                    "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "trainable_parameters": 0,
                    "stored_bytes": 0,
                },
            )
        return True

    def _is_done(self, records: Sequence[Record], prompts: Sequence[Record]) -> bool:
        said = has_generations(self.folder, 0, prompts, self.context.decodings)
        return said and self.has(0, records) and all(self.folder.intact(name) for name in (COST, ENVIRONMENT))
