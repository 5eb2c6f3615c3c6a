"""The section for a model card: its numbers are of the one model, and what must be said is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from byrote.report.card import card, choices, narrowed
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.types import StudyError
from report_folder import build, build_private, pick, rewrite_ledgers
from small_study import caller
from test_axes_report import SMALL, make_overview


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("card")
    build(place, methods=("full", "lora"), attacks=("loss", "reference"), epochs=2, members=80, test=40, seeds=(0, 1),
          name="a | b", failed=())  # fmt: skip
    return place


def tables(text: str) -> dict[str, list[str]]:
    """The cells of every row of a table, by the first one."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def words(row: Row) -> str:
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"


def test_the_numbers_are_those_of_the_one_run(seeds: Path) -> None:
    results = Results.read(seeds)
    cell = next(one for one in results.manifest.cells if one.method == "lora" and one.seed == 1)
    text = card(results, cell.run_id)
    assert text.startswith("## Memorization and privacy\n") and text.count("\n## ") == 0
    found = tables(text)
    for attack in ("loss", "reference"):
        row = pick(results, "auc", name=attack, run_id=cell.run_id, epoch=2, slice="")
        assert found[attack][1:3] == [words(row), f"{row.null_value:.3f}"] and found[attack][5] == str(row.n)
    lift = pick(results, "auc-lift", name="loss", run_id=cell.run_id, epoch=2, slice="")
    assert found["loss"][3] == f"{lift.value:+.3f} [{lift.low:+.3f}, {lift.high:+.3f}]".replace("-", "−")
    assert found["reference"][3] == "–", "judged by its AUC against a coin toss"
    assert "the verdict rests on the difference to it" in text
    utility = pick(results, "perplexity", run_id=cell.run_id, epoch=2)
    assert found["perplexity (lower is better)"][0].startswith(f"{utility.value:.1f} [")
    assert found["Trained on"] == ["80 records"] and "seed 1" in found["Settings"][0] and cell.run_id in text
    assert "full" not in re.sub(r"full, learning_rate|full tuning", "", text), "nothing of another model"
    assert "Trained without differential privacy: nothing bounds what the weights may give away." in text
    assert "Whether training text comes out of the model was not measured." in text
    assert r"a \| b" in text and "byrote 0.1.0" in text


def test_what_other_trainings_by_the_recipe_came_to_is_said(seeds: Path) -> None:
    results = Results.read(seeds)
    cell = next(one for one in results.manifest.cells if one.method == "lora" and one.seed == 1)
    pooled = pick(results, "auc", name="reference", method="lora", seed=None, epoch=2)
    said = f"Over 2 trainings by the same recipe, each on a split of its own, the AUC of reference is {words(pooled)}"
    assert said in card(results, cell.run_id)


def test_narrowed_results_are_the_same_rows(seeds: Path) -> None:
    results = Results.read(seeds)
    cells = [cell for cell in results.evidence.done() if cell.seed == 1 and cell.method in ("none", "full")]
    alone = set(Results(narrowed(results.evidence, cells)).rows)
    assert alone == {row for row in results.rows if row.seed == 1 and row.method in ("none", "full")} - {
        row for row in results.rows if "-vs-" in row.metric
    }


def test_a_positive_control_of_another_seed_still_warns(tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("prompt-tuning",), attacks=("loss",), epochs=1, members=150, test=20,
                     seeds=(0, 1))  # fmt: skip
    blind, meant = (cell for cell in manifest.cells if cell.method != "none")
    manifest.model_copy(update={"positive_control": blind}).write(tmp_path)
    text = card(Results.read(tmp_path), meant.run_id)
    assert "loss does not see even over-fitted members" in text
    assert "Members against nonmembers: 150 members and 150 nonmembers." in text, "the control's split is not its own"


def test_the_ledger(tmp_path: Path) -> None:
    build_private(tmp_path)
    ledger = rewrite_ledgers(tmp_path)
    found = tables(card(Results.read(tmp_path), "lora, ε 8"))
    spent = float(found["epsilon spent"][0].split(",")[0])
    assert ledger.epsilon <= spent <= ledger.epsilon * 1.002 and f"δ {ledger.delta:.2g}" in found["epsilon spent"][0]
    assert "one record" in found["protects"][0] and found["accountant"][0].startswith("PRV, opacus")
    text = card(Results.read(tmp_path), "lora, ε 8")
    assert "What lies outside the guarantee" in text and "nothing bounds" not in text
    rewrite_ledgers(tmp_path, private=False)
    text = card(Results.read(tmp_path), "lora, ε 8")
    assert "> **The noise was repeatable: NOT private." in text and "NOT private" in tables(text)["epsilon spent"][0]
    assert text.index("NOT private") < text.index("### Training")


def test_a_split_that_is_not_random_stands_first(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Results, "broken_splits", ["Members can be told apart without any model."])
    text = card(Results.read(seeds), choices(Results.read(seeds))[0].cell.run_id)
    assert text.index("> **Members can be told apart without any model.**") < text.index("AUC")


def test_which_model(seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    byrote = caller(capsys)
    code, out, err = byrote("card", seeds)
    assert (code, out) == (2, "") and "several models: choose one with --run RUN_ID" in err
    for one in choices(Results.read(seeds)):
        assert f"{one.label} ({one.cell.run_id})" in err
    code, _, err = byrote("card", seeds, "--run", "lora")
    assert code == 2 and "'lora' is several of these models: give a run id: lora, seed 0 (" in err
    assert "full" not in err
    code, _, err = byrote("card", seeds, "--run", "adapter")
    assert code == 2 and "'adapter' is none of these models: full, seed 0" in err
    code, out, _ = byrote("card", seeds, "--run", "lora, seed 1", "--out", tmp_path / "card.md")
    assert code == 0 and "Wrote" in out and (tmp_path / "card.md").read_text().startswith("## Memorization")


def test_a_point_of_a_study_that_varies_something(tmp_path: Path) -> None:
    points = [{"values": {"model": "a"}}, {"values": {"model": "b"}, "options": {"seeds": (1,)}}]
    make_overview(tmp_path, points, {"model": ["a", "b"]}, **SMALL)
    from byrote.report.axes import VariedResults

    results = VariedResults.read(tmp_path)
    assert "model b: lora, seed 1, of the study" in card(results, "model b: lora")
    with pytest.raises(StudyError, match="model a: lora, seed 0"):
        card(results, "lora")


def test_no_model(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), epochs=1, members=40, test=20, failed=("lora",))
    with pytest.raises(StudyError, match="no tuned model has numbers here"):
        card(Results.read(tmp_path))
