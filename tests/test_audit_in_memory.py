"""`byrote.audit` on objects in memory: the same numbers, and nothing of theirs changed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import byrote
from audit_cases import (
    LORA,
    MEMBERS,
    NONMEMBERS,
    POPULATION,
    audit_folder,
    base_of,
    by_definition,
    check,
    in_list,
    naive,
    scores,
    state_of,
    tuned_by_hand,
    unchanged,
)
from byrote.attacks.base import Attack
from byrote.methods.base import Method, NotForThisModel
from byrote.methods.bottleneck import know_bottleneck
from byrote.models.tuned import InMemory, changes_its_base, find_adapter, put_on, twin_of
from byrote.registry import discover
from byrote.types import ByroteError, StudyError
from conftest import make_model, make_tokenizer
from small_study import count_work

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


def test_a_base_that_is_the_tuned_model_is_refused(folder: Path, tmp_path: Path) -> None:
    tokenizer, base = make_tokenizer(), base_of(folder)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model: Any = get_peft_model(base, LoraConfig(**LORA, init_lora_weights=False))
    some: Any = {"tokenizer": tokenizer, "attacks": ["loss"]}
    with pytest.raises(StudyError, match=r'shares its modules.*base="auto"'):
        byrote.audit(model, MEMBERS, NONMEMBERS, base=base, **some)
    with pytest.raises(StudyError, match=r'has an adapter in its layers.*base="auto"'):
        byrote.audit(base_of(folder), MEMBERS, NONMEMBERS, base=base, **some)
    whole = copy.deepcopy(model).merge_and_unload()
    whole.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    same = "the tuned model and the base say the same of every text"
    with torch.no_grad():
        twin = copy.deepcopy(whole)
        twin.model.embed_tokens.weight[-1] += 1e-9  # other bytes, and no other numbers
    for other in (twin, tmp_path / "whole"):
        for _ in range(2):  # what is in the store already is refused too
            with pytest.raises(ByroteError, match=same):
                byrote.audit(whole, MEMBERS, NONMEMBERS, base=other, out=tmp_path / "out", **some)
    nothing = tuned_by_hand(folder, LoraConfig(**LORA), epochs=0)
    nothing.save_pretrained(tmp_path / "nothing")
    with pytest.raises(ByroteError, match=same):
        byrote.audit(tmp_path / "nothing", MEMBERS, NONMEMBERS, attacks=["loss"])
    assert byrote.audit(whole, MEMBERS, NONMEMBERS, base=folder / "model", **some).rows


def test_the_precision_in_memory_is_told(folder: Path) -> None:
    some: Any = {"tokenizer": make_tokenizer(), "attacks": ["loss"]}
    half, narrow = base_of(folder).to(torch.float16), base_of(folder).to(torch.bfloat16)
    with pytest.raises(StudyError, match=r"is in float16.*model\.float"):
        byrote.audit(half, MEMBERS, NONMEMBERS, **some)
    with pytest.raises(StudyError, match="in bfloat16 and its base in float32"):
        byrote.audit(narrow, MEMBERS, NONMEMBERS, base=base_of(folder), **some)
    assert byrote.audit(narrow, MEMBERS, NONMEMBERS, **some).manifest.study["dtype"] == "bfloat16"


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


def test_another_state_of_the_same_numbers_is_another_model(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = tuned_by_hand(folder, LoraConfig(**LORA)), make_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model.add_adapter("b", LoraConfig(**LORA, init_lora_weights=False))

    def audited() -> None:
        check(
            scores(
                byrote.audit(
                    model, MEMBERS, NONMEMBERS, tokenizer=tokenizer, base=None, attacks=["loss"], out=tmp_path
                ),
                "loss",
            ),
            by_definition(folder, model, in_list)["loss"],
        )

    audited()
    model.set_adapter("b")
    audited()
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    layer.scaling["b"] *= 8
    audited()
    model.base_model.disable_adapter_layers()
    audited()
    seen = {InMemory(model, tokenizer).fingerprint}
    model.base_model.enable_adapter_layers()
    assert InMemory(model, tokenizer).fingerprint not in seen
    audited()


class Quantised(torch.nn.Parameter):
    """As libraries of quantised weights have them: of a type of its own, and of integers."""


def test_flags_of_quantised_parameters_stay(folder: Path) -> None:
    model = base_of(folder).requires_grad_(False)
    model.lm_head.weight = Quantised(model.lm_head.weight.detach().clone(), requires_grad=False)
    model.extra = Quantised(torch.zeros(3, dtype=torch.uint8), requires_grad=False)
    before = state_of(model)
    InMemory(model, make_tokenizer()).load(dtype="float32", device="cpu")
    unchanged(before, state_of(model))
    some: Any = {"tokenizer": make_tokenizer(), "attacks": ["gradient-norm"]}
    byrote.audit(model, MEMBERS[:4], NONMEMBERS[:4], **some)
    unchanged(before, state_of(model))


def test_what_is_no_language_model_is_refused(folder: Path) -> None:
    from conftest import make_classifier

    for model, said in ((make_classifier("llama"), "not a causal"), (torch.nn.Linear(2, 2), "not a transformers")):
        with pytest.raises(StudyError, match=said):
            byrote.audit(model, MEMBERS, NONMEMBERS, tokenizer=make_tokenizer())  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="give tokenizer="):
        byrote.audit(make_model("llama"), MEMBERS, NONMEMBERS)
    for members, said in (
        ("one text", "no such|not a source"),
        (["a", 3], r"members\[1\]' is of type int"),
        ([" "], "empty"),
    ):
        with pytest.raises(StudyError, match=said):
            byrote.audit(make_model("llama"), members, NONMEMBERS, tokenizer=make_tokenizer())  # type: ignore[arg-type]


def test_every_attack_is_made_or_says_why_not(folder: Path) -> None:
    """Gradients, neighbours, continuations and prefixes among them; the model stays as it was."""
    kinds = [kind for kind in discover("attack").values() if issubclass(kind, Attack) and kind.kind == "membership"]
    attacks = [kind() for kind in kinds if kind.reads != "labels" and not kind.blind]
    model = tuned_by_hand(folder, LoraConfig(**LORA, lora_dropout=0.5))
    model.train()
    before = state_of(model)
    some = {"tokenizer": make_tokenizer(), "attacks": attacks, "population": POPULATION}
    results = byrote.audit(model, MEMBERS[:12], NONMEMBERS[:12], **some)  # type: ignore[arg-type]
    unchanged(before, state_of(model))
    table = results.scores()
    tuned = table[table["method"] == "tuned"]
    left_out = {one.name for one in attacks if f"The attack {one.name} was left out" in " ".join(results.warnings)}
    assert {one.name for one in attacks if one.trainings} == left_out
    assert set(tuned["attack"]) == {one.name for one in attacks} - left_out
    for name, rows in tuned.groupby("attack"):
        silent = rows["score"].isna() & (rows["reason"] == "")
        assert not silent.any() and not rows["reason"].str.contains("the attack failed").any(), name
    assert {"loss", "reference", "zlib"} <= set(tuned[tuned["score"].notna()]["attack"])
