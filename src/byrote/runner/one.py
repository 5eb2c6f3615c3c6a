"""One run's folder and its token statistics; the untuned base model, scored once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from byrote.runner import tables
from byrote.runner.chances import chances_name, ensure_chances, missing_chances
from byrote.runner.context import Context
from byrote.runner.environment import describe
from byrote.runner.generations import ensure_generations, generation_seconds, has_generations
from byrote.runner.gradients import ensure_gradients, gradients_name, missing_gradients
from byrote.runner.kept_tables import STATS
from byrote.runner.neighbours import NEIGHBOURS, ensure_neighbours, missing_neighbours
from byrote.runner.queries import ensure_queries, missing_queries, queries_name
from byrote.store import RunFolder, identity
from byrote.study import BaseExperiment, Experiment
from byrote.types import Decoding, Generation, Opening, Query, Record, TokenStats, text_key

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from byrote.target import Target

EXPERIMENT, ENVIRONMENT, HISTORY, COST = "experiment.json", "environment.json", "training.json", "cost.json"


def stats_name(epoch: int) -> str:
    """The file of one epoch's token statistics."""
    return f"stats/epoch-{epoch:04d}.parquet"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run must have when it is done, beside the statistics of its validation records."""

    records: Sequence[Record] = ()
    """Scored after every epoch."""
    prompts: Sequence[Record] = ()
    """Answered at the end, as the study's measures ask."""
    queries: Sequence[Query] = ()
    """Asked at the end."""
    openings: Sequence[Opening] = ()
    """Gone on from at the end, each in its way, as the study's attacks ask."""
    gradients: Sequence[Record] = ()
    """Whose gradients are taken at the end."""
    chances: Sequence[tuple[Record, Decoding]] = ()
    """Whose chances of being drawn are asked at the end, and how text is drawn."""
    keep: bool = False
    """Whether the tuned weights are kept."""


class Run:
    """A run folder with the experiment that it answers."""

    virtual_tokens = 0
    """Positions that the method takes before every text."""
    asked_no_more: str = ""
    """Why the model is not asked what it was not asked when it was trained; empty where it can be."""

    def __init__(self, context: Context, experiment: Experiment | BaseExperiment) -> None:
        self.context, self.experiment = context, experiment
        self.id = identity(experiment.model_dump(mode="json"))
        self.folder: RunFolder = context.store.run(self.id)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What this run's model reads texts with."""
        return self.context.tokenizer

    def history(self) -> dict[str, Any]:
        """What training left: epochs, losses, validation losses, notes. Empty until it is finished."""
        return self.folder.read_json(HISTORY) or {}

    def files(self, epoch: int) -> tuple[str, str]:
        """Where token statistics of an epoch are: of the records, and of whatever else was asked."""
        return stats_name(epoch), queries_name(epoch)

    def before(self, record: Record) -> tuple[int, ...]:
        """The tokens that this run's model reads before a record."""
        return ()

    def generation_key(self, record: Record) -> str:
        """What generated text of a record is kept under: all that the model reads before it writes."""
        return text_key(record.text)

    def answered(self, epoch: int, wanted: Wanted) -> bool:
        """Whether everything that is made at the end is there."""
        said = all(has_generations(self, epoch, asked) for asked in self._asked(wanted))
        taken = not missing_gradients(self, epoch, wanted.gradients) and not missing_chances(
            self, epoch, wanted.chances
        )
        return said and taken and not missing_queries(self, epoch, wanted.queries)

    def _asked(self, wanted: Wanted) -> tuple[Sequence[Opening], Sequence[Opening]]:
        """What is to be generated: for the study's measures, and for its attacks."""
        return self.context.to_measure(wanted.prompts), wanted.openings

    def ensure_answers(self, target: Target, epoch: int, wanted: Wanted, label: str) -> None:
        """Make what of it is not there, with the model as it stands after an epoch."""
        ensure_queries(self, target, epoch, wanted.queries, label)
        for asked in self._asked(wanted):
            ensure_generations(self, target, epoch, asked, label)
        ensure_gradients(self, target, epoch, wanted.gradients, label)
        ensure_chances(self, target, epoch, wanted.chances, label)

    def answer_seconds(self, epoch: int) -> dict[str, float]:
        """What that took, as lines of the run's cost."""
        names = [queries_name(epoch), gradients_name(epoch), chances_name(epoch), *([NEIGHBOURS] if epoch == 0 else [])]
        found = [self.folder.read_table(name, columns=["text_key"]) for name in names]
        seconds = [tables.seconds_of(table) for table in found if table is not None]
        return ({"attack_seconds": sum(seconds)} if seconds else {}) | generation_seconds(self.folder, epoch)

    def stats(self, epoch: int) -> dict[str, TokenStats]:
        """Token statistics of an epoch by text key; empty where there are none."""
        return STATS.of(self.folder, stats_name(epoch))

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
        found = target.token_stats(list(texts.values()), progress.listener())
        STATS.keep(self.folder, stats_name(epoch), dict(zip(texts, found, strict=True)), time.monotonic() - started)

    def generate(
        self,
        target: Target,
        records: Sequence[Record],
        decoding: Decoding,
        prefix_tokens: int | None,
        advance: Callable[[int, int], None],
    ) -> list[Generation]:
        """What the model of this run answers to the prompts of these records, or to their first tokens."""
        return target.generate(records, decoding, advance, None, prefix_tokens)

    def target(self, model: nn.Module, remember: bool = False) -> Target:
        """The scoring pass over a model of this run, checked against the model's own logits."""
        from byrote.target import Target

        context = self.context
        limit = getattr(model.config, "max_position_embeddings", None) or context.study.max_length
        target = Target(
            model,
            self.tokenizer,
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

    def ensure_neighbours(self, records: Sequence[Record], count: int) -> bool:
        """Make so many neighbours of each of these records, where there are fewer; whether there was work."""
        context = self.context
        texts = [record.scored(context.scored) for record in records]
        if not missing_neighbours(self.folder, texts, count):
            return False
        with self.folder.locked():
            target = self.target(context.load_model().model)
            ensure_neighbours(context, self.folder, target, texts, count, "base model")
        return True

    def ensure(self, wanted: Wanted) -> bool:
        """Score, ask and generate what is not there yet; whether there was work."""
        if self._is_done(wanted):
            return False
        with self.folder.locked():
            if self._is_done(wanted):  # by another process, a moment ago
                return False
            from byrote.training.cost import seeded

            context = self.context
            with seeded(0):  # a classifier's head is new
                model = context.load_model().model
            self.folder.write_json(EXPERIMENT, self.experiment.model_dump(mode="json"))
            self.folder.write_json(ENVIRONMENT, describe(context.device))
            target = self.target(model)
            if missing := self.missing(0, wanted.records):
                self.score(target, 0, missing, "base model")
            self.ensure_answers(target, 0, wanted, "base model")
            table = self.folder.read_table(stats_name(0))
            self.folder.write_json(
                COST,
                {
                    "scoring_seconds": tables.seconds_of(table) if table is not None else 0.0,
                    **self.answer_seconds(0),
                    "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "trainable_parameters": 0,
                    "stored_bytes": 0,
                },
            )
        return True

    def _is_done(self, wanted: Wanted) -> bool:
        pieces = all(self.folder.intact(name) for name in (COST, ENVIRONMENT))
        return pieces and self.has(0, wanted.records) and self.answered(0, wanted)
