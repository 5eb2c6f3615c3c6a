"""`--jobs`: worker processes train a study's cells, and nothing but the time that it takes is different."""

from __future__ import annotations

import io
import json
import queue
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from byrote.console import LiveProgress, PlainProgress
from byrote.runner import workers
from byrote.runner.progress import Interrupted
from byrote.runner.study import StudyRun, run
from byrote.runner.workers import share_of_threads, work
from byrote.store import Cell, Manifest, Store
from byrote.study import Study
from byrote.types import StudyError
from small_study import Watcher, count_work, differing, facts, study_of

METHODS: list[Any] = [
    "full",
    "lora",
    {"name": "lora", "target_modules": ["nowhere"]},
    {"name": "prompt-tuning", "learning_rate": "auto"},  # trials are a part of their cell
]


@pytest.fixture(scope="module")
def serial(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    """The study of METHODS by one process: its facts, and what was said."""
    out, watcher = tmp_path_factory.mktemp("serial"), Watcher()
    run(study_of(folder, methods=METHODS), out, progress=watcher)
    return facts(out), watcher.said


pytestmark = pytest.mark.usefixtures("quick")


class Listener(Watcher):
    """Calls `when_training` with itself when the first worker says that it trains; remembers who said so."""

    def __init__(self, when_training: Callable[[Listener], None] = lambda listener: None) -> None:
        super().__init__()
        self.when_training, self.trained = when_training, list[str]()

    def start(self, label: str, total: int) -> None:
        """A stretch of work."""
        if label.endswith(": training"):
            self.trained.append(label)
            if len(self.trained) == 1:
                self.when_training(self)


# --- real workers --------------------------------------------------------------------------------


def test_two_workers_give_the_same_bits_and_the_same_failures_as_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: tuple[dict[str, Any], list[str]]
) -> None:
    done, listener = count_work(monkeypatch), Listener()
    results = run(study_of(folder, methods=METHODS), tmp_path, progress=listener, jobs=2)
    assert differing(facts(tmp_path), serial[0]) == []
    assert [cell.settings for cell in results.failed] == ['{"target_modules":["nowhere"]}']
    assert listener.said == serial[1] and len(listener.said) == 1
    # The parent scored the base model, and not one text or step more.
    assert done == {"steps": 0, "texts": 30}
    told = [label for label in listener.trained if "at rate" not in label]
    assert sorted(told) == sorted(f"{method}: training" for method in ("full", "lora", "prompt-tuning") for _ in "ab")
    assert len(Manifest.read(tmp_path).cells[4].tried) >= 4


def test_a_killed_worker_costs_its_cell_in_hand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: tuple[dict[str, Any], list[str]]
) -> None:
    def kill(listener: Listener) -> None:
        method = listener.trained[0].removesuffix(": training")
        victims.extend(worker for worker in given if METHODS[worker.cell or 0] == method)
        victims[0].process.send_signal(signal.SIGKILL)

    given, victims, give = list[workers.Worker](), list[workers.Worker](), workers.Worker.give

    def noted(self: workers.Worker, cell: int) -> None:
        given.append(self)
        give(self, cell)

    monkeypatch.setattr(workers.Worker, "give", noted)
    listener = Listener(kill)
    run(study_of(folder, methods=METHODS, epochs=2), tmp_path, progress=listener, jobs=2)
    assert "a worker was killed by signal 9; its cell is done again at the end" in listener.said
    assert differing(facts(tmp_path), serial[0]) == []
    assert listener.trained.count(listener.trained[0]) >= 3  # by the victim, and twice, an epoch each, by the parent


def test_a_stop_ends_the_workers_and_the_same_study_goes_on(
    folder: Path, tmp_path: Path, serial: tuple[dict[str, Any], list[str]]
) -> None:
    def stop(listener: Listener) -> None:
        listener.stop_requested = True

    study = study_of(folder, methods=METHODS)
    with pytest.raises(Interrupted):
        run(study, tmp_path, progress=Listener(stop), jobs=2)
    rubbish = list(tmp_path.rglob("*.part"))
    assert not rubbish and not (tmp_path / "report.md").exists()
    assert len(Manifest.read(tmp_path).cells) < 1 + len(METHODS)
    for path in (tmp_path / "runs").rglob("state.safetensors"):
        assert Store(tmp_path / "runs").run(path.parent.name).intact(path.name)
    run(study, tmp_path)
    assert differing(facts(tmp_path), serial[0]) == []


# --- workers that are played ---------------------------------------------------------------------


class Played:
    """A worker that answers at once, as `script` says: with a cell, with None (a run is held), or by dying."""

    script: Callable[[int], Cell | None]
    given: list[tuple[int, int]]

    def __init__(self, number: int, task: dict[str, Any], threads: int, inbox: queue.SimpleQueue[Any]) -> None:
        self.number, self.inbox = number, inbox
        self.cell: int | None = None
        self.alive, self.closed = True, False
        assert Study.model_validate(json.loads(json.dumps(task["study"]))).name == "small"

    def give(self, cell: int) -> None:
        assert not self.closed
        self.cell = cell
        self.given.append((self.number, cell))
        try:
            answer = type(self).script(cell)
        except KeyError:
            self.inbox.put((self, None))
            return
        self.inbox.put((self, ["answer", cell, None if answer is None else answer.model_dump(mode="json"), 1]))

    def close(self) -> None:
        if not self.closed:
            self.inbox.put((self, None))
        self.closed = True

    def last_words(self) -> str:
        return "was killed by signal 9"

    def end(self) -> None:
        pass


def answered(number: int, **changes: Any) -> Cell:
    return Cell(method=f"m{number}", family="parameter", seed=0, run_id="r", base_run_id="b").model_copy(update=changes)


@pytest.fixture
def play(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[int], list[tuple[int, int]], list[str]]]:
    """Lets two played workers do four cells: the numbers kept, who was given what, and what was said."""

    def playing(script: Callable[[int], Cell | None], device: str = "cpu") -> Any:
        given, kept, watcher = list[tuple[int, int]](), list[int](), Watcher()
        monkeypatch.setattr(Played, "script", staticmethod(script), raising=False)
        monkeypatch.setattr(Played, "given", given, raising=False)
        monkeypatch.setattr(workers, "Worker", Played)
        study = StudyRun(study_of(folder, methods=METHODS), Path(), tmp_path, Store(tmp_path / "runs"), watcher)
        study.context.device = device
        work(study, 2, lambda number, cell, worked: kept.append(number))
        return kept, given, watcher.said

    return playing


def test_every_cell_is_handed_out_once(play: Any) -> None:
    kept, given, said = play(answered)
    assert sorted(kept) == [0, 1, 2, 3] and given == [(1, 0), (2, 1), (1, 2), (2, 3)] and said == []


def test_a_run_that_another_worker_holds_is_asked_for_again_when_that_one_is_done(play: Any) -> None:
    asked = list[int]()

    def script(number: int) -> Cell | None:
        asked.append(number)
        return None if number == 1 and asked.count(1) < 2 else answered(number)

    kept, _, said = play(script)
    assert sorted(kept) == [0, 1, 2, 3] and asked.count(1) == 2 and said == []


def test_a_run_that_a_stranger_holds_is_left_to_the_parent(play: Any) -> None:
    kept, given, said = play(lambda number: None if number == 3 else answered(number))
    assert sorted(kept) == [0, 1, 2] and given and said == []


def test_what_was_too_much_beside_others_is_left_to_the_parent(play: Any) -> None:
    short = "out of memory with a single record in memory: use a smaller model"
    kept, _, _ = play(lambda n: answered(n, status="failed", error=short if n == 2 else "diverged"))
    assert sorted(kept) == [0, 1, 3]


def test_the_others_do_the_rest_when_a_worker_dies(play: Any) -> None:
    kept, given, said = play(lambda number: {1: answered(1), 2: answered(2), 3: answered(3)}[number])
    assert sorted(kept) == [1, 2, 3] and [worker for worker, _ in given] == [1, 2, 2, 2]
    assert said == ["a worker was killed by signal 9; its cell is done again at the end"]


def test_workers_on_one_gpu_are_warned_about(play: Any) -> None:
    assert play(answered, device="cuda")[2] == [
        "2 workers share one GPU: its memory must hold all of them, and each takes longer"
    ]


def test_workers_that_cannot_start_leave_everything_to_the_parent(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: tuple[dict[str, Any], list[str]]
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f'#!{sys.executable}\nraise SystemExit("no module named byrote")\n')
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    watcher = Watcher()
    run(study_of(folder, methods=METHODS), tmp_path / "out", progress=watcher, jobs=2)
    died = "a worker ended with 1 (no module named byrote); its cell is done again at the end"
    assert [line for line in watcher.said if line not in serial[1]] == [died, died]
    assert differing(facts(tmp_path / "out"), serial[0]) == []


def test_no_worker_starts_where_one_process_is_enough(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "Worker", None)
    assert not run(study_of(folder), tmp_path, jobs=3).failed  # one cell
    watcher = Watcher()
    run(study_of(folder), tmp_path, jobs=3, progress=watcher)
    assert watcher.said == ["Everything was in the store already: nothing was trained and nothing scored."]
    with pytest.raises(StudyError, match="jobs: 0 processes can do nothing"):
        run(study_of(folder), tmp_path, jobs=0)


def test_a_share_of_the_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for jobs, share in ((1, 4), (2, 2), (3, 1), (9, 1)):
            with share_of_threads(jobs):
                assert torch.get_num_threads() == share
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_live_progress_has_a_bar_for_each_worker() -> None:
    screen = io.StringIO()
    progress = LiveProgress(Console(file=screen, force_terminal=True, width=100))
    for number, label in ((1, "full: training"), (2, "lora: training"), (1, "full: scoring epoch 1")):
        progress.worker(number).start(label, 40)
        progress.worker(number).advance(7, "loss 3.1")
        progress.bars.refresh()
    assert [task.description for task in progress.bars.tasks if task.visible] == [
        "study",
        "full: scoring epoch 1",
        "lora: training",
    ]
    progress.finish()
    assert "lora: training" in screen.getvalue()


def test_plain_lines_name_the_worker(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress()
    progress.runs(3, 12)
    progress.worker(2).start("lora: training", 40)
    progress.worker(2).start("lora: scoring epoch 1", 40)
    progress.worker(2).start("lora: training", 40)
    progress.worker(1).start("full: training", 40)
    assert capsys.readouterr().err == "[4/12] worker 2: lora: training\n[4/12] worker 1: full: training\n"
