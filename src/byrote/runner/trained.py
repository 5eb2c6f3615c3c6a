"""One training run: train, score after every epoch, and keep it all in its folder.

Every piece is made only where it is missing: a run that was killed goes on from its last saved
state, and a finished one is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from byrote.methods.base import Attached
from byrote.runner import tables
from byrote.runner.environment import describe
from byrote.runner.method_run import MethodRun
from byrote.runner.one import COST, ENVIRONMENT, EXPERIMENT, HISTORY, Wanted, stats_name
from byrote.runner.private_runs import privatiser_of
from byrote.runner.weights import WEIGHTS, folder_bytes, keep_weights, kept_target
from byrote.types import Diverged, Ledger, Record, Splits, text_key

if TYPE_CHECKING:
    from torch import nn

    from byrote.target import Target
    from byrote.training.loop import Plan, Training
    from byrote.training.losses import ExampleLoss
    from byrote.training.private import Privatiser

STATE, DIVERGED, LEDGER = "state.safetensors", "diverged.json", "ledger.json"
EARLIER = "earlier.json"  # how many trainings of a private run were thrown away after something of them could be seen


class TrainedRun(MethodRun):
    """A method trained on the members of one split."""

    preparation_seconds = 0.0

    def is_done(self, wanted: Wanted) -> bool:
        """Whether the run is trained and has everything that is wanted."""
        return self._is_trained(wanted) and self.answered(self.history()["epochs"], wanted)

    def _is_trained(self, wanted: Wanted) -> bool:
        """The same without what is made at the end."""
        epochs = self.history().get("epochs", 0)
        pieces = all(self.folder.intact(name) for name in (COST, ENVIRONMENT, EXPERIMENT))
        kept = not wanted.keep or self.folder.intact_folder(WEIGHTS) is not None
        accounted = not self.promises or self.ledger() is not None
        return bool(epochs) and pieces and kept and accounted and self._scored(epochs, wanted.records)

    @property
    def promises(self) -> bool:
        """Whether the run gives a guarantee: a private one that is not a learning-rate trial."""
        return self.privacy is not None and self.experiment.trains_on != "test"

    def ledger(self) -> Ledger | None:
        """The privacy account on disk; None where there is none, or it is not whole."""
        raw = self.folder.read_json(LEDGER)
        return None if raw is None else Ledger.read(raw)

    def _scored(self, epochs: int, records: Sequence[Record]) -> bool:
        return all(self.has(epoch, records) for epoch in range(1, epochs + 1))

    def ensure(self, splits: Splits, wanted: Wanted) -> bool:
        """Train, score the records and the validation records after every epoch, and make at the end what is made
        there; whether there was work to do.

        A finished run that lacks the latter alone makes it with its kept weights, and is trained again where
        these are not there. Raises Diverged, from the store where that is known.
        """
        if self.is_done(wanted):
            if (self.folder.path / STATE).exists():  # killed just before it was removed
                with self.folder.locked():
                    self.folder.remove(STATE)
            return False
        failure = self.folder.read_json(DIVERGED)
        if failure and not self.changed_libraries():
            raise Diverged(failure["message"])
        with self.folder.locked():
            if self.is_done(wanted):  # by another process, a moment ago
                return False
            if self._is_trained(wanted) and self._answered_by_kept_weights(splits, wanted):
                return True
            self._start_folder()
            try:
                while not self._trained(splits, wanted):
                    pass
            except Diverged as error:
                self.folder.write_json(DIVERGED, {"message": str(error)})
                self.folder.remove(STATE)
                raise
        return True

    def _answered_by_kept_weights(self, splits: Splits, wanted: Wanted) -> bool:
        """False where there are none, or none that predict as the trained model did."""
        target, epoch = kept_target(self, self.method, splits.validation), self.history()["epochs"]
        if target is None or self.changed_libraries():
            self.context.progress.say(f"{self.label}: trains again, to be asked more: its weights were not kept")
            return False
        self.ensure_answers(target, epoch, wanted, self.label)
        cost = self.folder.read_json(COST) or {}
        self.folder.write_json(COST, cost | self.answer_seconds(epoch))
        return True

    def _start_folder(self) -> None:
        changed, say = self.changed_libraries(), self.context.progress.say
        anew = self.privacy is not None and not self.folder.intact(STATE) and self.folder.path.is_dir()
        if changed:
            say(f"{self.label}: starts again, because the libraries changed ({', '.join(changed)})")
        elif anew and self.history():
            say(f"{self.label}: trained anew, and its old results deleted")
        if changed or anew:  # another training gives other weights: nothing of two may stand beside each other
            earlier = (self.folder.read_json(EARLIER) or 0) + bool(self.ledger() or self.history())
            self.folder.clear()
            if self.promises and earlier:
                self.folder.write_json(EARLIER, earlier)
        self.folder.write_json(EXPERIMENT, self.experiment.model_dump(mode="json"))
        self.folder.write_json(ENVIRONMENT, describe(self.context.device))
        if not self.promises:
            self.folder.write_json(LEDGER, None)

    def _trained(self, splits: Splits, wanted: Wanted) -> bool:
        """Train from the saved state or from the start. False where the state was of no use: it is gone now."""
        from byrote.training.cost import seeded

        with seeded(self.seed("training")):
            attached = self.method.attach(self.context.load_model().model)
            model = attached.model
            training, target = self._training(attached, splits)
            if self._resumed(training, wanted.records):
                validation, stopped = self._epochs(training, target, splits, wanted.records)
                self.ensure_answers(target, training.position.epoch, wanted, self.label)
                notes = [*attached.notes, *self._notes(training, target, splits)]
                self._finish(training, model, validation, stopped, notes, wanted.keep)
                return True
            return False

    def _resumed(self, training: Training, records: Sequence[Record]) -> bool:
        """Go on from the saved state, if there is one. False where it cannot be used, and is gone now."""
        if not self.folder.intact(STATE):
            return True
        training.resume(self.folder.path / STATE)
        position, say = training.position, self.context.progress.say
        # The epoch at whose very end the state was saved is scored again; those before it cannot be.
        if self._scored(position.epoch if position.batch else position.epoch - 1, records):
            say(f"{self.label}: goes on after step {position.step}")
            return True
        say(f"{self.label}: starts again, because scores of an earlier epoch are missing")
        self.folder.remove(STATE)
        self._start_folder()
        return False

    def _epochs(
        self, training: Training, target: Target, splits: Splits, records: Sequence[Record]
    ) -> tuple[list[float], bool]:
        """Train to the end, scoring every epoch; the validation losses, and whether it stopped early."""
        validation: list[float] = []
        self._announce(training)
        for epoch in training.run(lambda: self._between_steps(training)):
            self._save_state(training)
            self._score_epoch(target, epoch, splits, records)
            for known in range(len(validation) + 1, epoch + 1):
                validation.append(self.validation_loss(known, splits))
            if self._should_stop(validation):
                return validation, True
            self._announce(training)
        return validation, False

    def _training(self, attached: Attached, splits: Splits) -> tuple[Training, Target]:
        from byrote.target import reader_of
        from byrote.training.loop import Training
        from byrote.training.losses import example_loss, only_the_head_trains

        context, model = self.context, attached.model
        frozen_body = only_the_head_trains(reader_of(model, self.experiment.objective))
        target = self.target(model, remember=frozen_body)
        self.check_room(model, target, splits)
        self.check_targets(target, splits)
        encoded = target.encode(self.records(splits))
        usable = [at for at, example in enumerate(encoded) if example.targets]
        examples = [encoded[at] for at in usable]
        started = time.monotonic()
        loss = example_loss(target.decoder, examples, target.pad_token_id, context.device)
        self.preparation_seconds = time.monotonic() - started  # the body's one pass, where only the head trains
        training = Training(
            model,
            loss,
            [len(example.ids) for example in examples],
            self._plan(),
            device=context.device,
            on_step=lambda done, steps, loss: context.progress.advance(
                done, "" if loss is None else f"loss {loss:.3f}"
            ),
            private=self._privatiser(model, loss, target, splits, usable) if self.privacy else None,
            regimen=attached.regimen,
        )
        return training, target

    def _privatiser(
        self, model: nn.Module, loss: ExampleLoss, target: Target, splits: Splits, usable: Sequence[int]
    ) -> Privatiser:
        from byrote.training.state import trainable

        assert self.privacy is not None
        records = self.records(splits)
        public = target.encode(splits.validation)
        privatiser = privatiser_of(
            self.experiment, self.privacy, [records[at] for at in usable], loss, trainable(model), public
        )
        for reason in privatiser.refused:
            self.context.progress.say(f"{self.label}: engine refused by the self-test: {reason}")
        return privatiser

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
            seed=self.seed("order"),
            max_steps=e.max_steps,
        )

    def _announce(self, training: Training) -> None:
        if not training.finished():
            self.context.progress.start(f"{self.label}: training", training.steps)
            self.context.progress.advance(training.position.step)

    def _between_steps(self, training: Training) -> None:
        progress = self.context.progress
        if training.finished():
            return  # the end of the epoch saves at once; a state in between would never be scored
        if training.due_for_saving or progress.stop_requested:
            self._save_state(training)
        progress.check()

    def _save_state(self, training: Training) -> None:
        with self.folder.writing(STATE) as path:
            training.save(path)
        if self.promises:
            self.folder.write_json(LEDGER, training.position.ledger)

    def _score_epoch(self, target: Target, epoch: int, splits: Splits, records: Sequence[Record]) -> None:
        """The validation records in a pass of their own, which a trial makes too, and then the others.

        A part is scored whole or not at all: in other company a text's numbers are the same to rounding only.
        """
        validation = {record.id for record in splits.validation}
        others = [record for record in records if record.id not in validation]
        for part in (splits.validation, others):
            if not self.has(epoch, part):
                self.score(target, epoch, {text_key(record.text): record for record in part}, self.label)

    def _should_stop(self, validation: list[float]) -> bool:
        patience = self.experiment.early_stop
        return patience is not None and len(validation) - 1 - int(np.argmin(validation)) >= patience

    def _notes(self, training: Training, target: Target, splits: Splits) -> list[str]:
        notes = self.cuts(target, splits)
        members = target.encode(self.records(splits))
        if empty := sum(1 for example in members if not example.targets):
            notes.append(f"{empty} of {len(members)} members have no token to train on and were left out.")
        if training.private:
            return notes + self._private_notes(training.private)
        if training.position.micro_batch_size < self.experiment.batch_size:
            notes.append(f"Memory allowed {training.position.micro_batch_size} records at a time.")
        return notes

    def _private_notes(self, private: Privatiser) -> list[str]:
        """What the report's account does not say."""
        notes = [f"{private.bad} gradients were not finite and counted as zero."] if private.bad else []
        if earlier := self.folder.read_json(EARLIER):
            notes.append(
                f"This run was trained {earlier + 1} times, because something of the earlier ones was missing or the "
                "libraries had changed. Whoever saw their results too has seen several runs on the same records, and "
                "their epsilons add up."
            )
        return notes

    def _finish(
        self, training: Training, model: nn.Module, validation: list[float], stopped: bool, notes: list[str], keep: bool
    ) -> None:
        position = training.position
        if self.promises and (ledger := training.ledger()):
            trainings = 1 + (self.folder.read_json(EARLIER) or 0)
            self.folder.write_json(LEDGER, asdict(replace(ledger, trainings=trainings)))
        if keep:
            keep_weights(self.folder, model, self.method, self.ledger() if self.promises else None)
        scoring = [self.folder.read_table(stats_name(epoch)) for epoch in range(1, position.epoch + 1)]
        trained = sum(parameter.numel() for parameter in training.parameters.values())
        seconds = position.seconds + self.preparation_seconds
        self.folder.write_json(
            COST,
            {
                "train_seconds": seconds,
                "tokens_per_second": position.tokens / seconds if seconds else 0.0,
                "peak_memory_bytes": position.peak_memory_bytes,
                "trainable_parameters": trained,
                "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                **({"stored_bytes": folder_bytes(self.folder.path / WEIGHTS)} if keep else {}),
                "scoring_seconds": sum(tables.seconds_of(table) for table in scoring if table is not None),
                **self.answer_seconds(position.epoch),
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
