"""What can be wrong with an audit: records, adapters, models, tokenizers; each is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

import byrote
from audit_cases import LORA, MEMBERS, NONMEMBERS, POPULATION, TEXTS, Called, audit_folder, files, scores, tuned_by_hand
from byrote.attacks.base import Evidence, MembershipAttack
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.types import StudyError
from conftest import make_model, make_texts, make_tokenizer
from small_study import caller, count_work, study_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.usefixtures("quick"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, the records in files, and an adapter that was trained by hand."""
    place = audit_folder(tmp_path_factory.mktemp("audit"))
    tuned_by_hand(place, LoraConfig(**LORA), epochs=4).save_pretrained(place / "adapter")
    return place


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Called:
    return caller(capsys, "audit")


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
    assert code == 0 and "1 bad row was skipped" in out


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


def test_sides_that_differ_without_a_model_get_a_banner(folder: Path) -> None:
    shifted = make_texts(30, 5, 25, 30)  # longer than every member
    for base in ("auto", None):
        results = byrote.audit(folder / "adapter", MEMBERS, shifted, base=base, attacks=["loss"])
        assert any("can be told apart without any model" in banner for banner in results.broken_splits)
        blamed = [one for one in results.warnings if "the untuned base model" in one]
        assert all("blind" not in one for one in blamed) and (base or not blamed)


def test_a_study_does_not_take_a_tuned_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="Use `byrote audit`"):
        run(study_of(folder, methods=["tuned"]), tmp_path)
    with pytest.raises(ValueError, match="starts from an untuned model"):
        study_of(folder, untuned=False)
    with pytest.raises(StudyError, match="untuned: false is for audits alone"):
        run(study_of(folder, untuned=False, methods=["in-context"], positive_control=False), tmp_path)


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
