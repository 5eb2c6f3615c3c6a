"""`vary`: what a study expands to, and that its points are ordinary studies over one store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byrote.methods.full import Full
from byrote.methods.lora import LoRA
from byrote.plants.duplicates import Duplicates
from byrote.report.axes import POINT_COLUMNS, AxesManifest, VariedResults
from byrote.report.axes_page import axes_markdown
from byrote.report.axes_tables import Overview
from byrote.report.rows import COLUMNS
from byrote.runner.plan import plan
from byrote.runner.progress import Interrupted
from byrote.runner.study import run
from byrote.study import Study, VariedStudy, load, load_study
from byrote.types import StudyError
from small_study import (
    Watcher,
    caller,
    count_work,
    differing,
    facts,
    leave_out_what_is_slow,
    settings,
    write_study,
)

GOOD = """\
name: tickets
model: builtin:tiny
data:
  source: tickets.jsonl
  text: ticket
  members: 100
methods:
  - full
  - {name: lora, r: 16}
plants:
  - {name: duplicates, copies: [2], members: 10}
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., VariedStudy]:
    """Reads GOOD with more lines."""

    def read(vary: str, *assigned: str) -> VariedStudy:
        (tmp_path / "s.yaml").write_text(GOOD + vary)
        study, folder = load(tmp_path / "s.yaml", assigned)
        assert folder == tmp_path and isinstance(study, VariedStudy)
        return study

    return read


# --- expansion -----------------------------------------------------------------------------------


def test_points_are_every_combination_in_the_order_written(read: Callable[..., VariedStudy]) -> None:
    study = read("vary:\n  model: [builtin:tiny, 'a/b']\n  epochs: [1, 3]\n")
    assert [(point.study.model, point.study.epochs) for point in study.points] == [
        ("builtin:tiny", 1), ("builtin:tiny", 3), ("a/b", 1), ("a/b", 3)
    ]  # fmt: skip
    assert [point.label for point in study.points][1:3] == ["model tiny, epochs 3", "model a/b, epochs 1"]
    assert [point.folder for point in study.points][1:3] == ["model=tiny,epochs=3", "model=a-b,epochs=1"]
    assert [point.study.name for point in study.points][2] == "tickets: model a-b, epochs 1"
    assert (study.name, study.points[0].values) == ("tickets", {"model": "builtin:tiny", "epochs": 1})
    assert all(point.study.data.members == 100 and len(point.study.methods) == 2 for point in study.points)


def test_data_is_laid_over_the_study_s_own(read: Callable[..., VariedStudy]) -> None:
    study = read("vary:\n  data: [{}, {source: more.csv, text: body}]\n  data.members: [50, 60]\n")
    found = [(p.study.data.source, p.study.data.text, p.study.data.members) for p in study.points]
    ours, theirs = ("tickets.jsonl", "ticket"), ("more.csv", "body")
    assert found == [(*ours, 50), (*ours, 60), (*theirs, 50), (*theirs, 60)]
    assert study.points[3].folder == "data=more.csv-text-body,data.members=60"


def test_a_field_of_methods_multiplies_those_that_have_it_inside_each_point(read: Callable[..., VariedStudy]) -> None:
    study = read("vary: {method.r: [4, 8], epochs: [1, 2], method.lora_alpha: [1, 2]}\n")
    ranks = [LoRA(r=r, lora_alpha=alpha) for r in (4, 8) for alpha in (1, 2)]
    assert [point.study.methods for point in study.points] == [[Full(), *ranks]] * 2
    alone = read("vary: {method.r: [4, 8]}\n")
    assert [(point.label, point.folder, point.study.name) for point in alone.points] == [("all", "all", "tickets")]


def test_a_field_of_a_plant_makes_points(read: Callable[..., VariedStudy]) -> None:
    study = read("vary: {plants.duplicates.copies: [[4], [2, 8]]}\n")
    assert [p.study.plants for p in study.points] == [[Duplicates(copies=(c), members=10)] for c in ([4], [2, 8])]
    assert [p.folder for p in study.points] == ["plants.duplicates.copies=4", "plants.duplicates.copies=2-8"]


def test_settings_reach_what_is_varied_and_can_end_it(read: Callable[..., VariedStudy], tmp_path: Path) -> None:
    study = read("vary: {data.members: [50, 60]}\n", "vary.data.members=[70]", "vary.epochs=[4, 5]", "max_length=9")
    assert [(p.study.data.members, p.study.epochs, p.study.max_length) for p in study.points] == [
        (70, 4, 9),
        (70, 5, 9),
    ]
    for vary in ("vary={}", "vary=null"):
        alone, _ = load(tmp_path / "s.yaml", [vary])
        assert alone == load_study(tmp_path / "s.yaml", [vary])[0] and isinstance(alone, Study)
    with pytest.raises(StudyError, match=r"varies data\.members: here give one point"):
        load_study(tmp_path / "s.yaml")


def test_a_folder_hangs_on_its_own_point_alone_and_is_never_two_points(read: Callable[..., VariedStudy]) -> None:
    few, more = (read(f"vary: {{model: [{models}]}}\n") for models in ("a/b", "x, a/b"))
    assert few.points[0].folder == more.points[1].folder
    alike = [point.folder for point in read("vary: {model: [a/b, a-b, A-B, 'builtin:tiny', tiny]}\n").points]
    assert len({name.casefold() for name in alike}) == 5
    long = [point.folder for point in read(f"vary: {{model: [{'m' * 300}1, {'m' * 300}2]}}\n").points]
    assert len(set(long)) == 2 and max(map(len, long)) <= 100


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ("varry: {epochs: [1]}", "line 12: unknown key 'varry'. Did you mean 'vary'?"),
        ("vary: [epochs]", "line 12: vary: must be a mapping of fields to lists of values, not ['epochs']"),
        ("vary:\n  epochz: [1]", "line 13: vary: unknown field 'epochz'. Did you mean 'epochs'?"),
        ("vary:\n  data.member: [1]", "line 13: vary: unknown field 'data.member'. Did you mean 'data.members'?"),
        ("vary: {lr: [1]}", "line 12: vary: unknown field 'lr': byrote calls it 'learning_rate'."),
        ("vary: {model.size: [1]}", "line 12: vary: unknown field 'model.size'."),
        ("vary: {method.rr: [1]}", "line 12: vary: no method of this study has the field 'rr'. Did you mean 'r'?"),
        ("vary: {plants.duplicate.copies: [1]}",
         "line 12: vary: the study lists no 'duplicate' under plants. Did you mean 'duplicates'?"),
        ("vary: {plants.duplicates.copy: [1]}",
         "line 12: vary: duplicates has no field 'copy'. Did you mean 'copies'?"),
        ("vary: {attacks.loss.k: [1]}", "line 12: vary: the study lists no 'loss' under attacks."),
        ("vary: {seeds: [1, 2]}", "line 12: vary: seeds cannot be varied: give them as a list: seeds: [0, 1, 2]"),
        ("vary: {name: [a, b]}", "line 12: vary: name cannot be varied: a point is named by its values"),
        ("vary: {methods: [full]}", "line 12: vary: methods cannot be varied: give them as a list, or vary a field"),
        ("vary: {epochs: 3}", "line 12: vary.epochs: must be a list of values; got 3"),
        ("vary: {epochs: []}", "line 12: vary.epochs: must be a list of values; got []"),
        ("vary: {epochs: [1, 2, 1]}", "line 12: vary.epochs: 1 stands twice"),
        ("vary: {data: [a.csv]}", "line 12: vary.data: each value is a mapping that is laid over data"),
        ("vary: {epochs: [1, 0]}",
         "line 12: epochs: must be greater than or equal to 1; got 0 (at epochs 0)"),
        ("vary:\n  model: [a, b]\n  data.members: [2, 1]",
         "line 14: data.members: must be greater than or equal to 2; got 1 (at model a, data.members 1)"),
        ("vary: {data: [{soruce: a.csv}, {}]}", "line 12: unknown key 'soruce'. Did you mean 'source'?"),
        ("vary: {method.r: [8, 0]}", "line 12: vary.method.r: method lora: r: "),
        ("vary: {plants.duplicates.copies: [[0]]}", "line 12: vary.plants.duplicates.copies: plant duplicates: copies"),
        ("vary: {epochs: [1, 2]}\nepoch: 3", "line 13: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("vary: {data: [{members: 5}, {members: 6}], data.members: [7]}",
         "line 12: vary: data members 5, data.members 7 and data members 6, data.members 7 are the same study"),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_told_with_its_place(
    read: Callable[..., VariedStudy], tmp_path: Path, vary: str, told: str
) -> None:
    with pytest.raises(StudyError) as caught:
        read(vary + "\n")
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(f"s.yaml, {told}")
    assert vary != "vary: {epochs: [1, 2]}\nepoch: 3" or "(at" not in str(caught.value)  # no point is to blame


def test_a_setting_that_would_be_lost_is_told(read: Callable[..., VariedStudy]) -> None:
    with pytest.raises(StudyError, match=r"with --set epochs: the study varies it: --set 'vary\.epochs=\[\.\.\.\]'"):
        read("vary: {epochs: [1, 2]}\n", "epochs=5")
    with pytest.raises(StudyError, match=r"with --set vary\.epochs: epochs: must be greater"):
        read("", "vary.epochs=[1, 0]")


# --- running -------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    monkeypatch.setattr("byrote.report.write.axes_html", lambda results: "")


def file_of(place: Path, folder: Path, **changes: Any) -> Path:
    """A study that varies how long is trained, and (which changes no run) a margin."""
    vary = {"epochs": [1, 2], "equivalence_margin": [0.05, 0.1]}
    return write_study(place / "s.yaml", folder, **{"vary": vary, **changes})


def facts_of_points(out: Path) -> dict[str, dict[str, Any]]:
    return {point.label: facts(out / point.folder) for point in AxesManifest.read(out).points}


@pytest.mark.usefixtures("quick")
def test_points_are_ordinary_studies_that_share_their_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, work = file_of(tmp_path, folder), tmp_path / "out", count_work(monkeypatch)
    results = run(path, out)
    assert isinstance(results, VariedResults) and results.failed == []
    assert work["steps"] == 3 + 2 * 3, "one and two epochs of three batches, each once for two margins"
    ids = [{row.run_id for row in point.rows if row.method == "full"} - {""} for _, point in results.done()]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    # Each point is what the same study is by itself.
    raw = settings(folder, epochs=2)
    alone = Study.model_validate(raw | {"name": "small: epochs 2, equivalence_margin 0.05"})
    run(alone, tmp_path / "alone")
    assert differing(facts(out / "points/epochs=2,equivalence_margin=0.05"), facts(tmp_path / "alone")) == []
    # And all of it together is what the points are.
    assert [row.point for row in results.rows][:1] == ['{"epochs":1,"equivalence_margin":0.05}']
    table = list(csv.reader(io.StringIO((out / "results.csv").read_text())))
    assert tuple(table[0]) == POINT_COLUMNS == (*COLUMNS, "point")
    assert {line[0] for line in table[1:]} == {"small"} and len(table) - 1 == len(results.rows)
    assert len(results.rows) == sum(len(point.rows) for _, point in results.done())
    assert len(json.loads((out / "results.json").read_text())) == len(results.rows) == len(results.table())
    scores = results.scores()
    assert len(scores) == sum(len(point.scores()) for _, point in results.done())
    assert set(scores["point"]) == {row.point for row in results.rows}
    # Once more: nothing is left to do, and everything is as it was.
    work.update(steps=0, texts=0)
    before, again = facts_of_points(out), run(path, out)
    assert work == {"steps": 0, "texts": 0} and facts_of_points(out) == before
    assert [row for row in again.rows if row.kind != "cost"] == [row for row in results.rows if row.kind != "cost"]
    assert VariedResults.read(out).csv() == (out / "results.csv").read_text()


@pytest.mark.usefixtures("quick")
def test_interrupted_at_any_point_it_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopper(Watcher):
        """Stops when the second point's training begins."""

        def start(self, label: str, total: int) -> None:
            self.said.append(label)
            self.stop_requested |= label == "epochs 2: full: training"

    path = write_study(tmp_path / "s.yaml", folder, vary={"epochs": [1, 2]})
    run(path, tmp_path / "whole")
    stopper = Stopper()
    with pytest.raises(Interrupted):
        run(path, tmp_path / "out", progress=stopper)
    assert "epochs 1: full: training" in stopper.said
    left = VariedResults.read(tmp_path / "out")
    assert [point.results is not None for point in left.points] == [True, True] and left.rows
    work = count_work(monkeypatch)
    run(path, tmp_path / "out")
    assert work["steps"] <= 2 * 3, "the first point's training is kept"
    assert facts_of_points(tmp_path / "out") == facts_of_points(tmp_path / "whole")


@pytest.mark.usefixtures("quick")
def test_a_point_that_fails_does_not_cost_the_others(folder: Path, tmp_path: Path) -> None:
    gone = {"source": str(tmp_path / "gone.txt")}
    vary = {"data": [gone, {}, {"members": 40, "nonmembers": 39}], "epochs": [1]}
    path, out, watcher = write_study(tmp_path / "s.yaml", folder, vary=vary), tmp_path / "out", Watcher()
    results = run(path, out, progress=watcher)
    assert isinstance(results, VariedResults)
    assert [point.results is None for point in results.points] == [True, False, True]
    assert [(label, run) for label, run, _ in results.failed] == [
        (results.points[0].entry.label, ""), (results.points[2].entry.label, "")
    ]  # fmt: skip
    assert "gone.txt: no such file" in results.failed[0][2] and "too few records" in results.failed[1][2]
    assert [line for line in watcher.said if "gone.txt: no such file" in line]
    assert {row.point for row in results.rows} == {'{"data":{},"epochs":1}'}
    again = VariedResults.read(out)
    assert again.failed == results.failed and "no such file" in axes_markdown(again)
    assert "**data " in Overview(again).answer()[-2]


@pytest.mark.usefixtures("quick")
def test_a_plan_names_points_and_counts_what_they_share_once(folder: Path, tmp_path: Path) -> None:
    path, out = file_of(tmp_path, folder), tmp_path / "out"
    steps = plan(path, out).steps
    assert [(step.point, step.state, step.shared) for step in steps] == [
        ("epochs 1, equivalence_margin 0.05", "to train", False),
        ("epochs 1, equivalence_margin 0.1", "to train", True),
        ("epochs 2, equivalence_margin 0.05", "to train", False),
        ("epochs 2, equivalence_margin 0.1", "to train", True),
    ]
    assert not out.exists() and plan(path, out)._title() == "small: 4 points, 4 steps in 2 runs, 0 in the store"
    run(path, out)
    assert [step.state for step in plan(path, out).steps] == ["done"] * 4


@pytest.mark.usefixtures("quick")
def test_the_command_line_runs_reports_and_says_what_failed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    byrote = caller(capsys)
    write_study(tmp_path / "s.yaml", folder, methods=["full", "lora"], vary={"epochs": [1, 2], "method.r": [1, 2]})
    code, out, _ = byrote("run", "s.yaml", "--dry-run")
    assert code == 0 and "small: 2 points, 6 steps in 6 runs, 0 in the store" in out and "epochs 2" in out
    code, out, err = byrote("run", "s.yaml")
    assert code == 0 and "[4/6] epochs 2: full: training" in err
    assert "2 points: epochs (1, 2). Inside each: method.r (1, 2)." in out
    assert out.count("lora, r 1") >= 2 and "Report: byrote-results/small/report.html" in out
    place = tmp_path / "byrote-results/small"
    for path in (place / "report.md", place / "points/epochs=1/report.md"):
        path.unlink()
    code, out, _ = byrote("report", place)
    assert code == 0 and "epochs 2  lora, r 2" in out and (place / "points/epochs=1/report.md").exists()
    code, _, err = byrote("run", "s.yaml", "--set", "vary={data: [{}, {source: gone.txt}]}")
    assert code == 1 and "data gone.txt: failed: " in err
    # What the folder holds is the last study that ran in it.
    assert byrote("run", "s.yaml", "--set", "vary={}")[0] == 0 and not (place / "axes.json").exists()
    code, out, _ = byrote("report", place)
    assert code == 0 and "points" not in out
    assert byrote("run", "s.yaml")[0] == 0 and not (place / "study.json").exists()
