"""How fast the finished runs of a store were, and how long others should so take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from byrote.runner.environment import describe
from byrote.runner.one import COST, ENVIRONMENT, EXPERIMENT
from byrote.store import Store
from byrote.study import Experiment
from byrote.study.model import CONTROL_MEMBERS

NEWEST = 8
"""Runs of one method whose files are looked into: the machine may have been another, or busy, before."""


class Work(NamedTuple):
    """What a run takes, by its kinds."""

    trained: float = 0.0
    """Tokens, those of every epoch."""
    read: float = 0.0
    """Tokens of texts that are scored or asked about after training has done with them."""
    written: float = 0.0
    """Tokens that are generated, were each text as long as it may be."""
    gradients: float = 0.0
    """Records whose gradients are taken."""


KINDS = {"trained": "training", "read": "scoring", "written": "generating", "gradients": "taking gradients"}


@dataclass(frozen=True, slots=True)
class Expected:
    """How long a run should take."""

    seconds: float
    own: bool
    """Whether runs of the same method were measured; else those of others."""
    without: tuple[str, ...] = ()
    """Kinds of its work whose speed is not known, and which are not counted."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one finished run did of each kind, and in how many seconds."""

    method: str
    """Empty for the untuned model."""
    private: bool
    done: Work
    seconds: Work


class Speeds:
    """Those of the finished runs of one model on one device, at one precision."""

    def __init__(self, runs: Iterable[Measured]) -> None:
        self.runs = list(runs)

    def expected(self, method: str, private: bool, trains: bool, work: Work) -> Expected | None:
        """By runs of the same method, else of any other; None where training, or all else, has no known speed.

        Private and other training have nothing to say of each other, nor others of a method that trains nothing.
        """
        own = [one for one in self.runs if one.method == method and one.private == private]
        others = [one for one in self.runs if one.method and one.private == private] if trains else []
        anyone = self.runs if trains else []  # the untuned model too
        found, without, of_own = 0.0, [], True
        for at, (kind, name) in enumerate(KINDS.items()):
            if not work[at]:
                continue
            rates = [_rate(at, runs) for runs in ((own, others) if kind == "trained" else (own, others, anyone))]
            rate = next((one for one in rates if one is not None), None)
            if rate is None and kind in ("trained", "read"):
                return None
            found += (rate or 0.0) * work[at]
            of_own &= rate is None or rates[0] is not None
            without += [name] if rate is None else []
        return Expected(found, of_own, tuple(without))


def _rate(kind: int, runs: Iterable[Measured]) -> float | None:
    """Seconds for one, over all these runs together."""
    known = [(one.seconds[kind], one.done[kind]) for one in runs if one.done[kind]]
    return sum(seconds for seconds, _ in known) / sum(done for _, done in known) if known else None


def read_speeds(store: Store, model: str, dtype: str, device: str, tokens: Callable[[], float]) -> Speeds:
    """Of the newest finished runs; `tokens` says how many a text is taken to have where nothing says more."""
    here = ""
    by_method: dict[tuple[str, bool], list[tuple[float, Path, dict[str, Any]]]] = {}
    for path in store.root.glob(f"*/{EXPERIMENT}"):
        experiment, cost = read_object(path), path.parent / COST
        if experiment.get("model") == model and experiment.get("dtype") == dtype and cost.exists():
            here = here or str(describe(device)["device"])
            if read_object(path.parent / ENVIRONMENT).get("device") == here:
                method = experiment.get("method")
                name = method.get("name", "") if isinstance(method, dict) else ""
                key = (name, experiment.get("privacy", "none") != "none")
                by_method.setdefault(key, []).append((cost.stat().st_mtime, path.parent, experiment))
    newest = {key: sorted(found, key=lambda one: one[0])[-NEWEST:] for key, found in by_method.items()}
    runs = (_measured(*key, one[1], one[2], tokens()) for key, found in newest.items() for one in found)
    return Speeds(run for run in runs if run is not None)


def _measured(method: str, private: bool, folder: Path, experiment: dict[str, Any], usual: float) -> Measured | None:
    """None where the run is of another version, or its files cannot be read as what they should be."""
    try:
        return _read_run(method, private, folder, experiment, usual)
    except (TypeError, ValueError, LookupError):
        return None


def _read_run(method: str, private: bool, folder: Path, experiment: dict[str, Any], usual: float) -> Measured:
    cost = read_object(folder / COST)
    training = float(cost.get("train_seconds", 0.0))
    trained = training * float(cost.get("tokens_per_second", 0.0))
    records = records_trained(Experiment.model_validate(experiment)) if trained else 0
    tokens = trained / records if records else usual
    texts, reading = _sums(_rows(folder, ("stats", "queries")))
    written, writing = _sums(_leaves(folder, "generations", "tokens"))
    norms, taking = _sums(_rows(folder, ("gradients",)))
    return Measured(
        method, private, Work(trained, texts * tokens, written, norms), Work(training, reading, writing, taking)
    )


def records_trained(experiment: Experiment, test: int = 0) -> int:
    """In all epochs together, each time counted. `test` is how many test records there are, where that is known."""
    few = {"few members": min(CONTROL_MEMBERS, experiment.members), "test": test or experiment.data["test"] or 0}
    records = experiment.epochs * few.get(experiment.trains_on, experiment.members)
    return records if experiment.max_steps is None else min(records, experiment.max_steps * experiment.batch_size)


def _rows(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[float, float]]:
    """Rows of the tables in these folders, and the seconds that they took."""
    for path in (path for name in names for path in folder.glob(f"{name}/*.parquet")):
        about = _about(path)
        if about is not None:
            yield float(about.num_rows), _seconds(about)


def _leaves(folder: Path, name: str, column: str) -> Iterator[tuple[float, float]]:
    """Numbers in the lists of a column, and the seconds that the tables took."""
    for path in folder.glob(f"{name}/*.parquet"):
        about = _about(path)
        if about is not None:
            groups = [about.row_group(at) for at in range(about.num_row_groups)]
            chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
            yield sum(one.num_values for one in chunks if one.path_in_schema.split(".")[0] == column), _seconds(about)


def _about(path: Path) -> Any | None:
    """What a table says of itself, without reading it; None where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return None


def _seconds(about: Any) -> float:
    return float((about.metadata or {}).get(b"seconds", b"0"))


def _sums(parts: Iterator[tuple[float, float]]) -> tuple[float, float]:
    found = list(parts)
    return sum(done for done, _ in found), sum(seconds for _, seconds in found)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
