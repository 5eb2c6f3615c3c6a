"""Whether private training would be right: the self-test of every method and privacy level, without any training.

Each cell is prepared by the functions that a run prepares it with, up to its first step. The store is not touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from byrote.methods.base import Method
from byrote.runner.context import Context
from byrote.runner.in_context import run_of
from byrote.runner.method_run import MethodRun
from byrote.runner.private_runs import Tested, promised, tested_engine
from byrote.runner.progress import Progress
from byrote.store import Store
from byrote.study import Study, load_study
from byrote.study.model import NOT_IN_A_RUN
from byrote.study.privacy import Privacy, PrivacyLevel, label_of
from byrote.types import ByroteError, Splits

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from byrote.target import Target

NOT_PRIVATE, REFUSED = "not private", "refused"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a run of one method at one privacy level would meet before its first step."""

    method: str
    privacy: str
    verdict: str
    """"works", "falls to <engine>", "refused" or "not private"."""
    engine: str = ""
    noise_multiplier: float | None = None
    steps: int | None = None
    delta: float | None = None
    reason: str = ""
    """Why the cell is refused, or why faster engines are."""


@dataclass(frozen=True, slots=True)
class Examination:
    """All cells of a study, methods in the order written."""

    study: Study
    found: tuple[Diagnosis, ...]

    @property
    def refused(self) -> tuple[Diagnosis, ...]:
        """The cells that `byrote run` could not train."""
        return tuple(one for one in self.found if one.verdict == REFUSED)

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table

        private = [one for one in self.found if one.privacy != "none"]
        title = f"{self.study.name}: {len(private)} private cells, {len(self.refused)} refused; nothing was trained"
        table = Table(title=title, title_justify="left", show_edge=False, header_style="bold")
        for column in ("method", "privacy", "verdict", "engine", "noise", "steps", "delta", "reason"):
            table.add_column(column, no_wrap=column not in ("method", "reason"))
        for one in self.found:
            table.add_row(
                one.method,
                one.privacy,
                one.verdict,
                one.engine,
                "" if one.noise_multiplier is None else f"{one.noise_multiplier:.3g}",
                "" if one.steps is None else str(one.steps),
                "" if one.delta is None else f"{one.delta:.2g}",
                one.reason,
            )
        return table


def examine(
    study: str | Path | Study, *, settings: Sequence[str] = (), progress: Progress | None = None
) -> Examination:
    """Self-test every method at every privacy level of a study, on the split of its first seed.

    Raises StudyError where the study cannot be run at all.
    """
    study, folder = (study, Path()) if isinstance(study, Study) else load_study(study, list(settings))
    progress = progress or Progress()
    with tempfile.TemporaryDirectory() as nowhere:  # where a context keeps its split
        context = Context(study, folder, Store(Path(nowhere)), progress)
        splits = context.splits(study.seeds[0])
        found: list[Diagnosis] = []
        for method in study.methods:
            assert isinstance(method, Method)
            progress.start(f"{method.name}: self-test", len(study.privacy))
            found += _Cells(context, method, splits).diagnoses()
        progress.finish()
    return Examination(study, tuple(found))


class _Cells:
    """One method at every privacy level."""

    def __init__(self, context: Context, method: Method, splits: Splits) -> None:
        self.context, self.method, self.splits = context, method, splits
        settings = method.model_copy(update=NOT_IN_A_RUN).settings()
        self.label = f"{method.name} {settings}".strip()
        self.tested: dict[str, Tested] = {}

    def diagnoses(self) -> list[Diagnosis]:
        """One per level. What keeps the method off the model refuses every level, also those without privacy."""
        from byrote.training.cost import seeded

        levels = self.context.study.levels(self.method)
        try:
            with seeded(0):  # where adapters start does not matter here
                model = self.method.attach(self.context.load_model().model).model
            run = self._run("none")
            target = run.target(model)
            run.check_room(model, target, self.splits)
            run.check_targets(target, self.splits)
        except Exception as error:
            return [Diagnosis(self.label, label_of(level), REFUSED, reason=_said(error)) for level in levels]
        return [self._diagnosis(level, number, model, target) for number, level in enumerate(levels, 1)]

    def _run(self, privacy: PrivacyLevel) -> MethodRun:
        study, context = self.context.study, self.context
        rate = study.rates(self.method)[0]
        experiment = context.experiment(self.method, privacy, study.seeds[0], rate)
        return run_of(context, experiment, self.method, self.label)

    def _diagnosis(self, level: PrivacyLevel, number: int, model: nn.Module, target: Target) -> Diagnosis:
        progress = self.context.progress
        progress.check()
        found = Diagnosis(self.label, label_of(level), NOT_PRIVATE, reason="nothing to test")
        if level != "none":
            found = self._private(replace(found, verdict=REFUSED, reason=""), level, model, target)
        progress.advance(number)
        return found

    def _private(self, found: Diagnosis, privacy: Privacy, model: nn.Module, target: Target) -> Diagnosis:
        from byrote.training.accounting import delta_warning

        try:
            run = self._run(privacy)
            members = run.records(self.splits)
            usable = [at for at, one in enumerate(target.encode(members)) if one.targets]
            guarantee, _ = promised(run.experiment, privacy, [members[at] for at in usable])
            found = replace(
                found, noise_multiplier=guarantee.noise_multiplier, steps=guarantee.steps, delta=guarantee.delta
            )
            tested = self._self_test(privacy, model, target)
        except Exception as error:
            return replace(found, reason=_said(error))
        engine, warning = tested.engine.name, delta_warning(guarantee.delta, guarantee.units)
        verdict = f"falls to {engine}" if tested.refused else "works"
        reasons = [*tested.refused, *([warning] if warning else [])]
        return replace(found, verdict=verdict, engine=engine, reason="; ".join(reasons))

    def _self_test(self, privacy: Privacy, model: nn.Module, target: Target) -> Tested:
        """Levels that differ in nothing but how much noise they need share one."""
        from byrote.training.losses import example_loss
        from byrote.training.state import trainable

        key = privacy.model_copy(update={"epsilon": None, "noise_multiplier": None, "delta": None}).model_dump_json()
        if key not in self.tested:
            public = target.encode(self.splits.validation)
            # A run's loss is over its members; here no gradient of theirs is taken, so any example will do.
            one = [example for example in public if example.targets][:1]
            loss = example_loss(target.decoder, one, target.pad_token_id, self.context.device)
            self.tested[key] = tested_engine(privacy, loss, trainable(model), public)
        return self.tested[key]


def _said(error: Exception) -> str:
    """In words; an unforeseen fault of one cell leaves the others their table."""
    said = " ".join(str(error).split())[:500]
    return said if isinstance(error, ByroteError) else f"{type(error).__name__}: {said}"
