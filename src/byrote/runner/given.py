"""A run of a model that was tuned elsewhere: every record is scored once, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from byrote.methods.bottleneck import know_bottleneck
from byrote.methods.tuned import Tuned
from byrote.objectives.batching import encode
from byrote.runner import tables
from byrote.runner.context import Context, Given
from byrote.runner.method_run import ONCE, MethodRun
from byrote.runner.one import COST, ENVIRONMENT, EXPERIMENT, HISTORY, BaseRun, Wanted, stats_name
from byrote.study import Experiment
from byrote.types import Record, Splits, StudyError, text_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from byrote.target import Target

LONGEST = 2**31
SAME = 1e-5
"""How far apart, in nats, the log-probabilities of one token may lie by one model."""


class TunedRun(MethodRun):
    """The weights that were given, and what they say of every record."""

    def __init__(self, context: Context, experiment: Experiment, method: Tuned, label: str) -> None:
        assert context.given is not None
        self.given: Given = context.given
        # A run is known by the weights themselves, wherever they lie.
        weights = {"name": method.name, "weights": self.given.tuned.fingerprint}
        super().__init__(context, experiment.model_copy(update={"method": weights}), method, label)
        self._own: PreTrainedTokenizerBase | None = None

    @property
    def family(self) -> Literal["parameter", "prompt"]:
        """That of its adapter."""
        return self.given.tuned.family

    @property
    def virtual_tokens(self) -> int:  # type: ignore[override]
        """Those of its adapter."""
        return self.given.tuned.virtual_tokens

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tuned model's own, else the base model's."""
        self._own = self._own or self.given.tuned.tokenizer() or self.context.tokenizer
        return self._own

    def is_done(self, wanted: Wanted) -> bool:
        """Whether the records are scored, everything is answered, and all about the run is kept."""
        whole = all(self.folder.intact(name) for name in (COST, ENVIRONMENT, EXPERIMENT, HISTORY))
        return whole and self.has(ONCE, wanted.records) and self.answered(ONCE, wanted)

    def ensure(self, splits: Splits, wanted: Wanted) -> bool:
        """Score the records where those wanted are not scored, and answer. No weights are kept."""
        if self.is_done(wanted):
            self._refuse_base_itself(splits)
            return False
        with self.folder.locked():
            if self.is_done(wanted):  # by another process, a moment ago
                self._refuse_base_itself(splits)
                return False
            self.start_untrained()
            self._check_tokens(splits.all())
            context = self.context
            know_bottleneck()
            model: Any = self.given.tuned.load(dtype=context.study.dtype, device=context.device)
            target = self.target(model)
            self.check_room(model, target, splits)
            self.check_targets(target, splits)
            if missing := self.missing(ONCE, wanted.records):
                self.score(target, ONCE, missing, self.label)
            self._refuse_base_itself(splits)
            self.ensure_answers(target, ONCE, wanted, self.label)
            self._finish(model, target, splits)
        return True

    def _check_tokens(self, records: Sequence[Record]) -> None:
        """The tuned and the untuned model read the same tokens. Raises StudyError."""
        if not self.context.study.untuned:
            return
        ours, theirs = self.tokenizer, self.context.tokenizer
        if ours is theirs:
            return
        texts = [record.text for record in records]
        pairs = list(zip(records, *(encode(one, texts, LONGEST) for one in (ours, theirs)), strict=True))
        wrong = [record for record, one, other in pairs if one.ids != other.ids]
        if not wrong:  # the same numbers may still stand for other pieces
            used = sorted({token for _, one, _ in pairs for token in one.ids})
            if ours.convert_ids_to_tokens(used) == theirs.convert_ids_to_tokens(used):
                return
            wrong = list(records)
        raise StudyError(
            f"the tuned model and its base read {len(wrong)} of {len(records)} records as other tokens (first "
            f"{wrong[0].where}; {len(ours)} and {len(theirs)} tokens in all), so their probabilities cannot be "
            "compared token by token. Give the base that it was tuned from, or --base none"
        )

    def _refuse_base_itself(self, splits: Splits) -> None:
        """The tuned and the untuned model are two, by what they said of the records. Raises StudyError."""
        context = self.context
        if not context.study.untuned:
            return
        base = BaseRun(context, context.base())
        ours, theirs = self.stats(ONCE), base.stats(0)
        keys = [text_key(record.text) for record in splits.all()]
        pairs = [(ours[key].log_prob, theirs[key].log_prob) for key in keys if key in ours and key in theirs]
        pairs = [(one, other) for one, other in pairs if len(one)]
        if pairs and all(len(a) == len(b) and np.allclose(a, b, rtol=0, atol=SAME) for a, b in pairs):
            raise StudyError(
                f"the tuned model and the base say the same of every text: {context.model.reference} holds what was "
                "tuned, or nothing was tuned. Give the model that it was tuned from, or --base none (base=None)"
            )

    def _finish(self, model: Any, target: Target, splits: Splits) -> None:
        scoring = self.folder.read_table(stats_name(ONCE))
        self.folder.write_json(
            COST,
            {
                "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
                "scoring_seconds": 0.0 if scoring is None else tables.seconds_of(scoring),
                **self.answer_seconds(ONCE),
            },
        )
        self.folder.write_json(
            HISTORY,
            {
                "epochs": ONCE,
                "stopped_early": False,
                "losses": [],
                "validation": [],
                "notes": [*self.given.tuned.notes, *self.cuts(target, splits), *self._unreadable(target, splits)],
            },
        )

    def _unreadable(self, target: Target, splits: Splits) -> list[str]:
        both = splits.members + splits.nonmembers
        empty = sum(1 for example in target.encode(both) if not example.targets)
        return [f"{empty} of {len(both)} members and nonmembers have no token to predict."] if empty else []
