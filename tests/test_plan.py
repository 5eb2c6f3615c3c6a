"""What a plan says of time: by hand from what lies in the store, and what is said where nothing is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from byrote.runner import tables
from byrote.runner.plan import Plan, plan
from byrote.runner.speeds import Expected, Measured, Speeds, Work
from byrote.runner.study import run
from byrote.store import Manifest, RunFolder
from byrote.study import VariedStudy, load
from conftest import make_tokenizer
from small_study import caller, study_of, write_study

UNKNOWN = "How long they take is unknown until the first has ended."


pytestmark = pytest.mark.usefixtures("quick")


def measured(method: str, private: bool, *kinds: tuple[float, float]) -> Measured:
    """A run that did so much of each kind in so many seconds."""
    return Measured(method, private, Work(*(done for done, _ in kinds)), Work(*(seconds for _, seconds in kinds)))


def test_speeds_are_of_the_same_method_and_else_of_others() -> None:
    speeds = Speeds([
        measured("full", False, (100, 10), (1000, 5), (0, 0), (0, 0)),
        measured("full", False, (300, 10), (1000, 15), (0, 0), (0, 0)),
        measured("lora", True, (100, 50), (100, 1), (20, 4), (0, 0)),
        measured("", False, (0, 0), (500, 1), (0, 0), (0, 0)),
    ])  # fmt: skip
    both = Work(trained=1000, read=100)
    # 400 tokens in 20 seconds, and 2,000 in 20: sums of all runs, not means of their speeds.
    assert speeds.expected("full", False, True, both) == Expected(50.0 + 1.0, own=True)
    assert speeds.expected("head", False, True, both) == Expected(50.0 + 1.0, own=False)
    assert speeds.expected("full", True, True, both) == Expected(500.0 + 1.0, own=False)
    assert speeds.expected("full", False, True, Work(written=5, gradients=2)) == Expected(
        1.0, own=False, without=("taking gradients",)
    )
    assert Speeds(speeds.runs[2:]).expected("full", False, True, Work(read=600)) == Expected(2.0, own=False)
    assert speeds.expected("in-context", False, False, Work(read=1)) is None, "it reads demonstrations too"
    assert Speeds(speeds.runs[:2]).expected("full", True, True, both) is None, "privacy is slower"
    assert Speeds(()).expected("full", False, True, both) is None


def run_folder(out: Path, method: str) -> RunFolder:
    manifest = Manifest.read(out)
    return manifest.store(out).run(next(cell.run_id for cell in manifest.cells if cell.method == method))


def test_the_time_of_a_run_is_that_of_its_tokens(folder: Path, tmp_path: Path) -> None:
    generated = {"name": "near-verbatim", "max_new_tokens": 3, "prefix_tokens": 4}
    changes = {"attacks": ["loss", "pac", generated]}
    assert plan(study_of(folder, **changes), tmp_path).time() == UNKNOWN
    run(study_of(folder, **changes), tmp_path)
    assert plan(study_of(folder, **changes), tmp_path).time() == ""
    done = run_folder(tmp_path, "full")
    with done.locked():
        cost = done.read_json("cost.json")
        done.write_json("cost.json", cost | {"train_seconds": 20.0})
    # By hand: what was trained, scored, asked and written in the store, and what is wanted now.
    texts = (folder / "texts.txt").read_text().splitlines()
    length = sum(len(make_tokenizer()(text)["input_ids"]) for text in texts) / len(texts)
    found = [done.read_table(f"stats/epoch-{epoch:04d}.parquet") for epoch in (1, 2)]
    asked, said = (done.read_table(f"{name}/epoch-0002.parquet") for name in ("queries", "generations"))
    assert [len(table) for table in found] == [30, 30] and len(asked) > 20
    per_text = sum(map(tables.seconds_of, (*found, asked))) / (60 + len(asked))
    per_token = tables.seconds_of(said) / sum(map(len, said["tokens"].to_pylist()))
    # A text there had as many tokens as one of the members; here as many as one of the file.
    trained_length = cost["tokens_per_second"] * 20.0 / 20
    reading = per_text * (5 * 30 + len(asked)) * length / trained_length
    training = 5 * 10 * length / cost["tokens_per_second"]
    steps = plan(study_of(folder, methods=["full", "lora"], epochs=5, **changes), tmp_path).steps
    assert steps[0].expected is not None and steps[1].expected is not None
    assert steps[0].seconds == pytest.approx(training + reading + per_token * 20 * 3, rel=1e-3)
    assert steps[0].expected.own and not steps[1].expected.own, "lora is judged by another method"
    assert steps[1].seconds == steps[0].seconds
    said_so = plan(study_of(folder, methods=["full", "lora"], epochs=5, **changes), tmp_path).time()
    total = (steps[0].seconds or 0.0) + (steps[1].seconds or 0.0)
    assert said_so == (
        f"About {total / 60:.1f} minutes, by the speed of this model's runs in the store; * 1 by other methods'."
    )
    # Gradients were never taken, and privacy never tried.
    more = study_of(folder, epochs=5, attacks=["gradient-norm"], privacy=["none", {"epsilon": 8}])
    sentence = plan(more, tmp_path).time()
    assert " for 1 of them (unknown for 1 until a first one has ended)" in sentence
    assert sentence.endswith("Without taking gradients, whose speed is not known.")
    # A run of another machine says nothing of this one.
    for path in (tmp_path / "runs").glob("*/environment.json"):
        path.write_text(path.read_text().replace('"device": "cpu"', '"device": "a fast one"'))
    assert plan(study_of(folder, epochs=5), tmp_path).time() == UNKNOWN


def test_trials_shadows_nulls_and_the_control_are_counted_too(folder: Path, tmp_path: Path) -> None:
    run(study_of(folder), tmp_path)
    many = study_of(
        folder, learning_rate="auto", positive_control=True, attacks=["loss", {"name": "lira", "shadows": 2}]
    )
    steps = {step.purpose: step for step in plan(many, tmp_path).steps}
    assert set(steps) == {"positive control", "trial", "run", "shadow 1", "shadow 2"}
    seconds = {purpose: step.seconds or 0.0 for purpose, step in steps.items()}
    # As many tokens to train; a trial reads the 5 validation records, a shadow besides all 30 at its end.
    assert 0.0 < seconds["trial"] < seconds["shadow 1"] == seconds["shadow 2"] < seconds["run"]
    assert seconds["positive control"] > seconds["run"], "20 epochs of 10 members"


def test_a_run_of_another_version_says_nothing_of_time(folder: Path, tmp_path: Path) -> None:
    run(study_of(folder), tmp_path)
    done = run_folder(tmp_path, "full").path / "experiment.json"
    whole = json.loads(done.read_text())
    for stale in ({"data": {}}, {"method": "full"}, {"epochs": None}, {"no such setting": 1}):
        done.write_text(json.dumps(whole | stale))
        assert plan(study_of(folder, epochs=5), tmp_path).time() == UNKNOWN, stale


def test_a_study_that_varies_something_is_counted_once_where_points_share(folder: Path, tmp_path: Path) -> None:
    vary = {"epochs": [1, 2], "equivalence_margin": [0.05, 0.1]}
    path = write_study(tmp_path / "s.yaml", folder, vary=vary)
    run(study_of(folder, methods=["lora"]), tmp_path)
    found = plan(path, tmp_path)
    assert isinstance(load(path)[0], VariedStudy) and len(found.steps) == 4
    one, _, two, _ = (step.seconds or 0.0 for step in found.steps)
    assert found.time().startswith(f"About {(one + two) / 60:.1f} minutes, by the speed")
    assert found._title() == "small: 4 points, 4 steps in 2 runs, 0 in the store"


def test_long_times_are_told_in_hours(folder: Path, tmp_path: Path) -> None:
    (step,) = plan(study_of(folder), tmp_path).steps
    assert step.expected is None
    slow = Plan(
        "s", tuple([type(step)("full", "none", 0, 1.0, "x", "to train", "run", Expected(7200.0, own=True))] * 2)
    )
    assert slow.time() == "About 4.0 hours, by the speed of this model's runs in the store."


def test_a_run_says_first_what_it_will_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    byrote = caller(capsys, "run")
    path = write_study(tmp_path / "s.yaml", folder)
    assert byrote(path)[2].startswith(f"small: 1 runs, 0 in the store. {UNKNOWN}\n")
    assert "in the store." not in byrote(path)[2], "there is nothing to do"
    dry = byrote(path, "--dry-run", "--set", "methods=[full, lora]")[1]
    assert "small: 2 runs, 1 in the store" in dry and "About 0.0 minutes" in dry
    said = byrote(path, "--set", "methods=[full, lora]")[2]
    assert said.startswith("small: 2 runs, 1 in the store. About 0.0 minutes, by the speed of this model's runs")
    varied = write_study(tmp_path / "v.yaml", folder, vary={"epochs": [2, 3], "data": [{}, {"source": "gone.txt"}]})
    assert byrote(varied, "--out", "v")[0] == 1, "one that cannot be planned is still run"
    fine = write_study(tmp_path / "w.yaml", folder, vary={"epochs": [2, 3]})
    assert byrote(fine, "--out", "w")[2].startswith("small: 2 points, 2 steps in 2 runs, 0 in the store. How long")
