"""Studies that generate: what is measured, what is made only once, and what a kill or a later question costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

from byrote.data.base import Columns
from byrote.data.load import load
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.results import Results
from byrote.runner import generations, tables
from byrote.runner.plan import plan
from byrote.runner.study import run
from byrote.store import Manifest, RunFolder
from byrote.study import Study
from byrote.target import Target
from byrote.types import Decoding, Generation, text_key
from conftest import WORDS
from small_study import (
    Watcher,
    count_work,
    differing,
    facts,
    make_folder,
    run_facts_of,
    study_of,
)

HOW: dict[str, Any] = {"max_new_tokens": 6}
GENERATED = [{"name": name, **HOW} for name in ("exact-match", "rouge-l", "bleu")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 prompts whose last word is one of two, and tells which of two answers belongs to them."""
    place = make_folder(tmp_path_factory.mktemp("pairs"))
    generator = torch.Generator().manual_seed(8)
    rows = []
    for at in range(120):
        length = int(torch.randint(2, 6, (1,), generator=generator))
        others = [WORDS[i] for i in torch.randint(10, 60, (length,), generator=generator).tolist()]
        answer = ("w3 w4 w5", "w6 w7 w8 w9")[at % 2]
        rows.append(json.dumps({"q": " ".join([*others, WORDS[at % 2]]), "a": answer}))
    (place / "pairs.jsonl").write_text("\n".join(rows))
    return place


pytestmark = pytest.mark.usefixtures("quick")


def study(folder: Path, **changes: Any) -> Study:
    data = {"source": str(folder / "pairs.jsonl"), "prompt": "q", "completion": "a", "near_duplicates": 1.0}
    data |= {"members": 60, "nonmembers": 20, "validation": 10, "test": 20}
    options = {"methods": ["full"], "utility": GENERATED, "attacks": ["loss"], "epochs": 6, "batch_size": 6} | changes
    return study_of(folder, data=data, **{"learning_rate": 1e-2, **options})


def count_answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the parts that were generated."""
    sizes: list[int] = []
    generate = Target.generate

    def counted(self: Target, records: Any, *arguments: Any) -> Any:
        sizes.append(len(records))
        return generate(self, records, *arguments)

    monkeypatch.setattr(Target, "generate", counted)
    return sizes


def said(out: Path, method: str, epoch: int) -> dict[str, str]:
    """The generated text by the key of the record's."""
    run_id = next(cell.run_id for cell in Manifest.read(out).cells if cell.method == method)
    table = pyarrow.parquet.read_table(out / "runs" / run_id / f"generations/epoch-{epoch:04d}.parquet").to_pylist()
    return {row["text_key"]: row["text"] for row in table}


def test_what_was_learned_is_generated_and_measured(folder: Path, tmp_path: Path) -> None:
    results = run(study(folder), tmp_path)
    assert not results.failed
    rows = {(row.method, row.name): row for row in results.rows if row.kind == "utility" and row.seed is not None}
    assert len([row for row in results.rows if row.kind == "utility"]) == len(rows) == 6, "at the last epoch alone"
    # By hand, from the texts that were kept.
    split = pyarrow.parquet.read_table(tmp_path / "splits.parquet").to_pylist()
    test = {row["record_id"] for row in split if row["split"] == "test"}
    records = [
        one for one in load(str(folder / "pairs.jsonl"), Columns(prompt="q", completion="a")).records if one.id in test
    ]
    for method, epoch in (("none", 0), ("full", 6)):
        answers = said(tmp_path, method, epoch)
        assert len(answers) == 20
        share = sum(answers[text_key(one.text)] == one.completion for one in records) / 20
        assert rows[method, "exact-match"].value == pytest.approx(share)
    full = {name: rows["full", name] for name in ("exact-match", "rouge-l", "bleu")}
    assert (full["exact-match"].value or 0.0) > 0.8 and (full["rouge-l"].value or 0.0) > 0.8
    for name, row in full.items():
        assert (row.epoch, row.n, row.null_value) == (6, 20, rows["none", name].value)
        assert row.null_value is not None and row.null_value < 0.2 * (row.value or 0.0)
        assert row.settings == json.dumps({name: HOW}, separators=(",", ":"))
    text = report_markdown(results)
    assert "white space aside; higher is better. Made with greedy decoding, at most 6 new tokens." in text
    assert "at most 6 new tokens; sacrebleu nrefs:1\\|case:mixed\\|eff:no\\|tok:13a\\|smooth:exp\\|version:2." in text
    # More measures than the first table has room for: it keeps the first one.
    assert (
        text.count("| exact-match, max_new_tokens 6 (higher is better) |") == 1
        and "| bleu, max_new_tokens 6 (" not in text
    )
    assert "| method | exact-match, max_new_tokens 6 | rouge-l, max_new_tokens 6 | bleu, max_new_tokens 6 |" in text
    page = report_html(results)
    assert "Every utility measure" in page and page.count(">bleu, max_new_tokens 6<") == 2
    seconds = [row for row in results.rows if (row.name, row.metric) == ("generation", "seconds")]
    assert {row.method for row in seconds} == {"none", "full"}


def test_text_is_made_once_for_all_measures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, answers = count_work(monkeypatch), count_answers(monkeypatch)
    one = study(folder, epochs=2)
    first = run(one, tmp_path)
    assert answers == [20, 20] and work["steps"] == 20
    again = run(one, tmp_path)
    assert answers == [20, 20] and work["steps"] == 20 and again.csv() == first.csv()
    # Another way of generating is another text, beside the first.
    warm = {"name": "rouge-l", "do_sample": True, **HOW}
    both = run(one.model_copy(update={"utility": study(folder, utility=[*GENERATED, warm]).utility}), tmp_path)
    assert answers == [20, 20, 20, 20] and work["steps"] == 40  # full tuning keeps no weights
    values = {row.settings: row.value for row in both.rows if (row.method, row.name) == ("full", "rouge-l")}
    assert len(values) == 2


def test_a_later_question_is_answered_with_the_kept_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["lora", "prefix-tuning", "head"]
    asked = study(folder, methods=methods, epochs=2)
    whole = run_facts_of(asked, tmp_path / "whole")
    plain = asked.model_copy(update={"utility": []})
    run(plain, tmp_path / "later")
    assert [step.state for step in plan(asked, tmp_path / "later").steps] == ["to ask", "to ask", "to train"]
    work, watcher = count_work(monkeypatch), Watcher()
    results = run(asked, tmp_path / "later", progress=watcher)
    assert not results.failed and work["steps"] == 20, "only head, which is no adapter, trains again"
    assert watcher.said == ["head: trains again, to be asked more: its weights were not kept"]
    assert [step.state for step in plan(asked, tmp_path / "later").steps] == ["done"] * 3
    for method in ("none", *methods):
        epoch = 0 if method == "none" else 2
        assert said(tmp_path / "later", method, epoch) == said(tmp_path / "whole", method, epoch)
    different = [name for name in differing(facts(tmp_path / "later"), whole) if "cell" not in name]
    assert different == []


def test_kept_weights_of_another_model_are_not_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = study(folder, methods=["lora"], epochs=1, utility=[])
    run(plain, tmp_path)
    (place,) = (tmp_path / "runs").glob("*/weights/adapter_model.safetensors")
    with RunFolder(place.parents[1]).writing("weights/adapter_model.safetensors") as path:
        save_file({name: weight + 0.2 for name, weight in load_file(place).items()}, path, {"format": "pt"})
    work, watcher = count_work(monkeypatch), Watcher()
    assert not run(study(folder, methods=["lora"], epochs=1), tmp_path, progress=watcher).failed
    assert work["steps"] == 10 and "lora: trains again, to be asked more" in watcher.said[0]


def test_a_kill_between_two_parts_loses_no_part_and_no_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    monkeypatch.setattr(generations, "PART", 8)
    asked = study(folder, methods=["lora"], epochs=2)
    whole = run_facts_of(asked, tmp_path / "whole")
    with monkeypatch.context() as patch:
        generate, parts = Target.generate, iter(range(10))

        def killed(self: Target, *arguments: Any) -> Any:
            if next(parts) == 4:  # three parts of the base model, one of the tuned one
                raise Killed
            return generate(self, *arguments)

        patch.setattr(Target, "generate", killed)
        with pytest.raises(Killed):
            run(asked, tmp_path / "cut")
    work, answers = count_work(monkeypatch), count_answers(monkeypatch)
    assert [step.state for step in plan(asked, tmp_path / "cut").steps] == ["goes on"]
    assert differing(run_facts_of(asked, tmp_path / "cut"), whole) == []
    assert answers == [8, 4] and work["steps"] == 0
    # Whatever happens to the file, the text is the same again.
    for path in (tmp_path / "cut").rglob("generations/*.parquet"):
        path.write_bytes(path.read_bytes()[:-30])
    assert differing(run_facts_of(asked, tmp_path / "cut"), whole) == []
    assert work["steps"] == 0


def test_what_was_cut_off_is_said(folder: Path, tmp_path: Path) -> None:
    short = [{"name": "exact-match", "max_new_tokens": 2}]
    results = run(study(folder, utility=short, methods=["lora"], epochs=1), tmp_path)
    cut = "20 of 20 generated completions came to no end (greedy decoding, at most 2 new tokens, within"
    assert any(cut in warning for warning in results.warnings)
    assert Results.read(tmp_path).csv() == results.csv()


def test_generated_text_has_room_beside_virtual_tokens(folder: Path, tmp_path: Path) -> None:
    """The model has 64 positions; prompts of 6 words and 60 new tokens would take 66, and 10 virtual tokens more."""
    long = [{"name": "bleu", "max_new_tokens": 60}]
    results = run(study(folder, utility=long, methods=["full", "prompt-tuning"], epochs=1, max_length=64), tmp_path)
    assert [cell.method for cell in results.failed] == ["prompt-tuning"]
    assert "do not fit the model's 64 positions. Set max_length: 54." in results.failed[0].error


@pytest.mark.parametrize(("objective", "reads"), [("lm", "tokens"), ("classification", "labels")])
def test_where_nothing_is_completed_nothing_is_generated(folder: Path, objective: str, reads: str) -> None:
    said = (
        f"rouge-l reads completions, but objective: {objective} gives {reads}. Use one of: .*; or objective: completion"
    )
    with pytest.raises(ValueError, match=said):
        study(folder, objective=objective, utility=["rouge-l"], attacks=[])
    assert [one.name for one in study_of(folder).utility] == ["perplexity"], "it costs too much to be a default"


def test_a_table_of_texts_comes_back_as_it_was() -> None:
    texts = {
        ("a", "greedy"): Generation("hé\nllo", (4, 5, 0), True),
        ("b", "warm"): Generation("", (), False, "no room"),
    }
    table = tables.generations_table(texts, 2.5)
    assert tables.generations_from(table) == texts and tables.seconds_of(table) == 2.5
    assert generations.spelled(Decoding(6)) != generations.spelled(Decoding(7))
