"""What a study would do, and about how long it would take, without doing any of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from byrote.data.split import sizes
from byrote.methods.base import Method
from byrote.registry import Component
from byrote.runner.context import Context
from byrote.runner.controls import control_queries, control_rate
from byrote.runner.forecast import Forecast
from byrote.runner.in_context import run_of
from byrote.runner.method_run import MethodRun, named, wanted_of
from byrote.runner.one import Wanted
from byrote.runner.progress import Progress
from byrote.runner.rates import best_rate, next_rate, trial_part
from byrote.runner.speeds import Expected, Speeds
from byrote.runner.study import default_folder
from byrote.runner.weights import WEIGHTS
from byrote.store import Store, Trial
from byrote.study import Study, VariedStudy, load
from byrote.study.fields import Part
from byrote.study.model import TRAINING_OF, trains
from byrote.study.privacy import PrivacyLevel, label_of
from byrote.types import Query

if TYPE_CHECKING:
    from rich.table import Table


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
    expected: Expected | None
    """How long it should take, by runs of the same model in the store; None where there are none, or nothing to do."""
    point: str = ""
    """Where the study varies something: the values that it is for."""
    shared: bool = False
    """Whether an earlier point makes the same run, so that it is not made again."""

    @property
    def waiting(self) -> bool:
        """Whether it is still to be made."""
        return self.state in WAITING and not self.shared

    @property
    def seconds(self) -> float | None:
        """Expected; None where that is not known."""
        return None if self.expected is None else self.expected.seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of a study in the order in which they are made."""

    name: str
    steps: tuple[Step, ...]

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table

        table = Table(
            title=self._title(), title_justify="left", caption=self.time(), caption_justify="left", show_edge=False,
            header_style="bold",
        )  # fmt: skip
        varied = any(step.point for step in self.steps)
        columns = ("method", "privacy", "seed", "learning rate", "for", "run", "state", "about")
        for column in ("point", *columns) if varied else columns:
            table.add_column(column)
        for step in self.steps:
            table.add_row(
                *([step.point] if varied else []),
                step.method,
                step.privacy,
                str(step.seed),
                _rate(step.learning_rate),
                step.purpose,
                step.run_id,
                "with an earlier point" if step.shared and step.state in WAITING else step.state,
                _about(step.expected) if step.waiting else "",
            )
        return table

    def in_words(self) -> str:
        """Before the work begins; empty where there is none."""
        return f"{self._title()}. {self.time()}" if any(step.waiting for step in self.steps) else ""

    def _title(self) -> str:
        once = [step for step in self.steps if not step.shared]
        waiting = [step for step in once if step.waiting]
        points = len({step.point for step in self.steps if step.point})
        varied = f"{points} points, {len(self.steps)} steps in " if points else ""
        return f"{self.name}: {varied}{len(once)} runs, {len(once) - len(waiting)} in the store"

    def time(self) -> str:
        """About how long the waiting runs take, and by what that is known; empty where there are none."""
        waiting = [step for step in self.steps if step.waiting]
        known = [step.expected for step in waiting if step.expected is not None]
        if not waiting:
            return ""
        if not known:
            return "How long they take is unknown until the first has ended."
        others = len(waiting) - len(known)
        left = f" for {len(known)} of them (unknown for {others} until a first one has ended)" if others else ""
        borrowed = sum(not one.own for one in known)
        by = f"; * {borrowed} by other methods'" if borrowed else ""
        without = sorted({kind for one in known for kind in one.without})
        but = f" Without {' and '.join(without)}, whose speed is not known." if without else ""
        return (
            f"About {_spelled(sum(one.seconds for one in known))}{left}, by the speed of this model's runs in the "
            f"store{by}.{but}"
        )


def _about(expected: Expected | None) -> str:
    if expected is None:
        return "unknown"
    return f"{expected.seconds:.0f} s{'' if expected.own else '*'}"


def _spelled(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


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
        return Plan(study.name, tuple(_all_steps(_context(study, folder, runs))))
    return Plan(study.name, tuple(_steps_of_points(study, folder, runs)))


def expectation(context: Context) -> str:
    """What running a study will make, and how long that should take, as a sentence; empty where all is there."""
    try:
        return Plan(context.study.name, tuple(_all_steps(context.looking_ahead()))).in_words()
    except Exception:  # whatever is wrong is met again in its cell, and recorded there
        return ""


def expectation_of_points(study: VariedStudy, folder: Path, runs: Store) -> str:
    """The same of a study that varies something."""
    try:
        return Plan(study.name, tuple(_steps_of_points(study, folder, runs))).in_words()
    except Exception:  # of a point, which will fail by itself
        return ""


def _steps_of_points(study: VariedStudy, folder: Path, runs: Store) -> Iterator[Step]:
    known: set[str] = set()
    for point in study.points:
        found = list(_all_steps(_context(point.study, folder, runs)))
        yield from (replace(step, point=point.label, shared=step.run_id in known) for step in found)
        known |= {step.run_id for step in found} - {""}


def _context(study: Study, folder: Path, runs: Store) -> Context:
    return Context(study, folder, runs, Progress()).looking_ahead()


def _all_steps(context: Context) -> Iterator[Step]:
    """Those of a study without axes, in the order in which they are made."""
    data = context.study.data
    sizes(len(context.data.records), data.members, data.nonmembers, data.validation, data.test)  # are there enough?
    forecast = Forecast(context)
    yield from _control_steps(forecast)
    for cell in context.study.cells():
        yield from _steps(forecast, *cell)


def waiting_cells(study: Study, context: Context) -> list[int]:
    """The numbers, in the study's order, of the cells that something is still to be trained for."""
    forecast = Forecast(context, Speeds(()))
    return [
        number
        for number, cell in enumerate(study.cells())
        if any(step.state in WAITING for step in _steps(forecast, *cell))
    ]


def _control_steps(forecast: Forecast) -> Iterator[Step]:
    """The positive control, where the study wants one."""
    context, study = forecast.context, forecast.context.study
    method, seed = study.control(), study.seeds[0]
    if isinstance(method, Method):
        rate = control_rate(study, method)
        run = _run(context, method, "none", seed, rate, "few members")

        def wanted() -> Wanted:
            return Wanted(queries=control_queries(context.splits(seed)))

        yield _step(forecast, (method, "none", seed), rate, run, "positive control", wanted)


def _steps(forecast: Forecast, method: Component, privacy: PrivacyLevel, seed: int) -> Iterator[Step]:
    """Those of one cell."""
    assert isinstance(method, Method)
    context, study, cell = forecast.context, forecast.context.study, (method, privacy, seed)
    rates = study.rates(method, privacy)
    trials: list[Trial] = []
    open_ = False
    while len(rates) > 1 and (tried := next_rate(trials, rates)) is not None:
        if open_ and len(trials) >= len(rates):
            break  # what lies beyond the grid is seen when the grid is done
        run = _run(context, method, privacy, seed, tried, trial_part(privacy))
        trials.append(_trial(run, tried))
        step = _step(forecast, cell, tried, run, "trial", lambda: Wanted(context.splits(seed).validation))
        open_ |= step.state in WAITING
        yield step
    if trials and not open_ and all(trial.validation_loss is None for trial in trials):
        return
    best = best_rate(trials) if trials and not open_ else rates[0]
    rate = None if open_ else best
    run = _run(context, method, privacy, seed, best, "members")
    yield _step(
        forecast,
        cell,
        rate,
        run,
        "run",
        lambda: wanted_of(context, method, seed),
        lambda: context.lacks_neighbours(seed),
    )

    def everything() -> Wanted:
        return Wanted(queries=[Query(record) for record in context.splits(seed).all()])

    for number in range(1, study.shadows_of(method) + 1):
        run = _run(context, method, privacy, seed, best, "members", number)
        yield _step(forecast, cell, rate, run, f"shadow {number}", everything)
    for null in study.nulls if study.attacks_of("poisoning") else ():
        run = _run(context, method, privacy, seed, best, TRAINING_OF[null])
        yield _step(forecast, cell, rate, run, f"null {null}", lambda: Wanted(context.mislabelled(seed)))


def _step(
    forecast: Forecast,
    cell: tuple[Method, PrivacyLevel, int],
    rate: float | None,
    run: MethodRun,
    purpose: str,
    wanted: Callable[[], Wanted],
    lacks: Callable[[], bool] = lambda: False,
) -> Step:
    """One run of a cell; where its rate is still to be found, `run` stands for it."""
    method, privacy, seed = cell
    state = "to train" if rate is None else _state(run, wanted, lacks)
    label, level = named(method), label_of(privacy)
    expected = forecast.of(run, wanted, state, purpose)
    return Step(label, level, seed, rate, "" if rate is None else run.id, state, purpose, expected)


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
