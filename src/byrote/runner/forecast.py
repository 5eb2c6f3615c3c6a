"""How long the runs of a study should take, by what its store knows of the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from byrote.objectives.batching import encode
from byrote.runner.context import Context
from byrote.runner.method_run import MethodRun
from byrote.runner.one import Wanted
from byrote.runner.speeds import Expected, Speeds, Work, read_speeds, records_trained
from byrote.study.model import trains

SAMPLE = 256
"""Records that are read to know how many tokens one has."""


class Asked(NamedTuple):
    """How much a run is asked, whatever its method."""

    every_epoch: int
    """Texts that are read after every epoch."""
    once: int
    """Texts that are read at the end."""
    written: float
    gradients: float


class Forecast:
    """Of one study."""

    def __init__(self, context: Context, speeds: Speeds | None = None) -> None:
        self.context = context
        self._speeds = speeds
        self._asked: dict[tuple[str, int], Asked] = {}

    @property
    def speeds(self) -> Speeds:
        """Of the study's model, where it is to be run."""
        if self._speeds is None:
            context = self.context
            store, model, device = context.store, context.model.fingerprint, context.device
            self._speeds = read_speeds(store, model, context.study.dtype, device, lambda: self.tokens)
        return self._speeds

    @cached_property
    def tokens(self) -> float:
        """How many a record of the data has, as far as it is read: of an even sample."""
        data, records, length = self.context.study.data, self.context.data.records, self.context.study.max_length
        sample = [record.text for record in records[:: max(1, len(records) // SAMPLE)]]
        lengths = [len(one.ids) for one in encode(self.context.tokenizer, sample, 2**31)]
        drawn = [size for size in lengths if (data.min_tokens or 0) <= size <= (data.max_tokens or size)]
        return sum(min(size, length) for size in drawn) / len(drawn) if drawn else float(length)

    def of(self, run: MethodRun, wanted: Callable[[], Wanted], state: str, purpose: str) -> Expected | None:
        """How long a run in this state should take at most: one that goes on is counted from its beginning."""
        if state in ("done", "diverged") or not self.speeds.runs:
            return None
        asked, experiment = self._asked_of(wanted, purpose.rstrip("0123456789"), run.experiment.seed), run.experiment
        test = len(self.context.splits(experiment.seed).test)
        epochs = experiment.epochs if trains(run.method) else 1
        work = Work(
            records_trained(experiment, test) * self.tokens if state in ("to train", "goes on") else 0.0,
            (asked.once + (epochs * asked.every_epoch if state != "to ask" else 0)) * self.tokens,
            asked.written,
            asked.gradients,
        )
        return self.speeds.expected(run.method.name, run.privacy is not None, trains(run.method), work)

    def _asked_of(self, wanted: Callable[[], Wanted], purpose: str, seed: int) -> Asked:
        """The same for all methods."""
        if (purpose, seed) not in self._asked:
            found, validation = wanted(), self.context.splits(seed).validation
            openings = (*self.context.to_measure(found.prompts), *found.openings)
            self._asked[purpose, seed] = Asked(
                len({record.id for record in (*found.records, *validation)}),
                len(found.queries) + len(found.chances),
                float(sum(one.decoding.max_new_tokens for one in openings)),
                float(len(found.gradients)),
            )
        return self._asked[purpose, seed]
