"""Two studies on one store: what both need is trained once, one after the other or at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from byrote.report.axes import VariedResults
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.store import Manifest, Store
from byrote.training.loop import Training
from small_study import STEPS, count_work, run_ids, study_of, write_study

NUMBERS = ("value", "low", "high", "null_value")
HERE = Path(__file__).parent


pytestmark = pytest.mark.usefixtures("quick")


def same(ours: Results | VariedResults, theirs: Results | VariedResults) -> bool:
    """Whether all rows but those of the clock are equal, numbers to rounding: the untuned model may have scored the
    same texts in other company."""
    found = [[row for row in one.rows if row.kind != "cost"] for one in (ours, theirs)]
    words = [[replace(row, **dict.fromkeys(NUMBERS)) for row in rows] for rows in found]
    each = [[getattr(row, name) for row in rows for name in NUMBERS] for rows in found]
    values = [[1e9 if value is None else value for value in one] for one in each]
    assert found[0]
    return words[0] == words[1] and values[0] == pytest.approx(values[1], rel=1e-4)


def test_what_another_study_trained_is_not_trained_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study_of(folder, methods=["full", "lora"], attacks=["loss"], seeds=[0, 1])
    second = study_of(
        folder, name="another", methods=["full", "head"], attacks=["reference", "loss"], seeds=[1, 2],
        equivalence_margin=0.1,
    )  # fmt: skip
    work = count_work(monkeypatch)
    alone = run(second, tmp_path / "alone")
    assert work["steps"] == 4 * STEPS
    run(first, tmp_path / "first", tmp_path / "runs")
    work["steps"] = 0
    shared = run(second, tmp_path / "second", tmp_path / "runs")
    assert work["steps"] == 3 * STEPS, "full of seed 1 was there"
    ours, theirs = run_ids(tmp_path / "first"), run_ids(tmp_path / "second")
    assert {name for name in ours if ours[name] == theirs.get(name)} == {"none 1", "full 1"}
    assert not shared.failed and same(shared, alone)


def test_two_varied_studies_share_points(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_study(tmp_path / "a.yaml", folder, vary={"epochs": [1, 2]}, methods=["full", "lora"])
    second = write_study(
        tmp_path / "b.yaml", folder, name="another", vary={"epochs": [2, 3], "data.test": [5, 6]}, methods=["full"]
    )
    work = count_work(monkeypatch)
    alone = run(second, tmp_path / "alone")
    assert work["steps"] == 2 * (2 + 3) * 3
    run(first, tmp_path / "first", tmp_path / "runs")
    work["steps"] = 0
    shared = run(second, tmp_path / "second", tmp_path / "runs")
    assert work["steps"] == 2 * (2 + 3) * 3 - STEPS, "full of two epochs on the same split was there"
    assert not shared.failed and same(shared, alone)


def test_two_processes_train_what_they_share_once(folder: Path, tmp_path: Path) -> None:
    first = write_study(tmp_path / "a.yaml", folder, methods=["full", "head"], vary={"epochs": [2, 3]})
    second = write_study(tmp_path / "b.yaml", folder, name="another", methods=["head", "full"], vary={"epochs": [3, 4]})
    words = [sys.executable, str(HERE / "store_sharers.py"), str(first), str(second), str(tmp_path)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=one_thread, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    steps = Counter((tmp_path / "steps").read_text().split())
    # 4 runs of the one, 4 of the other, of which two are shared: each has as many steps as it has batches.
    assert sorted(steps.values()) == [6, 6, 9, 9, 12, 12]
    apart = run(second, tmp_path / "apart")
    assert same(run(second, tmp_path / "out1", tmp_path / "runs"), apart)


def test_what_another_process_holds_comes_last(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(folder, methods=["full", "lora"])
    whole = run(study, tmp_path / "whole")
    held = Store(tmp_path / "runs").run(run_ids(tmp_path / "whole")["full 0"]).locked()
    held.__enter__()
    let_go, step = iter([True]), Training._step

    def until_others_train(self: Training, *arguments: Any) -> None:
        if next(let_go, False):
            held.__exit__(None, None, None)
        step(self, *arguments)

    monkeypatch.setattr(Training, "_step", until_others_train)
    results = run(study, tmp_path)
    assert not results.failed and same(results, whole)
    assert [cell.method for cell in Manifest.read(tmp_path).cells] == ["none", "full", "lora"]
