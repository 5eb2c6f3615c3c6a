"""A run that was killed, interrupted or damaged, and is then run again, ends with the same numbers, bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from byrote.console import watching
from byrote.runner.progress import Interrupted, Progress
from byrote.runner.study import run
from byrote.store import RunFolder, Store
from byrote.target import Target
from byrote.training.loop import Training
from small_study import STEPS, count_work, differing, facts, make_folder, run_facts_of, study_of, write_study

HERE = Path(__file__).parent


class Killed(BaseException):
    """What no handler of byrote catches, as a kill would be."""


@pytest.fixture
def save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "due_for_saving", property(lambda self: True))


@pytest.fixture(autouse=True)
def other_random_numbers(request: pytest.FixtureRequest) -> None:
    """Whatever torch drew before must not matter."""
    torch.manual_seed(hash(request.node.name) % 2**32)


def hooked(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, before: Callable[[], None]) -> None:
    """Call `before` ahead of every call of a function."""
    function = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        before()
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


# --- kills ---------------------------------------------------------------------------------------


def test_a_kill_at_any_moment_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    # What a kill leaves is what lies on the disk: so one run, and a copy of its folder at every moment.
    monkeypatch.setattr("byrote.store._flush", lambda path: None)
    monkeypatch.setattr("byrote.report.write.report_html", lambda results, show_text=False: "")
    study = study_of(folder, attacks=["reference"], batch_size=5, keep="all")
    out, copies = tmp_path / "whole", tmp_path / "copies"
    copies.mkdir()
    with monkeypatch.context() as patch:
        before: set[tuple[Path, int]] = set()
        begun = 0

        def copy() -> None:
            nonlocal before
            now = {(path, path.stat().st_mtime_ns) for path in out.rglob("*")}
            if now != before:
                shutil.copytree(out, copies / f"{len(os.listdir(copies)):04d}-{begun}")
            before = now

        def copy_before_step() -> None:
            nonlocal begun
            copy()
            begun += 1

        for owner, name in ((os, "replace"), (os, "rename"), (shutil, "rmtree"), (RunFolder, "remove")):
            hooked(patch, owner, name, copy)
        hooked(patch, Target, "_score", copy)
        hooked(patch, Training, "_step", copy_before_step)
        whole = run_facts_of(study, out)
    moments = sorted(copies.iterdir())
    assert len(moments) > 50 and begun == 4
    work = count_work(monkeypatch)
    for left in moments:
        work["steps"] = 0
        assert differing(run_facts_of(study, left), whole) == [], f"killed at moment {left.name} of {len(moments)}"
        assert work["steps"] <= 4 - int(left.name.split("-")[1]) + 1, "more was lost than the step in hand"
        rubbish = [*left.rglob("*.part"), *left.rglob("state.safetensors")]
        assert not rubbish, f"left of a kill at moment {left.name}: {rubbish}"


def test_one_run_killed_many_times_gets_through_with_the_same_numbers(tmp_path: Path) -> None:
    make_folder(tmp_path)
    command = [sys.executable, str(HERE / "kill_points.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["kills"] >= 5
    assert differing(facts(tmp_path / "chain"), facts(tmp_path / "whole")) == []


METHODS: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "head"},
    {"name": "lora", "lora_dropout": 0.2},
    {"name": "prompt-tuning"},
    {"name": "prefix-tuning"},
    {"name": "p-tuning"},
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method["name"]))
def test_resume_in_the_middle_of_an_epoch_is_bitwise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None, method: dict[str, Any]
) -> None:
    study = study_of(folder, methods=[method], keep="all")
    whole = run_facts_of(study, tmp_path / "whole")
    kill_in_step(monkeypatch, study, tmp_path / "cut", 5)  # 3 steps an epoch: the second of epoch 2
    assert differing(run_facts_of(study, tmp_path / "cut"), whole) == []


def kill_in_step(monkeypatch: pytest.MonkeyPatch, study: Any, out: Path, number: int) -> None:
    """Run a study that dies when its step of this number begins."""
    steps = iter(range(1, 10**6))

    def kill() -> None:
        if next(steps) == number:
            raise Killed

    with monkeypatch.context() as patch:
        hooked(patch, Training, "_step", kill)
        with pytest.raises(Killed):
            run(study, out)


def test_a_lost_random_state_would_be_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    study = study_of(folder, methods=[{"name": "lora", "lora_dropout": 0.2}])
    whole = run_facts_of(study, tmp_path / "whole")
    kill_in_step(monkeypatch, study, tmp_path / "cut", 5)
    monkeypatch.setattr("byrote.training.state.set_random_state", lambda state: None)
    assert "scores" in differing(run_facts_of(study, tmp_path / "cut"), whole)


def test_early_stop_and_cut_epochs_survive_a_kill(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    for name, changes, step in (
        ("early", {"epochs": 6, "early_stop": 1, "learning_rate": 0.1}, 5),
        ("steps", {"epochs": 6, "max_steps": 8}, 7),
    ):
        study = study_of(folder, **changes)
        whole = run_facts_of(study, tmp_path / name)
        kill_in_step(monkeypatch, study, tmp_path / f"{name}-cut", step)
        assert differing(run_facts_of(study, tmp_path / f"{name}-cut"), whole) == []
        trained = next(value for key, value in whole.items() if key.endswith("/training") and value)
        assert trained["stopped_early"] == (name == "early")
        assert trained["epochs"] < 6
        assert name != "steps" or (len(trained["losses"]), trained["epochs"]) == (8, 3)


def test_a_trial_cut_short_is_no_half_scored_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    # A trial is scored on the validation records alone; then the person gives its rate, and wants all records.
    whole = run_facts_of(study_of(folder, learning_rate=1e-5), tmp_path / "whole")
    kill_in_step(monkeypatch, study_of(folder, learning_rate="auto"), tmp_path / "cut", 5)
    assert differing(run_facts_of(study_of(folder, learning_rate=1e-5), tmp_path / "cut"), whole) == []


# --- damage --------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_any_damaged_file_is_made_again_and_nothing_else_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byrote.store._flush", lambda path: None)
    study = study_of(folder, methods=["lora"])
    out = tmp_path / "out"
    whole = run_facts_of(study, out)
    files = [path for path in sorted((out / "runs").rglob("*")) if path.is_file() and path.name != ".lock"]
    assert len(files) > 15
    for number, path in enumerate(files):
        (flip, truncate, Path.unlink)[number % 3](path)
        assert differing(run_facts_of(study, out), whole) == [], path.relative_to(out)


def test_a_damaged_score_table_costs_no_forward_pass(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(folder)
    whole = run_facts_of(study, tmp_path)
    for path in (tmp_path / "runs").rglob("scores.parquet"):
        flip(path)
    monkeypatch.setattr(Target, "token_stats", None)
    monkeypatch.setattr(Training, "run", None)
    assert differing(run_facts_of(study, tmp_path), whole) == []


def test_a_state_without_its_earlier_epochs_starts_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    study = study_of(folder)
    whole = run_facts_of(study, tmp_path / "whole")
    kill_in_step(monkeypatch, study, tmp_path / "cut", 5)
    (damaged,) = [
        path.parent / "stats" / "epoch-0001.parquet" for path in (tmp_path / "cut").rglob("state.safetensors")
    ]
    flip(damaged)
    assert differing(run_facts_of(study, tmp_path / "cut"), whole) == []


def write_as_if_trained_with_an_old_torch(run_folder: RunFolder) -> None:
    environment = run_folder.read_json("environment.json")
    run_folder.write_json("environment.json", environment | {"versions": environment["versions"] | {"torch": "1.0"}})


def test_a_half_finished_run_does_not_go_on_under_other_libraries(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    study = study_of(folder)
    whole = run_facts_of(study, tmp_path / "whole")
    kill_in_step(monkeypatch, study, tmp_path / "cut", 5)
    (state,) = (tmp_path / "cut").rglob("state.safetensors")
    write_as_if_trained_with_an_old_torch(Store(state.parents[1]).run(state.parent.name))
    said: list[str] = []
    progress = Progress()
    monkeypatch.setattr(progress, "say", said.append)
    run(study, tmp_path / "cut", progress=progress)
    assert any(line.startswith("full: starts again, because the libraries changed (torch 1.0 → ") for line in said)
    assert differing(facts(tmp_path / "cut"), whole) == []


def test_every_training_of_a_private_run_is_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every_step: None
) -> None:
    """Each showed the same records: their epsilons add up, also where the last one was interrupted."""
    study = study_of(folder, privacy={"epsilon": 8}, keep="all")

    def times_trained() -> list[str]:
        run(study, tmp_path)
        return [note.partition(", because")[0] for note in run_folder.read_json("training.json")["notes"]]

    kill_in_step(monkeypatch, study, tmp_path, 5)
    (state,) = tmp_path.rglob("state.safetensors")
    run_folder = Store(state.parents[1]).run(state.parent.name)
    assert times_trained() == []
    shutil.rmtree(run_folder.path / "weights")
    kill_in_step(monkeypatch, study, tmp_path, 5)
    assert times_trained() == ["This run was trained 2 times"]
    shutil.rmtree(run_folder.path / "weights")
    write_as_if_trained_with_an_old_torch(run_folder)
    assert times_trained() == ["This run was trained 3 times"]


# --- interrupts ----------------------------------------------------------------------------------


def test_a_stop_keeps_the_step_in_hand(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is due for saving here: the stop itself saves.
    study = study_of(folder, methods=["full", "lora"])
    whole = run_facts_of(study, tmp_path / "whole")
    work = count_work(monkeypatch)
    for stop_after in (5, 6, 10):
        progress = Progress()

        def step(progress: Progress = progress, stop_after: int = stop_after) -> None:
            progress.stop_requested = work["steps"] == stop_after - 1

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            hooked(patch, Training, "_step", step)
            run(study, tmp_path / "cut", progress=progress)
        assert work["steps"] == stop_after
    assert differing(run_facts_of(study, tmp_path / "cut"), whole) == []
    assert work["steps"] == 2 * STEPS  # no step was done twice


def test_the_first_sigint_asks_and_the_second_stops(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    with pytest.raises(KeyboardInterrupt), watching() as progress:
        os.kill(os.getpid(), signal.SIGINT)
        assert progress.stop_requested
        assert capsys.readouterr().err == "stopping after the step in hand; once more stops at once\n"
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second did not stop")
    assert signal.getsignal(signal.SIGINT) is before


def test_sigint_ends_with_130_and_the_same_command_goes_on(folder: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.yaml", folder, epochs=8)
    command = [sys.executable, "-m", "byrote.cli", "run", str(path), "--out", str(tmp_path / "cut")]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as here: with more, sums differ in their last bits
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "full: training" in line:
                process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait() == 130
    *_, stopping, interrupted = lines
    assert stopping == "stopping after the step in hand; once more stops at once\n"
    kept = "Everything finished so far is kept: the same command goes on from there."
    assert interrupted == f"byrote: interrupted. {kept}\n"
    (state,) = (tmp_path / "cut").rglob("state.safetensors")
    assert Store(state.parents[1]).run(state.parent.name).intact(state.name)
    run(path, tmp_path / "cut")
    run(path, tmp_path / "whole")
    assert differing(facts(tmp_path / "cut"), facts(tmp_path / "whole")) == []
