"""A run that trains nothing: every record is scored behind the demonstrations of its set, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from byrote.methods.base import Method
from byrote.methods.in_context import DemonstrationSet, InContext
from byrote.methods.tuned import Tuned
from byrote.runner import tables
from byrote.runner.context import Context
from byrote.runner.given import TunedRun
from byrote.runner.kept_tables import STATS
from byrote.runner.method_run import ONCE, MethodRun, longest_opening
from byrote.runner.one import COST, ENVIRONMENT, EXPERIMENT, HISTORY, Wanted, stats_name
from byrote.runner.private_runs import check_privacy
from byrote.runner.trained import TrainedRun
from byrote.study import Experiment
from byrote.types import Decoding, Generation, Record, Splits, StudyError, TokenStats, text_key

if TYPE_CHECKING:
    from torch import nn

    from byrote.target import Target

SETS = "demonstrations.parquet"
PURPOSE = "demonstrations"
"""Of the seed that the sets are drawn with."""


def run_of(context: Context, experiment: Experiment, method: Method, label: str) -> MethodRun:
    """The run that answers an experiment of this method."""
    if isinstance(method, Tuned):
        return TunedRun(context, experiment, method, label)
    if isinstance(method, InContext):
        return InContextRun(context, experiment, method, label)
    return TrainedRun(context, experiment, method, label)


class InContextRun(MethodRun):
    """Members shown to the untuned model, and what it then says of every record."""

    def __init__(self, context: Context, experiment: Experiment, method: InContext, label: str) -> None:
        super().__init__(context, experiment, method, label)
        self.shows = method
        self.contexts: dict[str, tuple[int, ...]] = {}
        """The tokens before each record, by its id."""

    def before(self, record: Record) -> tuple[int, ...]:
        """The demonstrations of its set."""
        return self.contexts[record.id]

    @cached_property
    def _shown_before(self) -> dict[str, str]:
        """By record id, what tells the demonstrations before it from others; the run's id tells how they are joined."""
        sets = self.shows.sets(self.context.splits(self.experiment.seed), self.seed(PURPOSE))
        keys = [text_key("\x1f".join(one.text for one in each.demonstrations)) for each in sets]
        return {record.id: key for each, key in zip(sets, keys, strict=True) for record in each.scored}

    def generation_key(self, record: Record) -> str:
        """The same prompt behind other demonstrations is another question."""
        return f"{super().generation_key(record)} {self._shown_before[record.id]}"

    def is_done(self, wanted: Wanted) -> bool:
        """Whether the records are scored, everything is answered, and all about the run is kept."""
        whole = all(self.folder.intact(name) for name in (COST, ENVIRONMENT, EXPERIMENT, HISTORY, SETS))
        return whole and self.has(ONCE, wanted.records) and self.answered(ONCE, wanted)

    def ensure(self, splits: Splits, wanted: Wanted) -> bool:
        """Score all records of the split where those wanted are not scored, and answer. No weights are kept."""
        if self.is_done(wanted):
            return False
        if self.privacy is not None:
            check_privacy(self.method)
        with self.folder.locked():
            if self.is_done(wanted):  # by another process, a moment ago
                return False
            self.start_untrained()
            model = self.method.attach(self.context.load_model().model).model
            target = self.target(model)
            self.check_room(model, target, splits)
            self.check_targets(target, splits)
            sets = self.shows.sets(splits, self.seed(PURPOSE))
            for one in sets:
                context = target.context_of(one.demonstrations, self.shows.separator)
                self.contexts |= dict.fromkeys((record.id for record in one.scored), context)
            if not self.has(ONCE, wanted.records):
                self._score_behind(target, sets)
            self.ensure_answers(target, ONCE, wanted, self.label)
            self._finish(model, target, splits, sets)
        return True

    def generate(
        self,
        target: Target,
        records: Sequence[Record],
        decoding: Decoding,
        prefix_tokens: int | None,
        advance: Callable[[int, int], None],
    ) -> list[Generation]:
        """What the model answers behind the demonstrations of each record's set."""
        contexts = [self.contexts[record.id] for record in records]
        return target.generate(records, decoding, advance, contexts, prefix_tokens)

    def check_room(self, model: nn.Module, target: Target, splits: Splits) -> None:
        """The longest context and the text after it fit the model's positions, with nothing of either cut away."""
        limit, asked = getattr(model.config, "max_position_embeddings", None), self.shows.demonstrations
        longest = self._longest(self.shows, target, splits)
        if limit is None or longest <= limit:
            return
        fewer = (self.shows.model_copy(update={"demonstrations": count}) for count in range(asked - 1, 0, -1))
        fits = next((one.demonstrations for one in fewer if self._longest(one, target, splits) <= limit), None)
        advice = f"Set demonstrations: {fits}," if fits else "Not even one fits; set"
        raise StudyError(
            f"in-context: {asked} demonstrations and the text after them take up to {longest} tokens, but the model "
            f"has {limit} positions. {advice} a lower max_length (it is {target.max_length}), or data.max_tokens."
        )

    def _longest(self, method: InContext, target: Target, splits: Splits) -> int:
        """Tokens of the longest context with the longest text after it."""
        tests, context = {record.id for record in splits.test}, self.context
        found, opening = [], longest_opening(target, context.openings(self.experiment.seed))
        for one in method.sets(splits, self.seed(PURPOSE)):
            asked = [record for record in one.others if record.id in tests]
            lengths = [len(example.ids) for example in target.encode(one.scored)]
            lengths += [longest_opening(target, context.to_measure(asked)), opening]
            found.append(len(target.context_of(one.demonstrations, method.separator)) + max(lengths))
        return max(found)

    def _score_behind(self, target: Target, sets: Sequence[DemonstrationSet]) -> None:
        """One pass over all records, a set at a time."""
        self.context.progress.start(f"{self.label}: scoring", sum(len(one.scored) for one in sets))
        started, found = time.monotonic(), dict[str, TokenStats]()
        for one in sets:
            texts = {text_key(record.text): record for record in one.scored}
            context = self.contexts[one.demonstrations[0].id]
            stats = target.token_stats(list(texts.values()), self.context.progress.listener(len(found)), context)
            found |= dict(zip(texts, stats, strict=True))
        STATS.keep(self.folder, stats_name(ONCE), found, time.monotonic() - started)

    def _finish(self, model: nn.Module, target: Target, splits: Splits, sets: Sequence[DemonstrationSet]) -> None:
        self.folder.write_table(SETS, tables.sets_table([(one.demonstrations, one.others) for one in sets]))
        scoring = self.folder.read_table(stats_name(ONCE))
        self.folder.write_json(
            COST,
            {
                "train_seconds": 0.0,
                "trainable_parameters": 0,
                "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                "stored_bytes": 0,
                "scoring_seconds": 0.0 if scoring is None else tables.seconds_of(scoring),
                **self.answer_seconds(ONCE),
            },
        )
        self.folder.write_json(
            HISTORY,
            {
                "epochs": ONCE,
                "sets": len(sets),
                "stopped_early": False,
                "losses": [],
                "validation": [{"epoch": ONCE, "loss": self.validation_loss(ONCE, splits)}],
                "notes": [*self.cuts(target, splits), _shown(sets)],
            },
        )


def _shown(sets: Sequence[DemonstrationSet]) -> str:
    """How many sets of how many demonstrations there were, as a sentence."""
    sizes = [len(one.demonstrations) for one in sets]
    span = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    return (
        f"The members were shown in {len(sets)} sets of {span} demonstrations, each scored with its own set before it; "
        "intervals resample whole sets."
    )
