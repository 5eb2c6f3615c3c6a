"""One run: train (or load the base), score after every epoch, and keep it all in its folder.

Every piece is made only where it is missing: a run that was killed goes on from its last saved
state, and a finished one is left alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.methods.base import Method
from byrote.objectives.lm import Decoder
from byrote.runner import tables
from byrote.runner.context import Context
from byrote.runner.environment import DECISIVE, describe, versions
from byrote.store import RunFolder, identity
from byrote.study import BaseExperiment, Experiment
from byrote.types import Record, Splits, StudyError, TokenStats, text_key

if TYPE_CHECKING:
    from torch import nn

    from byrote.target import Target
    from byrote.training.loop import Plan, Training

STATE, HISTORY, COST = "state.safetensors", "training.json", "cost.json"
EXPERIMENT, ENVIRONMENT, LEDGER = "experiment.json", "environment.json", "ledger.json"
WEIGHTS = "weights"


def stats_name(epoch: int) -> str:
    """The file of one epoch's token statistics."""
    return f"stats/epoch-{epoch:04d}.parquet"


def mean_loss(stats: Sequence[TokenStats]) -> float:
    """Loss per target token over all tokens of all texts, in nats."""
    return -float(np.concatenate([one.log_prob for one in stats]).mean(dtype=np.float64))


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
        stats = self.stats(epoch)
        return all(text_key(record.text) in stats for record in records)

    def score(self, target: Target, epoch: int, records: Sequence[Record], label: str) -> dict[str, TokenStats]:
        """Statistics of these records after an epoch: those on disk, and one pass for the others."""
        table = self.folder.read_table(stats_name(epoch))
        known = {} if table is None else tables.stats_from(table)
        texts = {text_key(record.text): record.text for record in records}
        missing = [key for key in texts if key not in known]
        if missing:
            progress = self.context.progress
            progress.start(f"{label}: scoring epoch {epoch}" if epoch else f"{label}: scoring", len(missing))
            started = time.monotonic()

            def advance(done: int, total: int) -> None:
                progress.advance(done)
                progress.check()

            found = target.token_stats([texts[key] for key in missing], advance)
            seconds = time.monotonic() - started + (tables.seconds_of(table) if table is not None else 0.0)
            known |= dict(zip(missing, found, strict=True))
            self.folder.write_table(stats_name(epoch), tables.stats_table(known, seconds))
        return {key: known[key] for key in texts}

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
        )
        target.check()
        return target


class BaseRun(Run):
    """The untuned base model, scored once for all methods and seeds."""

    def ensure(self, records: Sequence[Record]) -> bool:
        """Score what is not scored yet; whether there was anything to do."""
        if self.has(0, records) and self.folder.intact(COST) and self.folder.intact(ENVIRONMENT):
            return False
        with self.folder.locked():
            context = self.context
            model = context.load_model().model
            self.folder.write_json(EXPERIMENT, self.experiment.model_dump(mode="json"))
            self.folder.write_json(ENVIRONMENT, describe(context.device))
            self.score(self.target(model), 0, records, "base model")
            table = self.folder.read_table(stats_name(0))
            self.folder.write_json(
                COST,
                {
                    "scoring_seconds": tables.seconds_of(table) if table is not None else 0.0,
                    "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "trainable_parameters": 0,
                    "stored_bytes": 0,
                },
            )
        return True


class TrainedRun(Run):
    """A method trained on the members of one split."""

    experiment: Experiment

    def __init__(self, context: Context, experiment: Experiment, method: Method, label: str) -> None:
        super().__init__(context, experiment)
        self.method, self.label = method, label

    def is_done(self, records: Sequence[Record], *, keep: bool) -> bool:
        """Whether the run is trained, scored on these records after every epoch, and its weights kept if asked."""
        epochs = self.history().get("epochs", 0)
        kept = not keep or (self.folder.path / WEIGHTS).is_dir()
        return bool(epochs) and kept and all(self.has(epoch, records) for epoch in range(1, epochs + 1))

    def ensure(self, splits: Splits, *, whole: bool, keep: bool) -> bool:
        """Train and score whatever is missing; whether there was anything to do.

        `whole` scores all records after every epoch; a run that only answers for its learning rate is
        scored on the validation records alone.
        """
        records = splits.all() if whole else splits.validation
        if self.is_done(records, keep=keep):
            return False
        with self.folder.locked():
            self._start_folder()
            self._train(splits, records, keep)
        return True

    def _start_folder(self) -> None:
        before = (self.folder.read_json(ENVIRONMENT) or {}).get("versions", {})
        now = versions()
        changed = [name for name in DECISIVE if before and before.get(name) != now.get(name)]
        if changed and self.folder.intact(STATE):
            which = ", ".join(f"{name} {before.get(name)} → {now.get(name)}" for name in changed)
            self.context.progress.say(f"{self.label}: starts again, because the libraries changed ({which})")
            self.folder.remove(STATE)
        self.folder.write_json(EXPERIMENT, self.experiment.model_dump(mode="json"))
        self.folder.write_json(ENVIRONMENT, describe(self.context.device))
        self.folder.write_json(LEDGER, None)

    def _train(self, splits: Splits, records: Sequence[Record], keep: bool) -> None:
        from byrote.training.cost import seeded

        with seeded(self._seed("training")):
            attached = self.method.attach(self.context.load_model().model)
            model = attached.model
            training, target = self._training(model, splits)
            if self.folder.intact(STATE):
                training.resume(self.folder.path / STATE)
                self.context.progress.say(f"{self.label}: goes on after step {training.position.step}")
            validation: list[float] = []
            stopped = False
            self._announce(training)
            for epoch in training.run(lambda: self._between_steps(training)):
                self._save_state(training)
                self.score(target, epoch, records, self.label)
                validation = self._validation(epoch, splits)
                stopped = self._should_stop(validation)
                if stopped:
                    break
                self._announce(training)
            notes = [*attached.notes, *self._notes(training, target, splits)]
            self._finish(training, model, validation, stopped, notes, keep)

    def _seed(self, purpose: str) -> int:
        """A seed of its own for each purpose, from the experiment's."""
        return int(identity({"seed": self.experiment.seed, "purpose": purpose})[:8], 16)

    def _training(self, model: nn.Module, splits: Splits) -> tuple[Training, Target]:
        from byrote.training.loop import Training
        from byrote.training.losses import example_loss, only_the_head_trains

        context = self.context
        frozen_body = only_the_head_trains(Decoder(model))
        target = self.target(model, remember=frozen_body)
        self._check_room(model, target, splits)
        examples = [e for e in target.encode([record.text for record in splits.members]) if e.targets]
        loss = example_loss(target.decoder, examples, target.pad_token_id, context.device)
        training = Training(
            model,
            loss,
            [len(example.ids) for example in examples],
            self._plan(),
            device=context.device,
            on_step=lambda done, steps, loss: context.progress.advance(done, f"loss {loss:.3f}"),
        )
        return training, target

    def _check_room(self, model: nn.Module, target: Target, splits: Splits) -> None:
        """All methods and the base must read the same tokens of a text, so virtual tokens may not crowd any out."""
        limit = getattr(model.config, "max_position_embeddings", None)
        longest = max(len(example.ids) for example in target.encode([record.text for record in splits.all()]))
        if limit is not None and longest + self.method.virtual_tokens > limit:
            raise StudyError(
                f"{self.method.name}: {self.method.virtual_tokens} virtual tokens and texts of {longest} tokens do "
                f"not fit the model's {limit} positions. Set max_length: {limit - self.method.virtual_tokens}."
            )

    def _plan(self) -> Plan:
        from byrote.training.loop import Plan

        e = self.experiment
        return Plan(
            epochs=e.epochs,
            batch_size=e.batch_size,
            learning_rate=e.learning_rate,
            warmup_ratio=e.warmup_ratio,
            lr_scheduler_type=e.lr_scheduler_type,
            weight_decay=e.weight_decay,
            max_grad_norm=e.max_grad_norm,
            seed=self._seed("order"),
            max_steps=e.max_steps,
        )

    def _announce(self, training: Training) -> None:
        if not training.finished():
            self.context.progress.start(f"{self.label}: training", training.steps)
            self.context.progress.advance(training.position.step)

    def _between_steps(self, training: Training) -> None:
        progress = self.context.progress
        if training.due_for_saving or progress.stop_requested:
            self._save_state(training)
        progress.check()

    def _save_state(self, training: Training) -> None:
        with self.folder.writing(STATE) as path:
            training.save(path)

    def _validation(self, epoch: int, splits: Splits) -> list[float]:
        """Validation loss after each epoch so far, from the statistics on disk."""
        keys = [text_key(record.text) for record in splits.validation]
        losses = []
        for done in range(1, epoch + 1):
            stats = self.stats(done)
            losses.append(mean_loss([stats[key] for key in keys if len(stats[key])]))
        return losses

    def _should_stop(self, validation: list[float]) -> bool:
        patience = self.experiment.early_stop
        return patience is not None and len(validation) - 1 - int(np.argmin(validation)) >= patience

    def _notes(self, training: Training, target: Target, splits: Splits) -> list[str]:
        notes = []
        members = target.encode([record.text for record in splits.members])
        if cut := sum(1 for example in members if example.truncated_tokens):
            notes.append(f"{cut} of {len(members)} members were cut to {target.max_length} tokens (max_length).")
        if empty := sum(1 for example in members if not example.targets):
            notes.append(f"{empty} of {len(members)} members have no token to train on and were left out.")
        if training.position.micro_batch_size < self.experiment.batch_size:
            notes.append(f"Memory allowed {training.position.micro_batch_size} records at a time.")
        return notes

    def _finish(
        self, training: Training, model: nn.Module, validation: list[float], stopped: bool, notes: list[str], keep: bool
    ) -> None:
        position = training.position
        if keep:
            self._keep_weights(model)
        scoring = [self.folder.read_table(stats_name(epoch)) for epoch in range(1, position.epoch + 1)]
        trained = sum(parameter.numel() for parameter in training.parameters.values())
        self.folder.write_json(
            COST,
            {
                "train_seconds": position.seconds,
                "tokens_per_second": position.tokens / position.seconds if position.seconds else 0.0,
                "peak_memory_bytes": position.peak_memory_bytes,
                "trainable_parameters": trained,
                "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                "stored_bytes": sum(p.numel() * p.element_size() for p in training.parameters.values()),
                "scoring_seconds": sum(tables.seconds_of(table) for table in scoring if table is not None),
            },
        )
        self.folder.write_json(
            HISTORY,
            {
                "epochs": position.epoch,
                "stopped_early": stopped,
                "losses": [asdict(point) for point in position.losses],
                "validation": [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(validation, 1)],
                "notes": notes,
            },
        )
        self.folder.remove(STATE)

    def _keep_weights(self, model: nn.Module) -> None:
        """The tuned weights as their library saves them, put in place whole or not at all."""
        final, part = self.folder.path / WEIGHTS, self.folder.path / f".{WEIGHTS}.part"
        shutil.rmtree(part, ignore_errors=True)
        options = {"save_embedding_layers": False} if self.method.is_adapter else {}
        model.save_pretrained(part, **options)  # type: ignore[operator]
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
