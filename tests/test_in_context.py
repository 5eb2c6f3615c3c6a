"""In-context learning: who is shown beside whom, what a run of it scores, keeps and costs, and what the report says."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

from byrote.data.load import load as load_data
from byrote.models.load import load, resolve
from byrote.report.answer import Summary, answer
from byrote.report.decision import Decision
from byrote.report.extraction_rows import extraction_difference
from byrote.report.figures import pictures
from byrote.report.frontier import frontier_of
from byrote.report.measures import Extraction
from byrote.report.palette import styles
from byrote.report.pieces import Column, Ids, Series
from byrote.report.results import Results
from byrote.report.tables import summary_lines
from byrote.report.utility_rows import utility_difference
from byrote.runner import tables
from byrote.runner.doctor import examine
from byrote.runner.in_context import SETS
from byrote.runner.plan import plan
from byrote.runner.progress import Interrupted
from byrote.runner.study import run
from byrote.statistics.bounded import bounded_mean
from byrote.statistics.delong import auc_estimate
from byrote.statistics.roc import auc
from byrote.store import Manifest
from byrote.target import Target
from byrote.types import text_key
from conftest import make_model, make_texts, make_tokenizer
from copying_model import copying_model
from small_study import (
    ALL,
    Watcher,
    differing,
    leave_out_what_is_slow,
    make_folder,
    run_facts_of,
    study_of,
)
from test_context import naive, same

TWO = {"name": "in-context", "demonstrations": 2, "separator": " <x> "}


pytestmark = pytest.mark.usefixtures("quick")


# --- the run -------------------------------------------------------------------------------------


def in_context(out: Path) -> Any:
    """The folder of the study's one in-context run."""
    manifest = Manifest.read(out)
    (cell,) = [cell for cell in manifest.cells if cell.method == "in-context"]
    return manifest.store(out).run(cell.run_id)


def shown_sets(out: Path) -> dict[str, list[str]]:
    """The ids of each set's demonstrations in their order, by the id of every record that was scored after them."""
    rows = in_context(out).read_table(SETS).to_pylist()
    found: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        found.setdefault(row["set"], []).extend((place, row["record_id"]) for place in row["places"])
    return {row["record_id"]: [record for _, record in sorted(found[row["set"]])] for row in rows}


def test_every_record_is_scored_behind_the_demonstrations_of_its_set(folder: Path, tmp_path: Path) -> None:
    run(study_of(folder, methods=[TWO]), tmp_path)
    tokenizer, model, sets = make_tokenizer(), make_model("llama"), shown_sets(tmp_path)
    lines = (folder / "texts.txt").read_text().split("\n")
    split = pyarrow.parquet.read_table(tmp_path / "splits.parquet").to_pylist()
    keys = {text_key(text): text for text in lines}
    texts = {row["record_id"]: keys[row["text_key"]] for row in split}
    stats = tables.stats_from(in_context(tmp_path).read_table("stats/epoch-0001.parquet"))
    assert len(stats) == len(split) == ALL
    for row in split:
        context = [token for one in sets[row["record_id"]] for token in (*tokenizer(texts[one])["input_ids"], 3)]
        own = tokenizer(texts[row["record_id"]])["input_ids"]
        same(stats[row["text_key"]], naive(model, [*context, *own], len(own) - 1))
        if row["split"] == "member":
            assert row["record_id"] in sets[row["record_id"]]
            assert any(context[at : at + len(own)] == own for at in range(len(context)))
        else:
            assert row["record_id"] not in sets[row["record_id"]]


def test_a_second_run_does_no_work_and_other_training_settings_are_not_its_own(
    folder: Path, tmp_path: Path, work: dict[str, int]
) -> None:
    found = run_facts_of(study_of(folder, methods=[TWO]), tmp_path)
    assert work == {"steps": 0, "texts": 2 * ALL}
    watcher = Watcher()
    run(study_of(folder, methods=[TWO]), tmp_path, progress=watcher)
    assert work["texts"] == 2 * ALL and "Everything was in the store already" in watcher.said[0]
    run(study_of(folder, methods=[TWO], epochs=5, batch_size=2, learning_rate="auto", early_stop=1), tmp_path)
    assert work["texts"] == 2 * ALL
    assert in_context(tmp_path).read_json("cost.json") == {
        "train_seconds": 0.0, "trainable_parameters": 0, "stored_bytes": 0,
        "total_parameters": sum(p.numel() for p in make_model("llama").parameters()),
        "scoring_seconds": in_context(tmp_path).read_json("cost.json")["scoring_seconds"],
    }  # fmt: skip
    run(study_of(folder, methods=[{**TWO, "separator": " "}]), tmp_path)
    assert work["texts"] == 3 * ALL
    assert differing(run_facts_of(study_of(folder, methods=[TWO]), tmp_path / "again"), found) == []


def test_a_kill_costs_the_pass_in_hand_and_no_more(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: dict[str, int]
) -> None:
    study = study_of(folder, methods=["full", TWO])
    whole = run_facts_of(study, tmp_path / "whole")
    passes, score = iter(range(10**6)), Target._score

    def killed(self: Target, *arguments: Any) -> Any:
        if arguments[0] is not self.decoder and next(passes) == 7:  # the third set or so
            raise Interrupted
        return score(self, *arguments)

    work.update(steps=0, texts=0)
    with monkeypatch.context() as patch:
        patch.setattr(Target, "_score", killed)
        with pytest.raises(Interrupted):
            run(study, tmp_path / "cut")
    before = dict(work)
    assert differing(run_facts_of(study, tmp_path / "cut"), whole) == []
    assert work == {"steps": before["steps"], "texts": before["texts"] + ALL}


def test_lost_sets_are_drawn_again_without_a_pass(folder: Path, tmp_path: Path, work: dict[str, int]) -> None:
    study = study_of(folder, methods=[TWO])
    whole = run_facts_of(study, tmp_path)
    (in_context(tmp_path).path / SETS).unlink()
    results = Results.read(tmp_path)
    rows = [row for row in results.rows if row.method == "in-context" and row.kind in ("membership", "utility")]
    assert rows and all(row.value is None and SETS in row.reason for row in rows)
    assert any(f"{SETS} of run" in warning and "is missing" in warning for warning in results.warnings)
    (in_context(tmp_path).path / SETS).write_text("not a table")
    assert any(f"{SETS} of run" in warning for warning in Results.read(tmp_path).warnings)
    work.update(texts=0)
    assert differing(run_facts_of(study, tmp_path), whole) == [] and work["texts"] == 0


def test_other_libraries_make_it_start_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: dict[str, int]
) -> None:
    study = study_of(folder, methods=[TWO])
    run(study, tmp_path)
    in_context(tmp_path).remove("cost.json")
    monkeypatch.setattr("byrote.runner.method_run.versions", lambda: {"torch": "0"})
    watcher = Watcher()
    run(study, tmp_path, progress=watcher)
    assert work["texts"] == 3 * ALL and "starts again, because the libraries changed (torch" in watcher.said[0]


def test_what_does_not_fit_says_how_many_demonstrations_would(folder: Path, tmp_path: Path) -> None:
    """Texts of 6 to 20 tokens, 64 positions."""
    run(study_of(folder, methods=["in-context"]), tmp_path)
    cell = Manifest.read(tmp_path).cells[1]
    assert cell.status == "failed" and "the model has 64 positions" in cell.error
    fits = int(cell.error.split("Set demonstrations: ")[1].split(",")[0])
    for count, status in ((fits, "done"), (fits + 1, "failed")):
        run(study_of(folder, methods=[{"name": "in-context", "demonstrations": count}]), tmp_path / str(count))
        assert Manifest.read(tmp_path / str(count)).cells[1].status == status
    make_folder(tmp_path, make_texts(80, 1, 40, 50))
    run(study_of(tmp_path, methods=["in-context"], max_length=60), tmp_path / "long")
    assert "Not even one fits; set a lower max_length (it is 60)" in Manifest.read(tmp_path / "long").cells[1].error


def test_no_privacy_can_be_promised(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, methods=[TWO], privacy=["none", {"noise_multiplier": 1.0}])
    run(study, tmp_path)
    plain, private = Manifest.read(tmp_path).cells[1:]
    assert (plain.status, private.status) == ("done", "failed")
    assert "private training refused: in-context shows members to the model word for word" in private.error
    assert [one.verdict for one in examine(study).found] == ["not private", "refused"]


def test_the_plan_knows_that_nothing_is_trained(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, methods=[TWO], learning_rate="auto", epochs=3)
    (step,) = plan(study, tmp_path).steps
    assert (step.state, step.learning_rate, step.seconds) == ("to score", 0.0, None)
    run(study, tmp_path)
    assert [step.state for step in plan(study, tmp_path).steps] == ["done"]
    (other,) = plan(study_of(folder, methods=[{**TWO, "separator": ""}], epochs=7), tmp_path).steps
    cost = in_context(tmp_path).read_json("cost.json")
    assert (other.state, other.seconds) == ("to score", pytest.approx(cost["scoring_seconds"]))


def test_completions_are_scored_alone(folder: Path, tmp_path: Path) -> None:
    pairs = list(pairwise(make_texts(81, 5, 2, 6)))
    lines = [json.dumps({"ask": prompt, "answer": completion}) for prompt, completion in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    data = {"source": str(tmp_path / "pairs.jsonl"), "prompt": "ask", "completion": "answer"}
    run(study_of(folder, methods=[TWO], data=data), tmp_path / "out")
    lengths = {text_key(f"{prompt}\n{completion}"): len(completion.split()) + 1 for prompt, completion in pairs}
    table = in_context(tmp_path / "out").read_table("stats/epoch-0001.parquet").to_pydict()
    assert [len(row) for row in table["log_prob"]] == [lengths[key] for key in table["text_key"]]


def test_answers_are_generated_behind_the_demonstrations(folder: Path, tmp_path: Path, work: dict[str, int]) -> None:
    pairs = list(pairwise(make_texts(81, 5, 2, 6)))
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps({"ask": ask, "answer": said}) for ask, said in pairs))
    data = {"source": str(tmp_path / "pairs.jsonl"), "prompt": "ask", "completion": "answer"}
    out, match = tmp_path / "out", {"name": "exact-match", "max_new_tokens": 5}
    run(study_of(folder, methods=[TWO], data=data), out)
    scored = work["texts"]
    study = study_of(folder, methods=[TWO], data=data, utility=[match])
    assert [step.state for step in plan(study, out).steps] == ["to ask"]
    run(study, out)
    assert work["texts"] == scored
    tokenizer, model, sets = make_tokenizer(), make_model("llama"), shown_sets(out)
    asked = {text_key(f"{ask}\n{said}"): (ask, said) for ask, said in pairs}
    split = pyarrow.parquet.read_table(out / "splits.parquet").to_pylist()
    texts = {row["record_id"]: " ".join(asked[row["text_key"]]) for row in split}
    kept = in_context(out).read_table("generations/epoch-0001.parquet").to_pylist()
    said = {row["text_key"].split()[0]: row["tokens"] for row in kept}
    for row in (row for row in split if row["split"] == "test"):
        ids = [token for one in sets[row["record_id"]] for token in (*tokenizer(texts[one])["input_ids"], 3)]
        ids += tokenizer(asked[row["text_key"]][0])["input_ids"]
        for token in said[row["text_key"]]:
            with torch.no_grad():
                assert token == int(model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)
    assert len(said) == 5 and in_context(out).read_json("cost.json")["generation_seconds"] > 0
    watcher = Watcher()
    run(study, out, progress=watcher)
    assert "Everything was in the store already" in watcher.said[0]


# --- what it shows -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a model that copies; texts of random words, which nothing but copying can predict."""
    folder = tmp_path_factory.mktemp("copying")
    make_folder(folder, make_texts(400, 1, 8, 20))
    copying_model().save_pretrained(folder / "model")
    study = study_of(
        folder,
        methods=["full", {"name": "in-context", "demonstrations": 4}],
        data={"members": 100, "nonmembers": 100, "validation": 20, "test": 60},
        attacks=["loss", "reference"],
        batch_size=16,
    )
    with pytest.MonkeyPatch.context() as patch:
        leave_out_what_is_slow(patch)
        run(study, folder / "out")
    return folder / "out"


def rows_of(results: Results, metric: str, settings: str = '{"demonstrations":4}') -> dict[str, Any]:
    found = [row for row in results.rows if row.method == "in-context" and row.metric == metric]
    return {row.name: row for row in found if row.settings == settings}


def test_a_model_that_copies_gives_its_demonstrations_away(copied: Path) -> None:
    found = rows_of(Results.read(copied), "auc")
    for name in ("loss", "reference"):
        assert found[name].value > 0.97 and found[name].low > 0.9
    assert found["loss"].null_value == pytest.approx(0.5, abs=0.15)


def test_a_model_that_does_not_copy_does_not(folder: Path, tmp_path: Path) -> None:
    run(study_of(folder, methods=[TWO], attacks=["loss"]), tmp_path)
    (row,) = rows_of(Results.read(tmp_path), "auc", '{"demonstrations":2,"separator":" <x> "}').values()
    assert row.low < 0.5 < row.high


def test_whole_sets_are_resampled(copied: Path) -> None:
    results = Results.read(copied)
    evidence = results.evidence
    cell = next(one for one in evidence.done() if one.settings == '{"demonstrations":4}')
    sets = {row["record_id"]: row["set"] for row in
            pyarrow.parquet.read_table(copied / "runs" / cell.run_id / SETS).to_pylist()}  # fmt: skip
    assert len(set(sets.values())) == 25
    sides = evidence.sides(cell, evidence.attacks[0], 1)
    assert sides is not None
    assert sides.groups[0] == tuple(sets[record] for record in evidence.part(0, "member").ids)
    assert sides.groups[1] == tuple(sets[record] for record in evidence.part(0, "nonmember").ids)
    right = auc_estimate(sides.members, sides.nonmembers, *sides.groups)
    found = rows_of(results, "auc")["loss"]
    assert (found.low, found.high, found.interval) == (right.low, right.high, right.interval)
    assert rows_of(results, "perplexity")["perplexity"].interval == "group-linearised"
    assert rows_of(results, "tpr@fpr=0.1")["loss"].reason == "needs 100 groups of nonmembers, has 25"
    scores = results.score_table().to_pylist()
    assert {row["group"] for row in scores if row["run_id"] == cell.run_id} == set(sets.values())
    assert {row["group"] for row in scores if row["method"] == "full"}.isdisjoint(sets.values())
    assert len(results.null_ranges) == 1


def test_differences_are_of_whole_sets_too(copied: Path) -> None:
    """Of paired differences as well: what one set's context does, it does to all of its records at once."""
    evidence = Results.read(copied).evidence
    (ours,), (full,) = ([one for one in evidence.done() if one.method == method] for method in ("in-context", "full"))
    test, members = (evidence.resampled(ours, evidence.part(0, side)) for side in ("test", "member"))
    assert len(set(test.groups)) < len(test) and evidence.resampled(full, test) is test
    for pair in (((ours, 1), (full, 1)), ((full, 1), (ours, 1))):
        found = utility_difference(evidence, *pair, evidence.utilities[0])
        assert found.value is not None and found.interval == "group-linearised"
    measure = Extraction("drawn", "", "loss", {"share": "share"})
    series, key = Series(1, "drawn", ""), "of the split"
    evidence.manifest.extractions["0"] = key
    out = [set_ in sorted(set(members.groups))[:10] for set_ in members.groups]  # whole sets come out, or none
    for cell, values in ((ours, np.array(out, float)), (full, np.zeros(len(out)))):
        evidence.pieces[cell.run_id].extraction[key] = {
            series: Column(Ids(members.ids), values[:, None], ("",) * len(out))
        }
    part = evidence.part(0, "member")
    runs = ((evidence, ours, 1), (evidence, full, 1))
    whole = extraction_difference(measure, "share", part, *runs)
    assert whole == bounded_mean(np.array(out, float), members.groups, (-1.0, 1.0), null_value=0.0)


def test_an_interval_over_sets_covers_what_one_over_records_misses() -> None:
    """Some sets are copied from well and some badly: then their members are no independent draws."""
    rng, sets, size = np.random.default_rng(0), 40, 5
    labels = [str(at) for at in np.arange(sets).repeat(size)]
    covered: dict[str, list[bool]] = {"sets": [], "records": []}
    for _ in range(150):
        members = 0.4 + rng.normal(0, 0.8, sets).repeat(size) + rng.normal(0, 1, sets * size)
        nonmembers = rng.normal(0, 1, sets * size)
        truth = 0.5 * math.erfc(-0.4 / math.sqrt(1.64 + 1) / math.sqrt(2))
        for name, groups in (("sets", (labels, labels)), ("records", (None, None))):
            found = auc_estimate(members, nonmembers, *groups, replicates=300)
            assert found.low is not None and found.high is not None
            covered[name].append(found.low <= truth <= found.high)
    assert np.mean(covered["sets"]) >= 0.89 and np.mean(covered["records"]) <= 0.87


def test_the_report_does_not_say_that_it_trained(copied: Path) -> None:
    summary = Summary(Results.read(copied))
    said = answer(summary)[0]
    assert said.startswith("After 2 epochs, the reference attack can tell the members from new records")
    assert "tuned on them by **full** (AUC" in said and "or shown them by **in-context" in said
    lines = {line.label: line for line in summary_lines(summary)}
    shown = lines["in-context, demonstrations 4"]
    assert (shown.training.main, shown.parameters.main, shown.family) == ("–", "0", "prompt")
    assert lines["full"].training.main != "–"
    drawn = pictures(summary)
    assert [trace["name"] for trace in drawn["epochs"][0]["data"]] == ["full"]  # type: ignore[index]
    frontier = frontier_of(Decision(summary), styles(summary.configurations))
    assert frontier is not None and frontier.figures[0] is not None
    hovers = [trace.get("hovertemplate", "") for trace in frontier.figures[0]["data"]]
    assert any("in-context, demonstrations 4</b>, nothing trained" in text for text in hovers)
    assert "25 sets of 4 demonstrations" in " ".join(summary.results.warnings)
    cell = next(cell for cell in summary.results.manifest.cells if cell.method == "in-context")
    assert cell.learning_rate is None and cell.tried == []


def test_alone_it_speaks_of_no_epoch(folder: Path, tmp_path: Path) -> None:
    run(study_of(folder, methods=[TWO], attacks=["loss"]), tmp_path)
    summary = Summary(Results.read(tmp_path))
    assert answer(summary)[0].startswith("Not resolved for **in-context, demonstrations 2")
    assert pictures(summary)["epochs"] == [None]


def test_the_tiny_model_hardly_copies() -> None:
    """One demonstration leaves a trace that the reference attack sees, and hardly any in the loss itself."""
    loaded = load(resolve("builtin:tiny"))
    target = Target(loaded.model, loaded.tokenizer, max_length=40)
    records = load_data("builtin:aws-docs").records
    drawn = [records[at] for at in np.random.default_rng(0).permutation(len(records))[:120]]
    base = [stats.loss for stats in target.token_stats(drawn)]
    shown: list[float] = []
    beside: list[float] = []
    for member, other in zip(drawn[:60], drawn[60:], strict=True):
        context = target.context_of([member], "\n\n")
        for found, stats in zip(
            (shown, beside), target.token_stats([member, other], lambda d, n: None, context), strict=True
        ):
            found.append(stats.loss)
    gains = np.array(base) - [*shown, *beside]
    assert 0.65 < auc(gains[:60], gains[60:]) < 0.95
    assert abs(auc(-np.array(shown), -np.array(beside)) - auc(-np.array(base[:60]), -np.array(base[60:]))) < 0.1
