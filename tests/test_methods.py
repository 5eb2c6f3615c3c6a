"""The contract of every registered method, on every family of random models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from byrote.methods.base import Method, NotForThisModel
from byrote.objectives.batching import collate, encode
from byrote.objectives.lm import Decoder
from byrote.registry import discover, make
from byrote.training.cost import seeded
from byrote.training.loop import Plan, Training
from byrote.training.losses import example_loss
from conftest import make_model, make_texts, make_tokenizer

METHODS = discover("method")
UNCHANGED_AT_START = {"full", "head", "lora"}
PLAN = Plan(
    epochs=3, batch_size=4, learning_rate=1e-2, warmup_ratio=0, lr_scheduler_type="constant", weight_decay=0,
    max_grad_norm=None, seed=0, max_steps=3,
)  # fmt: skip


def attached(family: str, method: str) -> torch.nn.Module:
    """A fresh model with the method on it; skips where the method says that it is not for this family."""
    with seeded(1):
        try:
            return METHODS[method]().attach(make_model(family)).model  # type: ignore[attr-defined]
        except NotForThisModel as reason:
            pytest.skip(str(reason))


def logits(model: torch.nn.Module) -> torch.Tensor:
    batch = collate(encode(make_tokenizer(), make_texts(3, seed=5), 64), 0)
    model.eval()
    with torch.no_grad():
        out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    return out[:, -batch.input_ids.shape[1] :][batch.attention_mask.bool()]


def train(model: torch.nn.Module) -> None:
    examples = encode(make_tokenizer(), make_texts(8, seed=6), 40)
    loss = example_loss(Decoder(model), examples, 0, "cpu")
    with seeded(2):
        for _ in Training(model, loss, [len(e.ids) for e in examples], PLAN).run():
            pass


@pytest.mark.parametrize("method", METHODS)
def test_only_the_methods_own_parameters_move(family: str, method: str) -> None:
    model = attached(family, method)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trainable
    train(model)
    for name, value in model.named_parameters():
        same = torch.equal(value, before[name])
        # A fused or unused piece may stand still; a frozen one must.
        assert same or name in trainable, f"{name} is frozen and moved"
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert len(moved) >= 0.9 * len(trainable)


@pytest.mark.parametrize("method", sorted(UNCHANGED_AT_START & set(METHODS)))
def test_attaching_changes_no_output(family: str, method: str) -> None:
    assert torch.allclose(logits(attached(family, method)), logits(make_model(family)), atol=1e-6)


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if kind.is_adapter])  # type: ignore[attr-defined]
def test_a_trained_adapter_loads_with_plain_peft(family: str, method: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = attached(family, method)
    train(model)
    expected = logits(model)
    make_model(family).save_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with pytest.warns(FutureWarning):  # PEFT 0.21 asks transformers 5 by an old name
        again = PeftModel.from_pretrained(make_model(family), tmp_path / "adapter")
    assert torch.allclose(logits(again), expected, atol=1e-6)
    assert not torch.allclose(expected, logits(make_model(family)), atol=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_head_unties_a_tied_model_and_says_so(family: str) -> None:
    model = make_model(family)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    done = METHODS["head"]().attach(model)  # type: ignore[attr-defined]
    assert "untied" in done.notes[0]
    embedding = model.get_input_embeddings().weight.detach().clone()
    head = model.get_output_embeddings().weight.detach().clone()
    train(model)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert not torch.equal(model.get_output_embeddings().weight, head)


def test_head_of_an_untied_model_needs_no_note() -> None:
    done = METHODS["head"]().attach(make_model("gpt_neox"))  # type: ignore[attr-defined]
    assert done.notes == ()


def test_an_untied_head_survives_saving(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = METHODS["head"]().attach(make_model("gpt2")).model  # type: ignore[attr-defined]
    train(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(model))


def test_virtual_tokens_are_the_prompt_family(family: str) -> None:
    for name, kind in METHODS.items():
        method = make("method", name)
        assert isinstance(method, Method)
        assert (method.virtual_tokens > 0) == (kind.family == "prompt")  # type: ignore[attr-defined]


def test_grids_rise_and_settings_round_trip() -> None:
    for name, kind in METHODS.items():
        rates = kind.learning_rates  # type: ignore[attr-defined]
        assert list(rates) == sorted(set(rates)) and len(rates) >= 3
        assert make("method", {"name": name}) == make("method", name)


def test_lora_without_default_targets_says_what_to_set() -> None:
    model = make_model("llama")
    model.config.model_type = "unheard-of"
    with pytest.raises(NotForThisModel, match="target_modules: all-linear"):
        METHODS["lora"]().attach(model)  # type: ignore[attr-defined]


def test_peft_refusals_are_for_people() -> None:
    lora = make("method", {"name": "lora", "target_modules": ["no_such_layer"]})
    assert isinstance(lora, Method)
    with pytest.raises(NotForThisModel, match="PEFT refuses LORA on llama"):
        lora.attach(make_model("llama"))


def test_lora_counts_match_the_paper() -> None:
    """r (d_in + d_out) per adapted matrix: 2 layers x (32 + 32 for q, 32 + 16 for v) x r."""
    model = METHODS["lora"](r=4).attach(make_model("llama")).model  # type: ignore[call-arg, attr-defined]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 4 * ((32 + 32) + (32 + 16))


def test_plan_rates_follow_their_closed_form() -> None:
    plan = Plan(1, 2, 0.1, 0.25, "linear", 0, None, 0)
    assert [plan.rate(step, 8) for step in range(8)] == pytest.approx(
        [0.05, 0.1, *(0.1 * (8 - step) / 6 for step in range(2, 8))]
    )
    constant = Plan(1, 2, 0.1, 0.25, "constant", 0, None, 0)
    assert [constant.rate(step, 8) for step in range(8)] == pytest.approx([0.05, *[0.1] * 7])
    assert plan.steps(9) == math.ceil(9 / 2) and Plan(3, 2, 1, 0, "linear", 0, None, 0, max_steps=7).steps(9) == 7
