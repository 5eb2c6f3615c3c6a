"""Trackers: nothing without being asked, the same numbers as the rows, and offline unless the user says otherwise."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from byrote.registry import discover
from byrote.report.exposed import keep_texts
from byrote.report.results import Results
from byrote.report.write import write_report
from byrote.runner.progress import Progress
from byrote.runner.tracking import SECRET, SENT, check, report_to, tracked_runs
from byrote.study import Study
from byrote.trackers.base import Tracked, Tracker
from byrote.trackers.mlflow import MLflow
from byrote.trackers.tensorboard import TensorBoard
from byrote.trackers.trackio import Trackio
from byrote.trackers.wandb import WandB
from byrote.types import Record, StudyError
from report_folder import build, pick
from small_study import caller, leave_out_what_is_slow, make_folder, settings, write_study

TRACKERS = sorted(discover("tracker"))


class Kept(Tracker):
    """Remembers what it was given."""

    name: ClassVar[str] = "kept"
    package: ClassVar[str] = "json"
    batches: ClassVar[list[list[Tracked]]] = []

    def place(self, folder: Path) -> str:
        return os.environ.get("KEPT", "memory")

    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        self.batches.append(list(runs))


class Broken(Kept):
    name: ClassVar[str] = "broken"

    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        raise ConnectionError("no route\nto host")


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tracked")
    build(place, methods=("full", "lora"), attacks=("loss", "reference"), epochs=2, members=60, test=30,
          failed=("lora",))  # fmt: skip
    write_report(Results.read(place), place)
    return place


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What trackers set by default lasts for a test alone."""
    Kept.batches.clear()
    for name in [name for name in os.environ if name.startswith(("WANDB", "MLFLOW", "TRACKIO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_what_is_sent_are_the_numbers_of_the_rows(folder: Path) -> None:
    results = Results.read(folder)
    run, whole = tracked_runs(results, folder)
    row = pick(results, "auc", name="reference", method="full", epoch=1)
    assert run.name == "full, seed 0" and run.series[1]["membership/reference.auc"] == row.value
    assert run.series[1]["membership/reference.auc.low"] == row.low
    last = pick(results, "perplexity", method="full", epoch=2)
    assert run.final["utility/perplexity"] == last.value and run.final["utility/perplexity.high"] == last.high
    assert run.final["cost/train_seconds"] == pick(results, "seconds", name="training", method="full").value
    training = results.evidence.pieces[row.run_id].training
    losses = [one["loss"] for one in training["losses"] if one["epoch"] == 1 and one["loss"] is not None]
    assert run.series[1]["loss/train"] == pytest.approx(sum(losses) / len(losses))
    assert run.settings["method"] == "full" and run.settings["epochs"] == "2" and run.settings["byrote"] == "0.1.0"
    assert [file.name for file in whole.files] == ["report.html", "report.md", "results.csv"]


def test_what_was_sent_is_not_sent_again(folder: Path) -> None:
    (folder / SENT).unlink(missing_ok=True)
    results, told = Results.read(folder), Told()
    report_to([Kept()], results, folder, told)
    report_to([Kept()], results, folder, told)
    assert [len(batch) for batch in Kept.batches] == [2] and told.lines == [
        "Sent to kept: memory", "kept already has these results: memory",
    ]  # fmt: skip
    with (folder / "results.csv").open("a") as file:
        file.write("\n")
    report_to([Kept()], results, folder, told)
    assert [run.name for run in Kept.batches[1]] == ["report"]
    os.environ["KEPT"] = "https://me:secret@elsewhere"
    report_to([Kept()], results, folder, told)
    assert [len(batch) for batch in Kept.batches] == [2, 1, 2], "another place has none of them"
    assert "secret" not in (folder / SENT).read_text()


def test_files_that_are_not_whole_end_no_finished_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, told = Results.read(folder), Told()
    for pieces in results.evidence.pieces.values():
        pieces.cost["peak_memory_bytes"] = None  # type: ignore[assignment]
    for text in ('{"kept": []}', "[1]", "{", '{"kept": {"a": 1}}'):
        (folder / SENT).write_text(text)
        report_to([Kept()], results, folder, told)
    assert set(told.lines) == {"Sent to kept: memory"} and "cost/peak_memory_bytes" not in Kept.batches[0][0].final
    monkeypatch.setattr("byrote.runner.tracking.tracked_runs", lambda *given: [][0])
    report_to([Kept()], results, folder, told)
    assert told.lines[-1].startswith("Nothing was sent to a tracker (IndexError: list index out of range)")


def test_texts_of_records_are_sent_to_nobody(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), epochs=1, members=30, test=10)
    ids = Results.read(tmp_path).evidence.part(0, "member").records
    keep_texts(Results.read(tmp_path), tmp_path, [[Record(id_, f"secret of {id_}") for id_ in ids]])
    results, sent = Results.read(tmp_path), {}

    class Reader(Kept):
        def send(self, runs: Sequence[Tracked], folder: Path) -> None:
            sent.update({file.name: file.read_text(encoding="utf-8") for file in runs[-1].files})
            super().send(runs, folder)

    write_report(results, tmp_path, show_text=True)
    assert "secret of" in (tmp_path / "report.html").read_text(encoding="utf-8")
    report_to([Reader()], results, tmp_path, Told(), show_text=True)
    assert sorted(sent) == ["report.html", "report.md", "results.csv"]
    assert not [name for name, text in sent.items() if "secret of" in text]
    write_report(results, tmp_path)
    report_to([Reader()], results, tmp_path, Told())
    assert len(Kept.batches) == 1, "the page without texts is what was sent"


def test_a_tracker_that_fails_costs_nothing_else(folder: Path) -> None:
    (folder / SENT).unlink(missing_ok=True)
    told = Told()
    report_to([Broken(), Kept()], Results.read(folder), folder, told)
    assert told.lines[0].startswith("broken could not take the results (ConnectionError: no route to host)")
    assert len(Kept.batches) == 1 and "kept" in (folder / SENT).read_text() and len(told.lines) == 2


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_told_before_anything_is_trained(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byrote.trackers.base.find_spec", lambda package: None)
    monkeypatch.setattr("byrote.runner.study.StudyRun.do", lambda self, jobs: pytest.fail("it was run"))
    path = write_study(tmp_path / "s.yaml", make_folder(tmp_path))
    code, out, err = caller(capsys)("run", path, "--out", tmp_path / "o", "--report-to", name)
    package = discover("tracker")[name].package  # type: ignore[attr-defined]
    assert (code, out) == (2, "") and err.endswith(f"not installed here: pip install {package}\n")


def test_no_tracker_s_package_is_imported_unasked(folder: Path) -> None:
    assert TRACKERS == ["mlflow", "tensorboard", "trackio", "wandb"]
    report_to([], Results.read(folder), folder, Progress())
    assert not {"mlflow", "wandb", "trackio", "tensorboard"} & set(sys.modules)


def test_report_to_changes_no_run(tmp_path: Path) -> None:
    raw = settings(make_folder(tmp_path))
    ids = set()
    for named in ("none", [], None, "wandb", ["mlflow", "tensorboard"]):
        study = Study.model_validate({**raw, "report_to": named})
        method, privacy, seed = next(study.cells())
        ids.add(study.experiment(method, privacy, seed, 1e-3, model="m", data="d").model_dump_json())
        assert [one.name for one in study.report_to] == (
            [] if named in ("none", None) else [named] if isinstance(named, str) else named
        )
    assert len(ids) == 1
    with pytest.raises(ValueError, match=r"unknown tracker 'wanb'\. Did you mean 'wandb'\?"):
        Study.model_validate({**raw, "report_to": "wanb"})


def test_a_run_reports_when_it_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    monkeypatch.setattr(TensorBoard, "check", lambda self: None)
    monkeypatch.setattr(TensorBoard, "send", lambda self, runs, folder: Kept().send(runs, folder))
    monkeypatch.setattr(TensorBoard, "place", lambda self, folder: "memory")
    path = write_study(tmp_path / "s.yaml", make_folder(tmp_path), epochs=1)
    byrote = caller(capsys)
    code, _, err = byrote("run", path, "--out", tmp_path / "o", "--report-to", "tensorboard")
    assert code == 0 and "Sent to tensorboard: memory" in err
    assert [run.name for run in Kept.batches[0]] == ["full, seed 0", "report"]
    code, _, err = byrote("run", path, "--out", tmp_path / "o")
    assert code == 0 and "Sent" not in err and len(Kept.batches) == 1
    assert check([]) == []


# --- what each tracker does, with stand-ins ------------------------------------------------------

RUN = Tracked("a/b", "full, seed 0", "0123456789abcdef", {"method": "full"}, {1: {"x/y.auc": 0.5}, 2: {"x/y.auc": 0.6}},
              {"utility/p": 3.0})  # fmt: skip


class Spy:
    """Takes any call, and remembers it."""

    def __init__(self, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], name: str = "") -> None:
        self.calls, self.name = calls, name

    def __getattr__(self, name: str) -> Spy:
        return Spy(self.calls, f"{self.name}.{name}".strip("."))

    def __call__(self, *given: Any, **named: Any) -> Spy:
        self.calls.append((self.name, given, named))
        return self


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for name in ("wandb", "trackio"):
        module = types.ModuleType(name)
        module.__getattr__ = Spy(found).__getattr__  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_wandb_is_offline_unless_the_environment_says_otherwise(
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], tmp_path: Path
) -> None:
    assert "offline" in WandB().place(tmp_path)
    WandB().send([RUN], tmp_path)
    named = {name: (given, more) for name, given, more in calls}
    assert named["init"][1]["mode"] == "offline" and named["init"][1]["dir"] == str(tmp_path)
    assert named["init"][1]["project"] == "a-b" and named["init"][1]["id"] == RUN.id
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    logged = [(given[0], more["step"]) for name, given, more in calls if name == "init.log"]
    assert logged == [({"x/y.auc": 0.5}, 1), ({"x/y.auc": 0.6}, 2)]
    os.environ["WANDB_MODE"] = "online"
    calls.clear()
    assert WandB().place(tmp_path) == "wandb.ai"
    WandB().send([RUN], tmp_path)
    assert calls[1][2]["mode"] == "online" or calls[0][2].get("mode") == "online"


def test_places_are_told_apart_by_what_the_environment_says(tmp_path: Path) -> None:
    for tracker, names in (
        (MLflow(), ["MLFLOW_TRACKING_URI"]),
        (WandB(), ["WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY"]),
        (Trackio(), ["TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"]),
    ):
        places = [tracker.place(tmp_path)]
        for name in names:
            os.environ[name] = "online" if name == "WANDB_MODE" else f"my-{name}"
            places.append(tracker.place(tmp_path))
        assert len(set(places)) == len(names) + 1, places
    assert TensorBoard().place(tmp_path).startswith(str(tmp_path))


@pytest.mark.parametrize("address", ["sqlite:///mlflow.db", "mlruns"])
def test_a_path_is_another_place_in_another_working_folder(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    places = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        places.append(MLflow().place(tmp_path))
        assert str(tmp_path / name) in places[-1]
    assert len(set(places)) == 2
    for elsewhere in ("http://host:5000", "databricks", f"sqlite:///{tmp_path.as_posix()}/a.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
        assert MLflow().place(tmp_path) == elsewhere


def test_a_password_in_an_address_is_not_told() -> None:
    assert SECRET.sub("://", "https://me:secret@host/x") == "https://host/x"
    assert SECRET.sub("://", "sqlite:////a/b@c/mlflow.db") == "sqlite:////a/b@c/mlflow.db"


def test_trackio_is_given_no_place_elsewhere(
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], tmp_path: Path
) -> None:
    assert Trackio().place(tmp_path) == "trackio's folder on this machine (trackio show)"
    Trackio().send([RUN], tmp_path)
    (init,) = [more for name, _, more in calls if name == "init"]
    assert not {"space_id", "server_url", "dataset_id", "bucket_id"} & set(init)
    os.environ["TRACKIO_SPACE_ID"] = "me/space"
    assert Trackio().place(tmp_path) == "me/space"


# --- the real ones, where they are installed -----------------------------------------------------


def test_tensorboard_keeps_the_numbers(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, whole = tracked_runs(Results.read(folder), folder)
    for _ in range(2):  # sent again, it is written anew
        TensorBoard().send([run, whole], tmp_path)
    places = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert places == [f"full-seed-0-{run.id[:8]}", f"report-{whole.id[:8]}"]
    found = EventAccumulator(str(tmp_path / "tensorboard" / places[0]))
    found.Reload()
    scalars = [(one.step, one.value) for one in found.Scalars("membership/reference.auc")]
    assert [step for step, _ in scalars] == [1, 2]
    assert [value for _, value in scalars] == pytest.approx([run.series[e]["membership/reference.auc"] for e in (1, 2)])
    assert found.Scalars("final/utility/perplexity.low")[0].value == pytest.approx(run.final["utility/perplexity.low"])


@pytest.mark.filterwarnings("ignore")  # what its own packages warn of each other
def test_mlflow_keeps_the_numbers_on_this_machine(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    run, whole = tracked_runs(Results.read(folder), folder)
    for _ in range(2):
        MLflow().send([run, whole], tmp_path)
    address = MLflow().place(tmp_path)
    assert address.startswith("sqlite:///") and str(tmp_path) in address and os.environ["MLFLOW_DISABLE_TELEMETRY"]
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    kept = client.search_runs([experiment.experiment_id])
    assert sorted(one.info.run_name or "" for one in kept) == ["full, seed 0", "report"]
    (one,) = [one for one in kept if one.info.run_name != "report"]
    assert one.data.metrics["final/utility/perplexity"] == pytest.approx(run.final["utility/perplexity"])
    series = client.get_metric_history(one.info.run_id, "membership/reference.auc")
    assert [(m.step, m.value) for m in series] == [(e, run.series[e]["membership/reference.auc"]) for e in (1, 2)]
    assert one.data.params["method"] == "full"
    assert list((tmp_path / "mlflow-artifacts").rglob("report.html"))


def test_who_is_not_installed_is_told() -> None:
    class Nowhere(Kept):
        name: ClassVar[str] = "nowhere"
        package: ClassVar[str] = "no_such_package_at_all"

    with pytest.raises(StudyError, match="pip install no_such_package_at_all"):
        check([Nowhere()])
