"""What a study would do, and about how long it would take, without doing any of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from byrote.methods.base import Method
from byrote.runner.context import Context
from byrote.runner.one import COST, EXPERIMENT, HISTORY
from byrote.runner.progress import Progress
from byrote.runner.study import default_folder
from byrote.runner.trained import STATE, TrainedRun
from byrote.store import Store
from byrote.study import Study, load_study

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Step:
    """One run that a study needs."""

    method: str
    seed: int
    learning_rate: float
    run_id: str
    state: str
    """"done", "goes on" (it was interrupted) or "to train"."""
    purpose: str
    """"run", or "trial" for one rate of `learning_rate: auto`."""
    seconds: float | None
    """Expected, from runs of the same method and model in the store; None where there are none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of a study in the order in which they are made."""

    study: Study
    steps: tuple[Step, ...]

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table

        waiting = [step for step in self.steps if step.state != "done"]
        known = [step.seconds for step in waiting if step.seconds is not None]
        time = f", about {sum(known) / 60:.1f} minutes for the {len(known)} whose speed is known" if known else ""
        title = f"{self.study.name}: {len(self.steps)} runs, {len(self.steps) - len(waiting)} in the store{time}"
        table = Table(title=title, title_justify="left", show_edge=False, header_style="bold")
        for column in ("method", "seed", "learning rate", "for", "run", "state", "about"):
            table.add_column(column)
        for step in self.steps:
            about = "unknown" if step.seconds is None else f"{step.seconds:.0f} s"
            table.add_row(
                step.method,
                str(step.seed),
                f"{step.learning_rate:g}",
                step.purpose,
                step.run_id,
                step.state,
                "" if step.state == "done" else about,
            )
        return table


def plan(
    study: str | Path | Study,
    out: str | Path | None = None,
    store: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
) -> Plan:
    """The runs that `run` with the same arguments would make. Reads the data; trains and scores nothing."""
    study, folder = (study, Path()) if isinstance(study, Study) else load_study(study, list(settings))
    place = Path(out) if out is not None else default_folder(study.name)
    runs = Store(Path(store) if store is not None else place / "runs")
    context = Context(study, folder, runs, Progress())
    speeds = _seconds_per_epoch(runs, context.model.fingerprint)
    return Plan(study, tuple(_steps(study, context, speeds)))


def _steps(study: Study, context: Context, speeds: dict[str, float]) -> Iterator[Step]:
    for method, privacy, seed in study.cells():
        assert isinstance(method, Method)
        rates = study.rates(method)
        for rate in rates:
            experiment = study.experiment(
                method, privacy, seed, rate, model=context.model.fingerprint, data=context.data.fingerprint
            )
            run = TrainedRun(context, experiment, method, method.name)
            per_member = speeds.get(method.name)
            yield Step(
                method=f"{method.name} {method.settings()}".strip(),
                seed=seed,
                learning_rate=rate,
                run_id=run.id,
                state=_state(run),
                purpose="run" if len(rates) == 1 else "trial",
                seconds=None if per_member is None else per_member * study.epochs * study.data.members,
            )


def _state(run: TrainedRun) -> str:
    if run.folder.intact(HISTORY):
        return "done"
    return "goes on" if (run.folder.path / STATE).exists() else "to train"


def _seconds_per_epoch(store: Store, model: str) -> dict[str, float]:
    """Median seconds per member and epoch of the finished runs of a model, training and scoring, by method."""
    found: dict[str, list[float]] = {}
    for path in store.root.glob(f"*/{EXPERIMENT}"):
        experiment, cost = _read(path), _read(path.parent / COST)
        if experiment.get("model") == model and "train_seconds" in cost:
            parts = experiment["epochs"] * experiment["data"]["members"]
            seconds = (cost["train_seconds"] + cost["scoring_seconds"]) / parts
            found.setdefault(experiment["method"]["name"], []).append(seconds)
    return {method: median(values) for method, values in found.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
