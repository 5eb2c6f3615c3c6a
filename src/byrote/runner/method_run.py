"""What every run of a method does, whether it trains or not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from byrote.methods.base import Method
from byrote.report.measures import label
from byrote.runner.context import Context
from byrote.runner.environment import DECISIVE, describe, versions
from byrote.runner.generations import alike
from byrote.runner.one import ENVIRONMENT, EXPERIMENT, Run, Wanted
from byrote.store import identity
from byrote.study import Experiment
from byrote.study.model import CONTROL_MEMBERS
from byrote.study.privacy import Privacy
from byrote.types import Decoding, Diverged, Opening, Record, Splits, StudyError, TokenStats, ordinary, text_key

if TYPE_CHECKING:
    from torch import nn

    from byrote.target import Target


ONCE = 1
"""The epoch under which what trains nothing keeps its statistics: 0 is the untuned model."""


def mean_loss(stats: Sequence[TokenStats]) -> float:
    """Loss per target token over all tokens of all texts, in nats. Raises Diverged where it is not finite."""
    loss = -float(np.concatenate([one.log_prob for one in stats]).mean(dtype=np.float64))
    if not math.isfinite(loss):
        raise Diverged(f"training diverged: the validation loss is {loss}. Use a lower learning_rate, or auto.")
    return loss


def wanted_of(context: Context, method: Method, seed: int) -> Wanted:
    """What a study wants of the run that a cell is about."""
    splits, keep = context.splits(seed), context.study.keep
    return Wanted(
        splits.all(),
        splits.test,
        queries=context.queries(seed),
        openings=context.openings(seed),
        gradients=context.gradients(seed),
        chances=context.chances(seed),
        keep=keep == "all" or (keep == "adapters" and method.is_adapter),
    )


def half_of(records: Sequence[Record], seed: int) -> tuple[Record, ...]:
    """Each record with a chance of one half, and its copies with it, as members and nonmembers were split too."""
    chance = np.random.default_rng(seed).random(len(records))
    drawn: dict[str, bool] = {}
    for record, dice in zip(records, chance.tolist(), strict=True):
        drawn.setdefault(record.group_id, dice < 0.5)
    return tuple(record for record in records if drawn[record.group_id])


def longest_opening(target: Target, openings: Sequence[Opening]) -> int:
    """Tokens of the longest of these, with what is generated after it."""
    asked = {  # whatever the seed of its draws
        (one.record.text, one.prefix_tokens, one.decoding.max_new_tokens): one.record for one in openings
    }
    plain = [Opening(record, Decoding(most), prefix) for (_, prefix, most), record in asked.items()]
    lengths = (target.longest_answer(records, how, prefix) for (how, prefix), records in alike(plain).items())
    return max(lengths, default=0)


class MethodRun(Run, ABC):
    """A method on one split."""

    experiment: Experiment

    def __init__(self, context: Context, experiment: Experiment, method: Method, label: str) -> None:
        super().__init__(context, experiment)
        self.method, self.label = method, label

    @property
    def virtual_tokens(self) -> int:  # type: ignore[override]
        """Positions that the method takes before every text."""
        return self.method.virtual_tokens

    @abstractmethod
    def ensure(self, splits: Splits, wanted: Wanted) -> bool:
        """Do what is missing to have what is wanted, and the validation records scored; whether there was work.

        Raises Diverged, from the store where that is known.
        """

    @abstractmethod
    def is_done(self, wanted: Wanted) -> bool:
        """Whether everything that is wanted is there."""

    def state(self, wanted: Wanted) -> str:
        """What `ensure` would find: "done", "to ask" or "to score"; of what is trained more (`TrainedRun`)."""
        if self.is_done(wanted):
            return "done"
        return "to ask" if self.history() and self.has(ONCE, wanted.records) else "to score"

    @property
    def family(self) -> Literal["parameter", "prompt"]:
        """The method's."""
        return self.method.family

    def check_room(self, model: nn.Module, target: Target, splits: Splits) -> None:
        """All methods and the base must read the same tokens of a text, so virtual tokens may not crowd any out."""
        limit = getattr(model.config, "max_position_embeddings", None)
        longest = max(len(example.ids) for example in target.encode(splits.all()))
        openings = self.context.openings(self.experiment.seed) + self.context.to_measure(splits.test)
        longest = max(longest, longest_opening(target, openings))
        if limit is not None and longest + self.virtual_tokens > limit:
            raise StudyError(
                f"{self.method.name}: {self.virtual_tokens} virtual tokens and texts of {longest} tokens do "
                f"not fit the model's {limit} positions. Set max_length: {limit - self.virtual_tokens}."
            )

    def start_untrained(self) -> None:
        """Begin the folder of a run that trains nothing; what other libraries left in it goes."""
        if changed := self.changed_libraries():
            self.context.progress.say(
                f"{self.label}: starts again, because the libraries changed ({', '.join(changed)})"
            )
            self.folder.clear()
        self.folder.write_json(EXPERIMENT, self.experiment.model_dump(mode="json"))
        self.folder.write_json(ENVIRONMENT, describe(self.context.device))

    @property
    def privacy(self) -> Privacy | None:
        """The run's privacy level; None without."""
        return None if self.experiment.privacy == "none" else self.experiment.privacy

    def records(self, splits: Splits) -> tuple[Record, ...]:
        """What the method is given, planted copies repeated: what it trains on in one epoch."""
        if self.experiment.trains_on == "test":
            return splits.test
        part, members = self.experiment.trains_on, splits.members
        if self.experiment.shadow is not None:
            members = half_of(splits.members + splits.nonmembers, self.seed("shadow's half"))
        if part == "few members":
            return ordinary(members)[:CONTROL_MEMBERS]
        if part == "rightly labelled":
            members = tuple(record for record in members if record.truth is None)
        elif part == "relabelled":
            members = tuple(record.rightly_labelled for record in members)
        return tuple(record for record in members for _ in range(record.copies))

    def seed(self, purpose: str) -> int:
        """A seed of its own for each purpose, from the experiment's; a shadow shares none with its target."""
        of = {"seed": self.experiment.seed, "purpose": purpose}
        if self.experiment.shadow is not None:
            of["shadow"] = self.experiment.shadow
        return int(identity(of)[:8], 16)

    def changed_libraries(self) -> list[str]:
        """What has another version than when this run began: "torch 2.12 → 2.13"."""
        before, now = (self.folder.read_json(ENVIRONMENT) or {}).get("versions", {}), versions()
        changed = [name for name in DECISIVE if before and before.get(name) != now.get(name)]
        return [f"{name} {before.get(name)} → {now.get(name)}" for name in changed]

    def check_targets(self, target: Target, splits: Splits) -> None:
        """There is something to learn, and something to validate on."""
        given = "test record" if self.experiment.trains_on == "test" else "member"
        for name, records in ((given, self.records(splits)), ("validation record", splits.validation)):
            if records and not any(example.targets for example in target.encode(records)):
                raise StudyError(
                    f"none of the {len(records)} {name}s has a token to predict: each text is shorter than two tokens. "
                    "Is it the right column? data.min_tokens leaves short texts out."
                )

    def validation_loss(self, epoch: int, splits: Splits) -> float:
        """From the statistics on disk."""
        stats = self.stats(epoch)
        found = [stats[text_key(record.text)] for record in splits.validation]
        return mean_loss([one for one in found if len(one)])

    def cuts(self, target: Target, splits: Splits) -> list[str]:
        """How many records of each part were longer than what is read of them, as sentences."""
        cut = {name: sum(1 for one in target.encode(part) if one.truncated_tokens) for name, part in splits.parts()}
        sizes = {name: len(part) for name, part in splits.parts()}
        return [
            f"{count} of {sizes[name]} {name} records were cut to {target.max_length} tokens (max_length)."
            for name, count in cut.items()
            if count
        ]


def named(method: Method) -> str:
    """Its name with the settings that tell it from others of the study: 'lora, r 16'; the rate is told apart."""
    return label(method.name, method.settings(), leave_out=("learning_rate", "private_learning_rate"))
