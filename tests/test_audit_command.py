"""`byrote audit`: a model tuned by others gives the scores that its own logits give, and is scored once."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import Trainer, TrainingArguments

import byrote
from audit_cases import (
    LORA,
    MEMBERS,
    NONMEMBERS,
    POPULATION,
    TEXTS,
    Called,
    audit_folder,
    base_of,
    by_definition,
    check,
    files,
    in_file,
    in_list,
    naive,
    scores,
    tuned_by_hand,
)
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.store import Manifest
from conftest import make_texts, make_tokenizer
from small_study import caller, count_work, study_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.usefixtures("quick"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, an adapter that plain PEFT and Trainer made on it, and the records in files."""
    place = audit_folder(tmp_path_factory.mktemp("audit"))
    tokenizer = make_tokenizer()
    rows = [{"input_ids": ids, "labels": ids} for ids in tokenizer(MEMBERS)["input_ids"]]
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(5)
        trainer = Trainer(
            model=get_peft_model(base_of(place), LoraConfig(**LORA)),
            args=TrainingArguments(
                output_dir=str(place / "trainer"), per_device_train_batch_size=1, learning_rate=1e-2, report_to=[],
                num_train_epochs=4, save_strategy="no", logging_strategy="no", use_cpu=True, disable_tqdm=True, seed=5,
            ),
            train_dataset=rows,
        )  # fmt: skip
        trainer.train()
        trainer.save_model(str(place / "adapter"))
    return place


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Called:
    return caller(capsys, "audit")


def test_an_adapter_of_peft_and_trainer_is_audited_by_the_command_line(
    folder: Path, tmp_path: Path, call: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stranger"
    code, said, _ = call("--model", folder / "adapter", *files(folder), "--out", out)
    assert code == 0 and "tuned" in said
    results = Results.read(out)
    assert {row.study for row in results.rows} == {"stranger"}
    assert all((out / name).is_file() for name in ("report.html", "report.md", "results.csv", "scores.parquet"))
    tuned = PeftModel.from_pretrained(base_of(folder), str(folder / "adapter"))
    wanted = by_definition(folder, tuned, in_file)
    check(scores(results, "loss"), wanted["loss"])
    check(scores(results, "reference"), wanted["reference"])
    aucs = {row.name: row for row in results.rows if row.metric == "auc" and row.method == "tuned"}
    assert aucs["reference"].low is not None and aucs["reference"].low > 0.7
    assert aucs["loss"].null_value == pytest.approx(
        next(row.value for row in results.rows if (row.method, row.name, row.metric) == ("none", "loss", "auc"))
    )
    work = count_work(monkeypatch)
    assert call("--model", folder / "adapter", *files(folder), "--out", out)[0] == 0
    assert work == {"steps": 0, "texts": 0}
    manifest = Manifest.read(out)
    moved = shutil.copytree(folder / "adapter", tmp_path / "elsewhere")
    more = ("--attacks", "loss", "zlib")
    assert call("--adapter", moved, "--model", folder / "model", *files(folder), *more, "--out", out)[0] == 0
    assert work == {"steps": 0, "texts": 0}  # a run is known by its weights
    assert [cell.run_id for cell in manifest.cells] == [cell.run_id for cell in Manifest.read(out).cells]


def test_scores_are_those_of_our_own_study_on_the_same_weights(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, methods=["lora"], epochs=3, positive_control=False)
    theirs = run(study, tmp_path / "study")
    (cell,) = [cell for cell in theirs.manifest.cells if cell.method == "lora"]
    weights = theirs.manifest.store(tmp_path / "study").run(cell.run_id).path / "weights"
    parts = theirs.evidence.splits[0]
    lines = (folder / "texts.txt").read_text().splitlines()
    texts = {
        side: [lines[int(one.split(":")[-1]) - 1] for one in parts[side].records] for side in ("member", "nonmember")
    }
    ours = byrote.audit(
        folder / "model", texts["member"], texts["nonmember"], adapter=weights, attacks=["loss", "reference", "min-k"],
        max_length=32,
    )  # fmt: skip
    for attack in ("loss", "reference", "min-k"):
        table = theirs.scores()
        last = table[(table["attack"] == attack) & (table["method"] == "lora") & (table["epoch"] == 3)]
        np.testing.assert_allclose(last["score"].astype(float), list(scores(ours, attack).values()), atol=2e-4)


def test_a_whole_model_beside_its_base_and_without_one(folder: Path, tmp_path: Path, call: Called) -> None:
    tuned = tuned_by_hand(folder, LoraConfig(**LORA), epochs=4).merge_and_unload()
    tuned.save_pretrained(tmp_path / "whole")
    wanted = by_definition(folder, tuned, in_file)
    with_base = ("--model", tmp_path / "whole", "--base", folder / "model")
    assert call(*with_base, *files(folder), "--population", folder / "c.jsonl", "--out", tmp_path / "a")[0] == 0
    results = Results.read(tmp_path / "a")  # the tuned folder has no tokenizer: the base's reads for both
    check(scores(results, "reference"), wanted["reference"])
    (row,) = [row for row in results.rows if row.metric == "perplexity" and row.method == "tuned"]
    mass = [(naive(tuned, text), len(text.split()) - 1) for text in POPULATION]
    assert row.value == pytest.approx(np.exp(sum(a * b for a, b in mass) / sum(b for _, b in mass)), rel=1e-3)

    code, _, said = call("--model", tmp_path / "whole", *files(folder), "--out", tmp_path / "b")
    assert code == 2 and "has no tokenizer" in said and "--base" in said
    make_tokenizer().save_pretrained(tmp_path / "whole")
    code, said, _ = call("--model", tmp_path / "whole", *files(folder), "--out", tmp_path / "b")
    results = Results.read(tmp_path / "b")
    assert code == 0 and "No untuned model was there" in said and "reference was left out" in said
    check(scores(results, "loss"), wanted["loss"])
    found = [row for row in results.rows if row.kind == "membership" and row.metric == "auc"]
    assert {row.name for row in found} == {"loss", "zlib", "min-k", "min-k++", "blind-baseline"}
    assert {row.null_value for row in found} == {0.5}
    assert "null of 0.500, a coin toss" in said and "on the untuned model" not in said
    assert not [row for row in results.rows if row.metric == "auc-lift"]
    assert all("untuned model |" not in line for line in (tmp_path / "b" / "report.md").read_text().splitlines())
    code, _, said = call(
        "--model", tmp_path / "whole", *files(folder), "--attacks", "reference", "--out", tmp_path / "c"
    )
    assert code == 2 and "No attack is left" in said
    code, _, said = call("--model", tmp_path / "whole", "--base", tmp_path / "whole", *files(folder))
    assert code == 2 and "is the tuned model itself" in said


def test_pissa_is_compared_with_the_pristine_base(folder: Path, tmp_path: Path, call: Called) -> None:
    wide = LORA | {"r": 8, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"], "init_lora_weights": "pissa"}
    model = tuned_by_hand(folder, LoraConfig(**wide), 1e-3)
    wanted = by_definition(folder, model, in_file)["reference"]
    with model.disable_adapter():
        switched_off = [naive(model, text) for text in MEMBERS]
    assert np.abs(np.subtract(switched_off, [naive(base_of(folder), text) for text in MEMBERS])).max() > 0.05
    model.save_pretrained(tmp_path / "pissa")
    assert call("--adapter", tmp_path / "pissa", *files(folder), "--out", tmp_path / "out")[0] == 0
    check(scores(Results.read(tmp_path / "out"), "reference"), wanted)
    results = byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=make_tokenizer())
    check(scores(results, "reference"), by_definition(folder, model, in_list)["reference"])
    assert any("does not give back" in warning for warning in results.warnings)


def test_virtual_tokens_enter_once(folder: Path, tmp_path: Path, call: Called) -> None:
    model = tuned_by_hand(folder, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=6), 0.1)
    model.save_pretrained(tmp_path / "prompt")
    assert call("--model", tmp_path / "prompt", *files(folder), "--out", tmp_path / "out")[0] == 0
    results = Results.read(tmp_path / "out")
    check(scores(results, "reference"), by_definition(folder, model, in_file)["reference"])
    assert {row.family for row in results.rows if row.method == "tuned"} == {"prompt"}
    long = tmp_path / "long.txt"
    long.write_text("\n".join(make_texts(4, 9, 70, 80)))
    code, _, said = call("--model", tmp_path / "prompt", "--members", folder / "a.jsonl", "--nonmembers", long)
    assert code == 1 and "Set max_length: 58" in said


def test_what_comes_out_needs_no_membership_attack(folder: Path, tmp_path: Path, call: Called) -> None:
    code, *_ = call("--model", folder / "adapter", *files(folder), "--attacks", "extraction-strength",
                    "--out", tmp_path / "out")  # fmt: skip
    rows = [row for row in Results.read(tmp_path / "out").rows if row.metric == "strength" and not row.slice]
    assert code == 0 and {row.method: row.n for row in rows} == {"none": 30, "tuned": 30}
    assert all(row.value is not None for row in rows)


def test_completions_alone_are_scored(folder: Path, tmp_path: Path, call: Called) -> None:
    rows = [{"q": " ".join(text.split()[:3]), "a": " ".join(text.split()[3:])} for text in TEXTS]
    for name, part in (("a", rows[:30]), ("b", rows[30:60])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    code, *_ = call("--model", folder / "adapter", *files(tmp_path), "--prompt", "q", "--completion", "a",
                    "--attacks", "loss", "--out", tmp_path / "out")  # fmt: skip
    assert code == 0 and Manifest.read(tmp_path / "out").study["objective"] == "completion"
    tuned = PeftModel.from_pretrained(base_of(folder), str(folder / "adapter")).eval()
    prompt, ids = (make_tokenizer()(text)["input_ids"] for text in (rows[0]["q"], f"{rows[0]['q']}\n{rows[0]['a']}"))
    ids = [*ids, 0]  # the end of text closes a completion
    with torch.no_grad():
        logs = tuned(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    picked = [float(logs[at - 1, ids[at]]) for at in range(len(prompt), len(ids))]
    assert scores(Results.read(tmp_path / "out"), "loss")["a.jsonl:1"] == pytest.approx(np.mean(picked), abs=2e-4)
