"""What a study would do, and about how long it would take, without doing any of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from byrote.data.split import sizes
from byrote.methods.base import Method
from byrote.registry import Component
from byrote.runner.context import Context
from byrote.runner.controls import control_queries, control_rate
from byrote.runner.in_context import run_of
from byrote.runner.method_run import MethodRun, wanted_of
from byrote.runner.one import COST, EXPERIMENT, Wanted
from byrote.runner.progress import Progress
from byrote.runner.rates import best_rate, next_rate, trial_part
from byrote.runner.study import default_folder
from byrote.runner.weights import WEIGHTS
from byrote.store import Store, Trial
from byrote.study import Study, VariedStudy, load
from byrote.study.fields import Part
from byrote.study.model import CONTROL_MEMBERS, TRAINING_OF, trains
from byrote.study.privacy import PrivacyLevel, label_of
from byrote.types import Query

if TYPE_CHECKING:
    from rich.table import Table


SHADOW = " shadow"
WAITING = ("goes on", "to train", "to score", "to ask")


@dataclass(frozen=True, slots=True)
class Step:
    """One run that a study needs."""

    method: str
    privacy: str
    seed: int
    learning_rate: float | None
    """None for the best of those that are still to be tried; 0 where nothing is trained."""
    run_id: str
    state: str
    """"done", "diverged", "goes on" (it was interrupted), "to train", "to score" (where nothing is trained) or
    "to ask" (something more, of what is kept)."""
    purpose: str
    """"run", "trial" for one rate of `learning_rate: auto`, "shadow 1", "null ..." of wrong labels,
    "shadow ..." of attacks, or "positive control"."""
    seconds: float | None
    """Expected, from runs of the same method and model in the store; None where there are none."""
    point: str = ""
    """Where the study varies something: the values that it is for."""
    shared: bool = False
    """Whether an earlier point makes the same run, so that it is not made again."""

    @property
    def waiting(self) -> bool:
        """Whether it is still to be made."""
        return self.state in WAITING and not self.shared


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of a study in the order in which they are made."""

    name: str
    steps: tuple[Step, ...]

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table

        table = Table(title=self._title(), title_justify="left", show_edge=False, header_style="bold")
        varied = any(step.point for step in self.steps)
        columns = ("method", "privacy", "seed", "learning rate", "for", "run", "state", "about")
        for column in ("point", *columns) if varied else columns:
            table.add_column(column)
        for step in self.steps:
            about = "unknown" if step.seconds is None else f"{step.seconds:.0f} s"
            table.add_row(
                *([step.point] if varied else []),
                step.method,
                step.privacy,
                str(step.seed),
                _rate(step.learning_rate),
                step.purpose,
                step.run_id,
                "with an earlier point" if step.shared and step.state in WAITING else step.state,
                about if step.waiting else "",
            )
        return table

    def _title(self) -> str:
        once = [step for step in self.steps if not step.shared]
        waiting = [step for step in once if step.waiting]
        known = [step.seconds for step in waiting if step.seconds is not None]
        time = f", about {sum(known) / 60:.1f} minutes for the {len(known)} whose speed is known" if known else ""
        points = len({step.point for step in self.steps if step.point})
        varied = f"{points} points, {len(self.steps)} steps in " if points else ""
        return f"{self.name}: {varied}{len(once)} runs, {len(once) - len(waiting)} in the store{time}"


def _rate(rate: float | None) -> str:
    return "the best" if rate is None else f"{rate:g}" if rate else "none"


def plan(
    study: str | Path | Study | VariedStudy,
    out: str | Path | None = None,
    store: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
) -> Plan:
    """The runs that `run` with the same arguments would make. Reads the data; trains, scores and writes nothing."""
    folder = Path()
    if not isinstance(study, Study | VariedStudy):
        study, folder = load(study, list(settings))
    place = Path(out) if out is not None else default_folder(study.name)
    runs = Store(Path(store) if store is not None else place / "runs")
    if isinstance(study, Study):
        return Plan(study.name, tuple(_all_steps(study, folder, runs)))
    steps: list[Step] = []
    for point in study.points:
        earlier = {step.run_id for step in steps} - {""}
        for step in _all_steps(point.study, folder, runs):
            steps.append(replace(step, point=point.label, shared=step.run_id in earlier))
    return Plan(study.name, tuple(steps))


def _all_steps(study: Study, folder: Path, runs: Store) -> Iterator[Step]:
    context = Context(study, folder, runs, Progress())
    context.keeps_splits = False
    data = study.data
    sizes(len(context.data.records), data.members, data.nonmembers, data.validation, data.test)  # are there enough?
    speeds = _seconds_per_epoch(runs, context.model.fingerprint)
    yield from _control_steps(study, context, speeds)
    for cell in study.cells():
        yield from _steps(study, context, speeds, *cell)


def _control_steps(study: Study, context: Context, speeds: dict[str, float]) -> Iterator[Step]:
    """The positive control, where the study wants one."""
    method, seed = study.control(), study.seeds[0]
    if isinstance(method, Method):
        rate = control_rate(study, method)
        run = _run(context, method, "none", seed, rate, "few members")
        per_member = speeds.get(method.name)
        seconds = None if per_member is None else per_member * run.experiment.epochs * CONTROL_MEMBERS
        label = f"{method.name} {method.settings()}".strip()
        state = _state(run, lambda: Wanted(queries=control_queries(context.splits(seed))))
        yield Step(label, "none", seed, rate, run.id, state, "positive control", seconds)


def waiting_cells(study: Study, context: Context) -> list[int]:
    """The numbers, in the study's order, of the cells that something is still to be trained for."""
    return [
        number
        for number, cell in enumerate(study.cells())
        if any(step.state in WAITING for step in _steps(study, context, {}, *cell))
    ]


def _steps(
    study: Study, context: Context, speeds: dict[str, float], method: Component, privacy: PrivacyLevel, seed: int
) -> Iterator[Step]:
    """Those of one cell."""
    assert isinstance(method, Method)
    per_member, epochs = speeds.get(method.name), study.epochs if trains(method) else 1
    seconds = None if per_member is None else per_member * epochs * study.data.members
    of_shadow = speeds.get(method.name + SHADOW, per_member)
    shadow_seconds = None if of_shadow is None else of_shadow * epochs * study.data.members
    numbers = range(1, study.shadows_of(method) + 1)
    label, level = f"{method.name} {method.settings()}".strip(), label_of(privacy)
    rates = study.rates(method, privacy)
    trials: list[Trial] = []
    open_ = False
    while len(rates) > 1 and (rate := next_rate(trials, rates)) is not None:
        if open_ and len(trials) >= len(rates):
            break  # what lies beyond the grid is seen when the grid is done
        run = _run(context, method, privacy, seed, rate, trial_part(privacy))
        trials.append(_trial(run, rate))
        state = _state(run, lambda: Wanted(context.splits(seed).validation))
        open_ |= state in WAITING
        yield Step(label, level, seed, rate, run.id, state, "trial", seconds)
    if open_:
        yield Step(label, level, seed, None, "", "to train", "run", seconds)
        for number in numbers:
            yield Step(label, level, seed, None, "", "to train", f"shadow {number}", shadow_seconds)
    elif not trials or any(trial.validation_loss is not None for trial in trials):
        rate = best_rate(trials) if trials else rates[0]
        run = _run(context, method, privacy, seed, rate, "members")
        state = _state(run, lambda: wanted_of(context, method, seed), lambda: context.lacks_neighbours(seed))
        yield Step(label, level, seed, rate, run.id, state, "run", None if state == "to ask" else seconds)
        for number in numbers:
            run = _run(context, method, privacy, seed, rate, "members", number)
            state = _state(run, lambda: Wanted(queries=[Query(record) for record in context.splits(seed).all()]))
            yield Step(label, level, seed, rate, run.id, state, f"shadow {number}", shadow_seconds)
        for null in study.nulls if study.attacks_of("poisoning") else ():
            run = _run(context, method, privacy, seed, rate, TRAINING_OF[null])
            state = _state(run, lambda: Wanted(context.mislabelled(seed)))
            yield Step(label, level, seed, rate, run.id, state, f"null {null}", seconds)


def _run(
    context: Context,
    method: Method,
    privacy: PrivacyLevel,
    seed: int,
    rate: float,
    part: Part,
    shadow: int | None = None,
) -> MethodRun:
    return run_of(context, context.experiment(method, privacy, seed, rate, part, shadow), method, method.name)


def _trial(run: MethodRun, rate: float) -> Trial:
    """What is known of a rate; no validation loss where it diverged or was not tried yet."""
    validation = run.history().get("validation")
    return Trial(learning_rate=rate, run_id=run.id, validation_loss=validation[-1]["loss"] if validation else None)


def _state(run: MethodRun, wanted: Callable[[], Wanted], lacks: Callable[[], bool] = lambda: False) -> str:
    """What the run would find to do. `lacks`: it will be asked something besides that is not made yet.

    A run without a folder is known without the split that its questions are about.
    """
    if not run.folder.path.is_dir():
        return "to train" if trains(run.method) else "to score"
    state = run.state(wanted())
    if state != "done" or run.asked_no_more or not lacks():
        return state
    return "to train" if trains(run.method) and not run.folder.intact_folder(WEIGHTS) else "to ask"


def _seconds_per_epoch(store: Store, model: str) -> dict[str, float]:
    """Median seconds per member and epoch of the finished runs of a model, training and scoring, by method.

    A shadow is scored at its end alone, so shadows have a speed of their own.
    """
    found: dict[str, list[float]] = {}
    for path in store.root.glob(f"*/{EXPERIMENT}"):
        experiment, cost = _read(path), _read(path.parent / COST)
        if experiment.get("model") == model and "train_seconds" in cost:
            parts = experiment["epochs"] * experiment["data"]["members"]
            shadow = experiment.get("shadow") is not None
            seconds = cost["train_seconds"] + cost["scoring_seconds"] + (cost.get("attack_seconds", 0) if shadow else 0)
            found.setdefault(experiment["method"]["name"] + SHADOW * shadow, []).append(seconds / parts)
    return {method: median(values) for method, values in found.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
