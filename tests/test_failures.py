"""Failures stay where they are: a diverging rate, a refusing method, a full memory, a locked run."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from byrote.data.split import split
from byrote.methods.base import NotForThisModel
from byrote.methods.full import Full
from byrote.methods.lora import LoRA
from byrote.runner.rates import beyond
from byrote.runner.study import run
from byrote.runner.trained import TrainedRun
from byrote.store import Manifest, Store, Trial
from byrote.training.loop import Training
from byrote.types import Record, Splits, StudyError
from conftest import make_texts
from small_study import (
    ALL,
    STEPS,
    Watcher,
    differing,
    facts,
    make_folder,
    run_facts,
    run_facts_of,
    run_ids,
    study_of,
)

pytestmark = pytest.mark.usefixtures("quick")


# --- learning_rate: auto -------------------------------------------------------------------------


def grid(monkeypatch: pytest.MonkeyPatch, *rates: float, more: int = 0) -> None:
    monkeypatch.setattr(Full, "learning_rates", rates)
    monkeypatch.setattr("byrote.runner.rates.BEYOND", more)


def test_auto_looks_beyond_the_edge_of_its_grid_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid(monkeypatch, 1e-6, 1e-5, more=2)  # far too low: each higher rate is better
    run(study_of(folder, learning_rate="auto"), tmp_path)
    cell = Manifest.read(tmp_path).cells[1]
    assert [trial.learning_rate for trial in cell.tried] == [1e-6, 1e-5, 1e-4, 1e-3]
    assert cell.learning_rate == 1e-3 and "is the highest one tried" in cell.notes[0]


def test_the_next_rate_beyond_an_edge() -> None:
    def tried(*losses: float | None) -> list[Trial]:
        rates = (1e-3, 4e-3, 8e-3)
        return [Trial(learning_rate=r, run_id="", validation_loss=x) for r, x in zip(rates, losses, strict=True)]

    assert beyond(tried(3.0, 2.0, 1.0)) == 1.6e-2
    assert beyond(tried(1.0, 2.0, 3.0)) == 2.5e-4
    assert beyond(tried(3.0, 1.0, 2.0)) is None
    assert beyond(tried(3.0, 1.0, None)) is None  # what lies beyond diverged already
    assert beyond(tried(None, None, None)) is None and beyond(tried(1.0, 2.0, 3.0)[:1]) is None


def test_auto_takes_the_rate_with_the_lowest_validation_loss(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: dict[str, int]
) -> None:
    grid(monkeypatch, 1e-5, 3e-3, 1e-2)
    study = study_of(folder, learning_rate="auto", methods=["full", {"name": "lora", "learning_rate": 1e-3}])
    found = run_facts_of(study, tmp_path)
    assert work["steps"] == (3 + 1 + 1) * STEPS  # the best rate again, to score all records; lora's rate was given
    full, lora = Manifest.read(tmp_path).cells[1:]
    assert [trial.learning_rate for trial in full.tried] == [1e-5, 3e-3, 1e-2] and lora.tried == []
    losses = [trial.validation_loss for trial in full.tried]
    assert None not in losses and len(set(losses)) == 3
    best = min(full.tried, key=lambda trial: trial.validation_loss or math.inf)
    assert (full.learning_rate, full.run_id) == (best.learning_rate, best.run_id)
    assert (lora.learning_rate, lora.notes) == (1e-3, [])
    edge = full.learning_rate in (1e-5, 1e-2)
    assert any("one beyond it may do better" in note for note in full.notes) == edge
    # The losses are those of the validation records after the last epoch, and of nothing else.
    for trial in full.tried:
        table = run_facts(Store(tmp_path / "runs"), trial.run_id)["stats/epoch-0002.parquet"]
        keys = validation_keys(tmp_path)
        tokens = [p for key, row in zip(table["text_key"], table["log_prob"], strict=True) if key in keys for p in row]
        assert trial.validation_loss == pytest.approx(-sum(tokens) / len(tokens), abs=1e-6)
        assert len(table["text_key"]) == (ALL if trial is best else 5)
    work.update(steps=0, texts=0)
    assert differing(run_facts_of(study, tmp_path), found) == []
    assert work == {"steps": 0, "texts": 0}
    # The rate it chose, given by hand, gives the same run with the same bits.
    given = run_facts_of(study_of(folder, learning_rate=full.learning_rate), tmp_path / "given")
    assert {name: found[name] for name in found if name.startswith(full.run_id)} == {
        name: given[name] for name in given if name.startswith(full.run_id)
    }


def validation_keys(out: Path) -> set[str]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(out / "splits.parquet").to_pydict()
    return {key for key, split in zip(table["text_key"], table["split"], strict=True) if split == "validation"}


def poison(monkeypatch: pytest.MonkeyPatch, diverges: Callable[[Training], bool], last_step: bool) -> None:
    """Runs of some rates diverge: their loss becomes NaN, or only their weights after the last step."""
    step, backward = Training._step, Training._backward

    def poisoned_backward(self: Training, indices: list[int]) -> float:
        loss = backward(self, indices)
        return math.nan if diverges(self) and not last_step else loss

    def poisoned_step(self: Training, *arguments: Any) -> None:
        step(self, *arguments)
        if diverges(self) and last_step and self.finished():
            with torch.no_grad():
                for parameter in self.parameters.values():
                    parameter.fill_(math.inf)

    monkeypatch.setattr(Training, "_backward", poisoned_backward)
    monkeypatch.setattr(Training, "_step", poisoned_step)


@pytest.mark.parametrize("last_step", [False, True])
def test_a_rate_that_diverges_is_out_and_stays_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: dict[str, int], last_step: bool
) -> None:
    grid(monkeypatch, 1e-5, 1e-3, 0.5)
    poison(monkeypatch, lambda training: training.plan.learning_rate == 0.5, last_step)
    found = run_facts_of(study_of(folder, learning_rate="auto"), tmp_path)
    cell = Manifest.read(tmp_path).cells[1]
    assert [trial.validation_loss is None for trial in cell.tried] == [False, False, True]
    assert cell.tried[2].error.startswith("training diverged: the ") and cell.learning_rate in (1e-5, 1e-3)
    assert not list(tmp_path.rglob("state.safetensors"))
    work.update(steps=0, texts=0)
    watcher = Watcher()
    run(study_of(folder, learning_rate="auto"), tmp_path, progress=watcher)
    assert work == {"steps": 0, "texts": 0} and len(watcher.said) == 1
    assert differing(facts(tmp_path), found) == []


def test_a_method_whose_every_rate_diverges_fails_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid(monkeypatch, 1e-3, 0.5)
    poison(monkeypatch, lambda training: len(training.parameters) > 10, False)  # full, not lora
    results = run(study_of(folder, learning_rate="auto", methods=["full", "lora"], epochs=1), tmp_path)
    assert [(cell.method, cell.status) for cell in results.manifest.cells[1:]] == [("full", "failed"), ("lora", "done")]
    assert results.failed[0].error.startswith("no learning rate worked; at 0.001: training diverged")
    given = run(study_of(folder, epochs=1), tmp_path / "given")
    assert given.failed[0].error.startswith("training diverged: the loss was nan at step 1")
    assert given.failed[0].error.endswith("Use a lower learning_rate, or auto.")


def test_any_other_failure_of_a_trial_is_the_cells(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid(monkeypatch, 1e-5, 1e-3)
    study, calls = study_of(folder, learning_rate="auto", epochs=1), itertools.count()
    ensure = TrainedRun.ensure

    def full_disk(self: TrainedRun, *arguments: Any, **options: Any) -> bool:
        if next(calls) == 1:
            raise StudyError("cannot write x: No space left on device")
        return ensure(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TrainedRun, "ensure", full_disk)
        assert run(study, tmp_path).failed[0].error == "cannot write x: No space left on device"
    assert not run(study, tmp_path).failed


# --- failures ------------------------------------------------------------------------------------


def test_one_failure_stays_one_failure(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attach = LoRA.attach

    def refuses(self: LoRA, model: Any) -> Any:
        if self.r == 1:
            raise NotForThisModel("lora: not for this model")
        if self.r == 2:
            raise RuntimeError("the\nshapes differ")
        if self.r == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return attach(self, model)

    monkeypatch.setattr(LoRA, "attach", refuses)
    methods: list[Any] = [{"name": "lora", "r": r} for r in (1, 2, 3, 4)]
    methods.append({"name": "lora", "target_modules": ["nowhere"]})  # PEFT's own refusal
    methods.append({"name": "prompt-tuning", "num_virtual_tokens": 60})  # the model has 64 positions
    watcher = Watcher()
    results = run(study_of(folder, methods=methods, epochs=1), tmp_path, progress=watcher)
    errors = {cell.settings: cell.error for cell in results.failed}
    assert errors.pop('{"r":1}') == "lora: not for this model"
    assert errors.pop('{"r":2}') == "RuntimeError: the shapes differ (a fault of byrote, see errors.txt)"
    assert errors.pop('{"r":3}').startswith("out of memory: use a smaller model")
    assert "PEFT refuses LORA on llama models: Target modules" in errors.pop('{"target_modules":["nowhere"]}')
    assert "do not fit the model's 64 positions. Set max_length: 4." in errors.popitem()[1] and not errors
    assert "Traceback" in (tmp_path / "errors.txt").read_text()
    done = [cell for cell in results.manifest.cells if cell.status == "done"]
    assert [cell.settings for cell in done] == ["", '{"r":4}'] and not any(
        "in the store" in line for line in watcher.said
    )
    assert sum("failed: " in line for line in watcher.said) == 5
    report = (tmp_path / "report.md").read_text()
    assert "the shapes differ" in report and "not for this model" in report
    monkeypatch.undo()
    again = run(study_of(folder, methods=methods, epochs=1), tmp_path)
    assert len(again.failed) == 2 and not (tmp_path / "errors.txt").exists()


def test_a_study_of_nothing_but_failures_still_reports(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Full, "attach", lambda self, model: 1 / 0)
    results = run(study_of(folder), tmp_path)
    assert results.failed[0].error == "ZeroDivisionError: division by zero (a fault of byrote, see errors.txt)"
    assert {row.method for row in results.rows} == {"none"}
    assert "division by zero" in (tmp_path / "report.md").read_text()


def test_a_locked_run_fails_and_says_so(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, methods=["full", "lora"], epochs=1)
    run(study, tmp_path / "once")
    run_id = run_ids(tmp_path / "once")["full 0"]
    with Store(tmp_path / "runs").run(run_id).locked():
        results = run(study, tmp_path)
    assert [cell.method for cell in results.failed] == ["full"]
    assert results.failed[0].error.startswith(f"run {run_id} is locked: another byrote process is working on")
    assert differing(run_facts_of(study, tmp_path), facts(tmp_path / "once")) == []


def test_a_run_finished_elsewhere_while_waiting_is_not_done_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: dict[str, int]
) -> None:
    study = study_of(folder, epochs=1)
    run(study, tmp_path)
    work.update(steps=0, texts=0)
    is_done, answers = TrainedRun.is_done, iter([False])
    monkeypatch.setattr(TrainedRun, "is_done", lambda self, *a, **o: next(answers, is_done(self, *a, **o)))
    run(study, tmp_path)
    assert work == {"steps": 0, "texts": 0}


def test_texts_without_a_token_to_predict(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = [f"w{number}" for number in range(60)]
    make_folder(tmp_path, make_texts(60, 3, 6, 20) + short[:20])
    results = run(study_of(tmp_path, data={"near_duplicates": 1.0}, epochs=1), tmp_path / "out")
    notes = results.manifest.cells[1].notes
    assert any("have no token to train on and were left out" in note for note in notes)
    make_folder(tmp_path, short)
    error = run(study_of(tmp_path, data={"near_duplicates": 1.0}), tmp_path / "out").failed[0].error
    assert error.startswith("none of the 10 members has a token to predict: each text is shorter than two tokens")

    def no_validation(*arguments: Any, **options: Any) -> Splits:
        drawn = split(*arguments, **options)
        return dataclasses.replace(drawn, validation=(Record("short", "w1"),))

    monkeypatch.setattr("byrote.runner.context.split", no_validation)
    error = run(study_of(folder), tmp_path / "out").failed[0].error
    assert error.startswith("none of the 1 validation records has a token to predict")


# --- memory --------------------------------------------------------------------------------------


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, size: int) -> list[int]:
    """Batches of more than `size` records do not fit; the sizes that were tried."""
    import byrote.training.losses as losses

    loss, sizes = losses.TextLoss.__call__, []

    def limited(self: Any, indices: Any) -> torch.Tensor:
        sizes.append(len(indices))
        if len(indices) > size:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return loss(self, indices)

    monkeypatch.setattr(losses.TextLoss, "__call__", limited)
    return sizes


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    study = study_of(folder, keep="all", batch_size=8, learning_rate=1e-3)
    run(study, tmp_path / "whole")
    with monkeypatch.context() as patch:
        sizes = out_of_memory_above(patch, 3)
        results = run(study, tmp_path / "halved")
    assert sizes[:3] == [8, 4, 2] and set(sizes[2:]) <= {1, 2}
    assert results.manifest.cells[1].notes == ["Memory allowed 2 records at a time."]
    weights = [load_file(next((tmp_path / name).rglob("model.safetensors"))) for name in ("whole", "halved")]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=1e-5)


def test_out_of_memory_with_one_record_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(monkeypatch, 0)
    error = run(study_of(folder), tmp_path).failed[0].error
    assert error.startswith("out of memory with a single record in memory: use a smaller model")
