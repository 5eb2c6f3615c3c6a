"""`byrote audit`: a model tuned by others, from the command line and from Python, and everything that can be wrong."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import byrote
from byrote.attacks.base import Evidence, MembershipAttack
from byrote.methods.base import Method, NotForThisModel
from byrote.methods.bottleneck import know_bottleneck
from byrote.models.tuned import InMemory, changes_its_base, find_adapter, put_on, twin_of
from byrote.registry import discover
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.types import StudyError
from conftest import make_model, make_texts, make_tokenizer
from small_study import caller, count_work, leave_out_what_is_slow, make_folder, study_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
TEXTS = make_texts(80, 1, 6, 20)
MEMBERS, NONMEMBERS, POPULATION = TEXTS[:30], TEXTS[30:60], TEXTS[60:]
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
Called = Callable[..., tuple[int, str, str]]


def base_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)


def tuned_by_hand(folder: Path, config: Any, rate: float = 1e-2) -> Any:
    """A PEFT model that was trained a little by a loop of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model: Any = get_peft_model(base_of(folder), config)
    tokenizer = make_tokenizer()
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=rate)
    for text in MEMBERS[:10]:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, an adapter that plain PEFT and Trainer made on it, and the records in files."""
    place = make_folder(tmp_path_factory.mktemp("audit"))
    for name, texts in (("a", MEMBERS), ("b", NONMEMBERS), ("c", POPULATION)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Called:
    return caller(capsys, "audit")


def files(folder: Path) -> tuple[str, ...]:
    return "--members", str(folder / "a.jsonl"), "--nonmembers", str(folder / "b.jsonl")


def naive(model: Any, text: str, tokenizer: Any = None) -> float:
    """The mean loss of a text by the model's own logits."""
    ids = torch.tensor([(tokenizer or make_tokenizer())(text)["input_ids"]])
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
    return float(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))


def scores(results: Results, attack: str, method: str = "tuned") -> dict[str, float]:
    """Score by record id."""
    table = results.scores()
    rows = table[(table["attack"] == attack) & (table["method"] == method)]
    return dict(zip(rows["record_id"], rows["score"].astype(float), strict=True))


def check(found: dict[str, float], wanted: dict[str, float]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=2e-4), name


def by_definition(folder: Path, tuned: Any, ids: Callable[[str, int], str]) -> dict[str, dict[str, float]]:
    """What loss and reference are of every record, from a model in memory and the base in its folder."""
    base, found = base_of(folder), dict[str, dict[str, float]](loss={}, reference={})
    for part, texts in (("a.jsonl", MEMBERS), ("b.jsonl", NONMEMBERS)):
        for line, text in enumerate(texts, 1):
            name, loss = ids(part, line), naive(tuned, text)
            found["loss"][name], found["reference"][name] = -loss, naive(base, text) - loss
    return found


def in_file(part: str, line: int) -> str:
    return f"{part}:{line}"


def in_list(part: str, line: int) -> str:
    return f"{'members' if part == 'a.jsonl' else 'nonmembers'}[{line - 1}]"


# --- what it finds -------------------------------------------------------------------------------


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
    tuned = tuned_by_hand(folder, LoraConfig(**LORA)).merge_and_unload()
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


ADAPTERS = [name for name, kind in discover("method").items() if issubclass(kind, Method) and kind.is_adapter]


@pytest.mark.parametrize("method", ADAPTERS)
def test_every_kind_of_adapter_comes_back_and_goes_off(folder: Path, tmp_path: Path, method: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        try:
            model: Any = discover("method")[method]().attach(base_of(folder)).model  # type: ignore[attr-defined]
        except NotForThisModel as reason:
            pytest.skip(str(reason))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.02)
    model.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    know_bottleneck()
    adapter = find_adapter(str(tmp_path / "adapter"))
    loaded = put_on(base_of(folder), adapter, "here")
    losses = [naive(model, text) for text in MEMBERS[:3]]
    before = state_of(model)
    twin = InMemory(model, make_tokenizer()).load(dtype="float32", device="cpu")
    off = InMemory(model, make_tokenizer(), untuned=True).load(dtype="float32", device="cpu")
    for text, loss in zip(MEMBERS, losses, strict=False):
        assert naive(loaded, text) == pytest.approx(loss, abs=1e-5)
        assert naive(twin, text) == pytest.approx(loss, abs=1e-5)
        assert abs(naive(off, text) - naive(base_of(folder), text)) < 1e-5 or changes_its_base(model)
    unchanged(before, state_of(model))
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    for other in (loaded, twin):
        wanting = {name for name, one in other.named_parameters() if one.requires_grad}
        # P-tuning keeps the embeddings that its network made, and not the network.
        assert trained <= wanting or (method == "p-tuning" and wanting)
        assert not wanting & {f"base_model.model.{name}" for name, _ in base_of(folder).named_parameters()}


# --- in memory -----------------------------------------------------------------------------------


def state_of(model: Any) -> dict[str, Any]:
    """Everything that an audit may not change."""
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "training": [module.training for module in model.modules()],
        "flags": [one.requires_grad for one in model.parameters()],
        "gradients": [None if one.grad is None else one.grad.clone() for one in model.parameters()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
    }


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, tensor in before["weights"].items():
        assert torch.equal(tensor, after["weights"][name]), name
    for name in ("training", "flags", "hooks"):
        assert before[name] == after[name], name
    for one, other in zip(before["gradients"], after["gradients"], strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))


@pytest.mark.parametrize("merged", [False, True])
def test_a_model_in_memory_is_left_as_it_was(folder: Path, merged: bool) -> None:
    model = tuned_by_hand(folder, LoraConfig(**LORA, lora_dropout=0.5))
    ids = torch.tensor([make_tokenizer()(MEMBERS[0])["input_ids"]])
    model(input_ids=ids, labels=ids).loss.backward()
    if merged:
        model.merge_adapter()
    wanted = by_definition(folder, model, in_list)
    model.train()
    model.base_model.model.model.layers[0].eval()
    before = state_of(model)
    results = byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=make_tokenizer())
    unchanged(before, state_of(model))
    check(scores(results, "loss"), wanted["loss"])
    check(scores(results, "reference"), wanted["reference"])
    assert results.manifest.model == (
        str(folder / "model") if merged else "LlamaForCausalLM in memory, its adapter switched off"
    )


def test_bases_in_memory(folder: Path) -> None:
    model, tokenizer = tuned_by_hand(folder, LoraConfig(**LORA)), make_tokenizer()
    wanted = by_definition(folder, model, in_list)["reference"]
    for base in (base_of(folder), folder / "model"):
        found = byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, base=base, attacks=["reference"])
        check(scores(found, "reference"), wanted)
    model.peft_config["default"].base_model_name_or_path = "nobody/knows"
    found = byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, attacks=["reference"])
    check(scores(found, "reference"), wanted)
    assert any("nobody/knows is not here to check" in warning for warning in found.warnings)
    model.peft_config["default"].init_lora_weights = "olora"
    found = byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, attacks=["loss"])
    assert any("does not give back nobody/knows" in warning for warning in found.warnings)
    assert not [row for row in found.rows if row.method == "none" and row.name == "loss"]
    with pytest.raises(StudyError, match="No attack is left"):
        byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, base=None, attacks=["reference"])


def test_a_run_in_memory_is_known_by_its_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tuned_by_hand(folder, LoraConfig(**LORA)), make_tokenizer()
    one = InMemory(model, tokenizer).fingerprint
    tokenizer(MEMBERS, padding=True)
    assert InMemory(twin_of(model), tokenizer).fingerprint == one
    byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, out=tmp_path / "out")
    work = count_work(monkeypatch)
    byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, base=None, store=tmp_path / "out" / "runs")
    byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, base=base_of(folder), out=tmp_path / "out")
    before = work["texts"]
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_B" in n)[0, 0] += 1e-3
    assert InMemory(model, tokenizer).fingerprint != one
    byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, base=base_of(folder), out=tmp_path / "out")
    assert work["texts"] - before >= 60


def test_what_is_no_language_model_is_refused(folder: Path) -> None:
    from conftest import make_classifier

    for model, said in ((make_classifier("llama"), "not a causal"), (torch.nn.Linear(2, 2), "not a transformers")):
        with pytest.raises(StudyError, match=said):
            byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=make_tokenizer())  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="give tokenizer="):
        byrote.audit(make_model("llama"), MEMBERS, NONMEMBERS)
    for members, said in (("one text", "no such|not a source"), (["a", 3], r"members\[1\] is a int"), ([" "], "empty")):
        with pytest.raises(StudyError, match=said):
            byrote.audit(make_model("llama"), members, NONMEMBERS, tokenizer=make_tokenizer())  # type: ignore[arg-type]


# --- what can be wrong ---------------------------------------------------------------------------


def write(path: Path, texts: list[str], **more: Any) -> Path:
    path.write_text("".join(json.dumps({"text": text} | more) + "\n" for text in texts))
    return path


def test_records_on_both_sides_are_refused(folder: Path, tmp_path: Path, call: Called) -> None:
    a, adapter = folder / "a.jsonl", ("--model", folder / "adapter")
    code, _, said = call(*adapter, "--members", a, "--nonmembers", a)
    assert code == 2 and "given as members and as nonmembers" in said
    twice = shutil.copy(a, tmp_path / "other.jsonl")
    code, _, said = call(*adapter, "--members", a, "--nonmembers", twice)
    assert code == 2 and "30 of the texts of nonmembers stand among the members" in said
    some = write(tmp_path / "some.jsonl", [*NONMEMBERS[:4], f"  {MEMBERS[6].upper()} "])
    code, _, said = call(*adapter, "--members", a, "--nonmembers", some)
    assert code == 2 and "1 of the texts of nonmembers stands" in said
    assert "some.jsonl:5, which is" in said and "a.jsonl:7" in said
    outside = write(tmp_path / "outside.jsonl", [*POPULATION, NONMEMBERS[0]])
    code, _, said = call(*adapter, *files(folder), "--population", outside)
    assert code == 2 and "1 of the texts of population stands among the nonmembers" in said


def test_copies_are_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    long = " ".join(f"w{at % 60}" for at in range(40))
    a = write(tmp_path / "a.jsonl", [*MEMBERS, MEMBERS[0], long])
    b = write(tmp_path / "b.jsonl", [*NONMEMBERS, f"{long} w7"])
    results = byrote.audit(folder / "adapter", a, b, attacks=["loss"])
    dropped = {name: count for name, count in results.manifest.splits["0"].items() if name.startswith("dropped")}
    assert dropped == {"dropped: duplicate": 1, "dropped: near-duplicate": 1}
    assert len(scores(results, "loss")) == 61
    with pytest.raises(StudyError, match=r"1 nonmembers \(1 duplicate, 1 near-duplicate left out\)"):
        byrote.audit(folder / "adapter", a, write(tmp_path / "b.jsonl", [f"{long} w7", NONMEMBERS[0]]))


def test_files_of_one_name_and_one_file_with_a_column(folder: Path, tmp_path: Path, call: Called) -> None:
    (tmp_path / "x").mkdir()
    a = write(tmp_path / "data.jsonl", MEMBERS)
    b = write(tmp_path / "x" / "data.jsonl", NONMEMBERS)
    two = byrote.audit(folder / "adapter", a, b, attacks=["loss"])
    assert set(list(scores(two, "loss"))[:2]) == {"members/data.jsonl:1", "members/data.jsonl:2"}
    one = tmp_path / "all.csv"
    words = ["1"] * 30 + ["0"] * 30
    one.write_text("text,seen\n" + "".join(f"{text},{word}\n" for text, word in zip(TEXTS, words, strict=False)))
    out = ("--attacks", "loss", "--out", tmp_path / "out")
    assert call("--model", folder / "adapter", "--data", one, "--split-column", "seen", *out)[0] == 0
    results = Results.read(tmp_path / "out")
    np.testing.assert_allclose(list(scores(results, "loss").values()), list(scores(two, "loss").values()), atol=2e-4)
    one.write_text(one.read_text().replace(",0\n", ",perhaps\n", 1))
    code, _, said = call("--model", folder / "adapter", "--data", one, "--split-column", "seen", *out)
    assert code == 2 and "all.csv:32: 'seen' is 'perhaps'" in said
    one.write_text("text,seen\nw1 w2,1\nw3 w4,yes\n")
    code, _, said = call("--model", folder / "adapter", "--data", one, "--split-column", "seen", *out)
    assert code == 2 and "names no nonmembers" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--members", "a.jsonl"], "--nonmembers"),
        (["--members", "a.jsonl", "--nonmembers", "b.jsonl", "--split-column", "x"], "column of --data"),
        (["--data", "a.jsonl"], "--split-column"),
        (["--members", "a.jsonl", "--nonmembers", "none.jsonl"], "none.jsonl"),
        (["--members", "a.jsonl", "--nonmembers", "b.jsonl", "--text", "txt"], "no column 'txt'.*'text'"),
        (["--members", "a.jsonl", "--nonmembers", "empty.jsonl"], "empty.jsonl"),
        (["--members", "a.jsonl", "--nonmembers", "bad.jsonl"], "bad.jsonl:2.*--on-bad-rows skip"),
        (["--members", "a.jsonl", "--nonmembers", "b.jsonl", "--attacks", "los"], "Did you mean 'loss'"),
    ],
)
def test_records_that_cannot_be_read(
    folder: Path, tmp_path: Path, call: Called, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    import re

    for name in ("a", "b"):
        shutil.copy(folder / f"{name}.jsonl", tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"text": "w1 w2 w3"}\n{"text": \n{"text": "w4 w5 w6"}\n')
    monkeypatch.chdir(tmp_path)
    code, _, error = call("--model", folder / "adapter", *words)
    assert code == 2 and re.search(said, error), error


def test_bad_rows_can_be_left_out(folder: Path, tmp_path: Path, call: Called) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text((folder / "b.jsonl").read_text() + '{"text": 3}\n')
    words = ("--members", folder / "a.jsonl", "--nonmembers", bad, "--on-bad-rows", "skip", "--attacks", "loss")
    code, out, _ = call("--model", folder / "adapter", *words, "--out", tmp_path / "out")
    assert code == 0 and "1 bad rows were skipped" in out


def spoiled(folder: Path, to: Path, change: Callable[[Path], Any], what: str = "adapter") -> Path:
    place = shutil.copytree(folder / what, to / "spoiled", dirs_exist_ok=True)
    change(place)
    return place


def config(**fields: Any) -> Callable[[Path], Any]:
    def change(place: Path) -> None:
        known = json.loads((place / "adapter_config.json").read_text())
        (place / "adapter_config.json").write_text(json.dumps(known | fields))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], Any]:
    def rewrite(place: Path) -> None:
        save_file(change(load_file(place / "adapter_model.safetensors")), place / "adapter_model.safetensors")

    return rewrite


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: (place / "adapter_config.json").write_text("{"), "not valid JSON"),
        (lambda place: (place / "adapter_model.safetensors").rename(place / "adapter_model.bin"), "unpickles nothing"),
        (lambda place: (place / "adapter_model.safetensors").unlink(), "has no weights"),
        (lambda place: (place / "adapter_model.safetensors").write_bytes(b"no"), "is damaged"),
        (config(task_type="SEQ_CLS"), "adapter for SEQ_CLS"),
        (config(base_model_name_or_path=None), "give that by --model"),
        (config(base_model_name_or_path="./gone"), "tuned on ./gone, which cannot be had"),
        (config(target_modules=["qq_proj"]), "does not fit the model"),
        (config(r=8), "does not fit the model"),
        (weights(lambda found: dict(list(found.items())[2:])), "does not fit the model.*missing"),
        (weights(lambda found: {f"x.{key}": value for key, value in found.items()}), "does not fit the model"),
        (weights(lambda found: found | {"base_model.model.extra.lora_A.weight": torch.zeros(4, 4)}), "have no place"),
    ],
)  # fmt: skip
def test_adapters_that_are_refused(
    folder: Path, tmp_path: Path, call: Called, change: Callable[[Path], Any], said: str
) -> None:
    import re

    place = spoiled(folder, tmp_path, change)
    code, _, error = call("--model", place, *files(folder), "--attacks", "loss", "--out", tmp_path / "out")
    assert code in (1, 2) and re.search(said, " ".join(error.split())), error


def test_models_that_are_refused(folder: Path, tmp_path: Path, call: Called) -> None:
    def audited(place: Path, *more: Any) -> str:
        code, _, error = call("--model", place, *files(folder), *more, "--out", tmp_path / "out")
        assert code in (1, 2)
        return " ".join(error.split())

    (tmp_path / "nothing").mkdir()
    assert "is not a model folder: it has no config.json" in audited(tmp_path / "nothing")
    pickled = spoiled(folder, tmp_path / "p", lambda at: (at / "model.safetensors").rename(at / "model.bin"), "model")
    assert "unpickles nothing" in audited(pickled)

    def led_astray(place: Path) -> None:
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))

    assert "which is not in its own folder" in audited(spoiled(folder, tmp_path / "s", led_astray, "model"))

    def with_code(place: Path) -> None:
        known = json.loads((place / "config.json").read_text())
        known |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
        (place / "config.json").write_text(json.dumps(known))
        (place / "own.py").write_text("raise SystemExit('it was run')")

    assert "Python code of its own, which byrote does not run" in audited(
        spoiled(folder, tmp_path / "c", with_code, "model")
    )
    wide = make_model("llama", hidden_size=64, num_attention_heads=8, num_key_value_heads=4)
    wide.save_pretrained(tmp_path / "wide")
    make_tokenizer().save_pretrained(tmp_path / "wide")
    error = audited(tmp_path / "wide", "--adapter", folder / "adapter")
    assert "does not fit the model" in error and "tuned on" in error
    assert "both adapters" in audited(folder / "adapter", "--adapter", folder / "adapter")


def test_a_base_that_reads_other_tokens_is_refused(folder: Path, tmp_path: Path, call: Called) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "model", other)
    known = json.loads((other / "tokenizer.json").read_text())
    words = known["model"]["vocab"]
    words["w3"], words["w4"] = words["w4"], words["w3"]
    (other / "tokenizer.json").write_text(json.dumps(known))
    changed = load_file(other / "model.safetensors")
    changed["model.norm.weight"] = changed["model.norm.weight"] * 1.1
    save_file(changed, other / "model.safetensors", metadata={"format": "pt"})
    with_base = ("--model", other, "--base", folder / "model", *files(folder))
    code, _, said = call(*with_base, "--out", tmp_path / "out")
    count = sum(bool({"w3", "w4"} & set(text.split())) for text in MEMBERS + NONMEMBERS)
    assert code == 1 and f"read {count} of 60 records as other tokens (first " in said and "--base none" in said
    assert call("--model", other, *files(folder), "--out", tmp_path / "out")[0] == 0


def test_files_the_wrong_way_round_are_suspected(folder: Path, tmp_path: Path) -> None:
    adapter = folder / "adapter"
    wrong = byrote.audit(adapter, NONMEMBERS, MEMBERS).warnings
    assert any("wrong way round" in warning for warning in wrong)
    assert not any("wrong way round" in warning for warning in byrote.audit(adapter, MEMBERS, NONMEMBERS).warnings)


def test_a_study_does_not_take_a_tuned_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="Use `byrote audit`"):
        run(study_of(folder, methods=["tuned"]), tmp_path)
    with pytest.raises(ValueError, match="starts from an untuned model"):
        study_of(folder, untuned=False)


class Shadowed(MembershipAttack):
    """One that wants shadow models."""

    name = "shadowed"
    access = "shadows"

    @property
    def trainings(self) -> int:
        """Two."""
        return 2

    def score(self, evidence: Evidence) -> float:
        """Nothing that matters."""
        return 0.0


def test_nothing_is_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = count_work(monkeypatch)
    results = byrote.audit(folder / "adapter", MEMBERS, NONMEMBERS, attacks=["loss", Shadowed()])
    assert "The attack shadowed was left out: it trains shadow models, and an audit trains nothing." in results.warnings
    assert work["steps"] == 0 and not list(results.failed)
    with pytest.raises(StudyError, match="No attack is left"):
        byrote.audit(folder / "adapter", MEMBERS, NONMEMBERS, attacks=[Shadowed()])
