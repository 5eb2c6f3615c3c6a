"""The contract of every registered method, on language models of every family and on classifiers, all random."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from byrote.methods.base import Method, NotForThisModel, classification_head
from byrote.registry import discover, make
from byrote.training.loop import Plan
from byrote.types import StudyError
from conftest import make_model
from method_story import REFUSED, SUBJECTS, VARIANTS, attach, outputs, story, subject, train

ALL: dict[str, type[Method]] = discover("method")  # type: ignore[assignment]
METHODS = {name: kind for name, kind in ALL.items() if kind.learning_rates}
"""Those that train; what trains nothing has nothing of this contract to keep."""

WORKS = [(method, name) for method in METHODS for name in SUBJECTS if (method, name) not in REFUSED]
TOLERANCE = 1e-5
"""Of logits of size 5, in float32. PiSSA and HRA take a matrix apart and put it together again."""


@pytest.mark.parametrize(("method", "name"), REFUSED)
def test_a_method_says_what_it_is_not_for(method: str, name: str) -> None:
    with pytest.raises(NotForThisModel) as refusal:
        attach(name, method)
    assert REFUSED[method, name] in str(refusal.value)


@pytest.mark.parametrize(("method", "name"), WORKS)
def test_the_outputs_start_where_the_method_says(method: str, name: str) -> None:
    told = story(name, method)
    change = float((told.first_outputs - told.base_outputs).abs().max())
    assert change < TOLERANCE if METHODS[method].starts_as_base else change > 0.01


@pytest.mark.parametrize(("method", "name"), WORKS)
def test_only_the_methods_own_parameters_move(method: str, name: str) -> None:
    told = story(name, method)
    assert told.moved <= set(told.trainable)
    # A piece that a step leaves as it was may be unused (a gate that is closed); most must move.
    assert len(told.moved) >= 0.9 * len(told.trainable) > 0
    assert float((told.last_outputs - told.first_outputs).abs().max()) > 1e-4


@pytest.mark.parametrize(("method", "name"), WORKS)
def test_what_is_saved_loads_with_plain_libraries(method: str, name: str) -> None:
    told = story(name, method)
    assert torch.allclose(told.loaded_outputs, told.last_outputs, atol=TOLERANCE)


@pytest.mark.parametrize(("method", "name"), [pair for pair in WORKS if METHODS[pair[0]].is_adapter])
def test_an_adapter_trains_exactly_what_peft_calls_the_methods_and_the_head(method: str, name: str) -> None:
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    told = story(name, method)
    config = told.model.peft_config["default"]  # type: ignore[index, union-attr]
    head = {key for key in told.trainable if ".modules_to_save." in key or key.startswith("base_model.classifier")}
    head |= {key for key in told.trainable if key.startswith("base_model.score")}
    expected = sum(p.numel() for layer in classification_head(subject(name)) for p in layer.parameters())
    assert sum(told.trainable[key].numel() for key in head) == expected
    own = set(told.trainable) - head
    if config.is_prompt_learning:
        assert own and all(key.startswith("prompt_encoder.") for key in own)
    else:
        prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type].replace("adaption_prompt_", "adaption_")  # gates too
        everything = {key for key in told.trainable | told.frozen if prefix in key}
        assert own == everything


@pytest.mark.parametrize("method", [method for method, name in WORKS if name == "llama"])
def test_attaching_again_gives_the_same_model(method: str) -> None:
    """A resumed run attaches anew and restores what trains: all else must come out the same, to the bit."""
    one, two = (attach("llama", method).model.state_dict() for _ in range(2))
    assert list(one) == list(two)
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


@pytest.mark.parametrize("spec", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert, labels"])
def test_variants_keep_the_contract(name: str, spec: dict[str, Any]) -> None:
    if (spec["name"], name) in REFUSED:
        with pytest.raises(NotForThisModel):
            attach(name, spec)
        return
    told = story(name, spec)
    assert told.moved <= set(told.trainable) and len(told.moved) >= 0.9 * len(told.trainable) > 0
    assert torch.allclose(told.loaded_outputs, told.last_outputs, atol=TOLERANCE)
    if told.method.starts_as_base:
        assert torch.allclose(told.first_outputs, told.base_outputs, atol=TOLERANCE)


# --- which parameters, in closed form -------------------------------------------------------------


def count(name: str, spec: str | dict[str, Any]) -> int:
    return sum(value.numel() for value in story(name, spec).trainable.values())


WIDTH, INNER, LAYERS, HEADS = 32, 48, 2, {"llama, labels": 96, "bert, labels": 99}
QUERY_VALUE = [(32, 32), (32, 16)]
"""(in, out) of llama's query and value projections."""
MLP = [(32, 48), (32, 48), (48, 32)]
COUNTS: list[tuple[str, Any, int]] = [
    # r (in + out) for each matrix
    ("llama", {"name": "lora", "r": 4}, LAYERS * sum(4 * (i + o) for i, o in QUERY_VALUE)),
    ("llama", {"name": "lora", "placement": "mlp"}, LAYERS * sum(8 * (i + o) for i, o in MLP)),
    ("llama", {"name": "lora", "placement": "both"}, LAYERS * sum(8 * (i + o) for i, o in QUERY_VALUE + MLP)),
    ("bert, labels", {"name": "lora", "placement": "mlp"}, LAYERS * 2 * 8 * (WIDTH + INNER) + 99),
    ("gpt2", {"name": "lora", "placement": "mlp"}, LAYERS * 2 * 8 * (WIDTH + 4 * WIDTH)),
    ("llama", "rslora", LAYERS * sum(8 * (i + o) for i, o in QUERY_VALUE)),
    ("llama", "dora", LAYERS * sum(8 * (i + o) + o for i, o in QUERY_VALUE)),  # and a length for each output
    ("llama", "adalora", LAYERS * sum(12 * (i + o + 1) for i, o in QUERY_VALUE)),
    ("llama", {"name": "vera", "r": 20}, LAYERS * sum(20 + o for _, o in QUERY_VALUE)),
    ("llama", "loha", LAYERS * sum(2 * 8 * (i + o) for i, o in QUERY_VALUE)),
    ("llama", "hra", LAYERS * sum(8 * i for i, _ in QUERY_VALUE)),
    ("llama", "oft", LAYERS * 2 * (WIDTH // 32) * (32 * 31 // 2)),  # skew-symmetric blocks of 32
    ("llama", "ia3", LAYERS * (16 + 16 + INNER)),
    ("gpt2", "ia3", LAYERS * (3 * WIDTH + 4 * WIDTH)),
    ("bert, labels", "ia3", LAYERS * (WIDTH + WIDTH + INNER) + 99),
    ("llama", "adapter", LAYERS * 2 * (2 * 16 * WIDTH + 16 + WIDTH)),
    ("llama", {"name": "adapter", "placement": "pfeiffer", "bottleneck_size": 5}, LAYERS * (2 * 5 * WIDTH + 5 + WIDTH)),
    ("llama", "llama-adapter", 10 * WIDTH + 1),  # all blocks but the lowest
    ("llama", "norm-tuning", (2 * LAYERS + 1) * WIDTH),
    ("qwen3", "norm-tuning", (2 * LAYERS + 1) * WIDTH + LAYERS * 2 * 8),  # and those of queries and keys
    ("gpt2", "bitfit", LAYERS * ((3 + 1 + 4 + 1) * WIDTH + 2 * WIDTH) + WIDTH),
    ("llama", "top-layers", 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * WIDTH + WIDTH),
    ("llama", {"name": "top-layers", "layers": 2}, 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * WIDTH) + WIDTH),
    ("llama, labels", "head", 96),
    ("gpt2", "head", 64 * WIDTH),
    ("llama", "prompt-tuning", 10 * WIDTH),
    ("llama", "prefix-tuning", 10 * LAYERS * 2 * 16),
    ("llama", {"name": "cpt", "cpt_token_ids": [5, 6, 7]}, 3 * WIDTH),
]


@pytest.mark.parametrize(("name", "spec", "expected"), COUNTS, ids=str)
def test_trainable_numbers_are_those_of_the_papers(name: str, spec: Any, expected: int) -> None:
    assert count(name, spec) == expected


def test_top_layers_are_the_last_ones_and_what_stands_above_them() -> None:
    for name, above in (
        ("llama", "model.norm"),
        ("gpt2", "transformer.ln_f"),
        ("gpt_neox", "gpt_neox.final_layer_norm"),
    ):
        names = set(story(name, "top-layers").trainable)
        assert {key for key in names if ".1." not in key} == {f"{above}.{p}" for p in ("weight", "bias")} & set(names)
        assert f"{above}.weight" in names
    outside = {key for key in story("bert, labels", "top-layers").trainable if ".layer.1." not in key}
    assert outside == {f"{part}.{p}" for part in ("bert.pooler.dense", "classifier") for p in ("weight", "bias")}


def test_every_classifier_trains_its_head() -> None:
    for method, name in WORKS:
        if name in HEADS:
            moved = {key for key in story(name, method).moved if "score" in key or "classifier" in key}
            assert moved, f"{method} leaves the head of {name} as it was"


# --- single methods -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_head_unties_a_tied_model_and_says_so(name: str) -> None:
    base = subject(name)
    assert base.get_output_embeddings().weight is base.get_input_embeddings().weight
    done = attach(name, "head")
    assert "untied" in done.notes[0]
    model: Any = done.model
    embedding = model.get_input_embeddings().weight.detach().clone()
    head = model.get_output_embeddings().weight.detach().clone()
    train(done)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert not torch.equal(model.get_output_embeddings().weight, head)


def test_head_of_an_untied_model_needs_no_note() -> None:
    assert attach("gpt_neox", "head").notes == ()


def test_disabling_an_adapter_gives_the_base_but_for_pissa() -> None:
    for method, name in WORKS:
        told = story(name, method)
        if name == "llama" and told.method.is_adapter:
            with told.model.disable_adapter():  # type: ignore[operator]
                same = torch.allclose(outputs(told.model), told.base_outputs, atol=TOLERANCE)
            assert same == (method != "pissa"), method


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma2", "qwen3", "llama, labels"])
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_parallel_adapters_keep_the_contract(name: str, placement: str) -> None:
    told = story(name, {"name": "adapter", "placement": placement, "parallel": True, "scaling": 4})
    assert torch.equal(told.first_outputs, told.base_outputs)
    assert len(told.moved) == len(told.trainable) > 0
    assert torch.allclose(told.loaded_outputs, told.last_outputs, atol=TOLERANCE)


def test_parallel_adapters_need_a_half_in_one_module() -> None:
    with pytest.raises(NotForThisModel, match="bert blocks keep no half in one module"):
        attach("bert, labels", {"name": "adapter", "parallel": True})


def test_an_adapter_computes_the_papers_formula() -> None:
    """h + up(relu(down(h))) after the layer; layer(x) + s up(relu(down(x))) beside it."""
    for parallel, scale in ((False, 1.0), (True, 4.0)):
        model: Any = attach("llama", {"name": "adapter", "parallel": parallel, "scaling": scale}).model
        block = model.base_model.model.model.layers[0]
        layer = block.mlp if parallel else block.mlp.down_proj
        x = torch.randn(2, 5, WIDTH if parallel else INNER, generator=torch.Generator().manual_seed(1))
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
        torch.nn.init.normal_(up.weight, generator=torch.Generator().manual_seed(2))
        plain = layer.base_layer(x)
        h = x if parallel else plain
        inner = torch.relu(h @ down.weight.T + down.bias)
        torch.testing.assert_close(layer(x), plain + scale * (inner @ up.weight.T + up.bias))


def test_an_adapter_cannot_be_merged_and_says_so() -> None:
    model: Any = attach("llama", "adapter").model
    with pytest.raises(ValueError, match="no change of weights"):
        model.merge_and_unload()


PLAIN = """
import sys, byrote
assert "peft" not in sys.modules
byrote.know_bottleneck(); byrote.know_bottleneck()
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
config = PeftConfig.from_pretrained(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from conftest import make_model
model = PeftModel.from_pretrained(make_model("llama"), sys.argv[1])
print(config.peft_type.value, len(get_peft_model_state_dict(model)))
"""


def test_another_program_loads_an_adapter_after_one_line(tmp_path: Path) -> None:
    model: Any = story("llama", "adapter").model
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    words = [sys.executable, "-c", PLAIN, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["BYROTE_BOTTLENECK", "16"], done.stderr


def test_oft_says_which_block_size_it_took() -> None:
    notes = attach("llama", {"name": "oft", "placement": "mlp"}).notes
    assert notes == ("oft: oft_block_size 32 does not divide the inputs of every matrix; there PEFT took 24.",)
    assert attach("llama", "oft").notes == ()


def test_cpt_keeps_every_token_near_its_start() -> None:
    told = story("llama", "cpt")
    outputs(told.model)  # the projection is part of the forward pass
    delta = next(p for key, p in told.model.named_parameters() if "delta_embedding" in key)
    radius = 0.1 * math.sqrt(WIDTH / 2048)
    lengths = delta.detach().norm(dim=1)
    assert bool((lengths <= radius * (1 + 1e-5)).all()) and float(lengths.max()) > 0.99 * radius


def test_cpt_ids_lie_in_the_vocabulary() -> None:
    with pytest.raises(NotForThisModel, match="holds 64, but the vocabulary ends at 63"):
        attach("llama", {"name": "cpt", "cpt_token_ids": [64]})


# --- names, grids, settings -----------------------------------------------------------------------


def test_virtual_tokens_are_the_prompt_family() -> None:
    for name, kind in METHODS.items():
        method = make("method", name)
        assert isinstance(method, Method)
        assert (method.virtual_tokens > 0) == (kind.family == "prompt") == (kind.subfamily == "prompt")
    assert make("method", {"name": "cpt", "cpt_token_ids": [1, 2]}).virtual_tokens == 2  # type: ignore[attr-defined]


def test_only_in_context_trains_nothing() -> None:
    assert set(ALL) - set(METHODS) == {"in-context", "tuned"}
    for name in SUBJECTS:
        if name in HEADS:
            with pytest.raises(NotForThisModel, match="use a language model"):
                attach(name, "in-context")
        else:
            assert not any(parameter.requires_grad for parameter in attach(name, "in-context").model.parameters())


def test_grids_rise_and_settings_round_trip() -> None:
    for name, kind in METHODS.items():
        rates = kind.learning_rates
        assert list(rates) == sorted(set(rates)) and len(rates) == 4
        assert make("method", {"name": name}) == make("method", name)
        assert set(kind.tasks) <= {"lm", "completion", "classification"} and "lm" in kind.tasks


def test_the_tasks_are_those_that_work() -> None:
    for name, kind in METHODS.items():
        if name != "qlora":
            assert ("classification" in kind.tasks) == any((name, one) in WORKS for one in HEADS)


@pytest.mark.parametrize("name", ["lora", "loha", "vera"])
def test_without_default_targets_a_method_says_what_to_set(name: str) -> None:
    model = make_model("llama")
    model.config.model_type = "unheard-of"
    with pytest.raises(NotForThisModel, match=f"name: {name}, target_modules: all-linear"):
        METHODS[name]().attach(model)


def test_peft_refusals_are_for_people() -> None:
    with pytest.raises(NotForThisModel, match="PEFT refuses LORA on llama"):
        attach("llama", {"name": "lora", "target_modules": ["no_such_layer"]})


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"name": "lora", "placement": "mlp", "target_modules": ["q_proj"]},
            "set placement or target_modules, not both",
        ),
        ({"name": "adalora", "target_r": 12}, "target_r must be below init_r"),
        ({"name": "hra", "r": 3}, "multiple of 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_contradict_each_other(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        make("method", spec)


def test_more_layers_than_the_model_has() -> None:
    with pytest.raises(NotForThisModel, match="layers is 3, but the model has 2 blocks"):
        attach("llama", {"name": "top-layers", "layers": 3})


def test_qlora_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from byrote.methods import qlora

    monkeypatch.setattr(qlora, "find_spec", lambda _: None)
    model = make_model("llama")
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    with pytest.raises(NotForThisModel, match="pip install bitsandbytes"):
        METHODS["qlora"]().attach(model)


def test_plan_rates_follow_their_closed_form() -> None:
    plan = Plan(1, 2, 0.1, 0.25, "linear", 0, None, 0)
    assert [plan.rate(step, 8) for step in range(8)] == pytest.approx(
        [0.05, 0.1, *(0.1 * (8 - step) / 6 for step in range(2, 8))]
    )
    constant = Plan(1, 2, 0.1, 0.25, "constant", 0, None, 0)
    assert [constant.rate(step, 8) for step in range(8)] == pytest.approx([0.05, *[0.1] * 7])
    assert plan.steps(9) == math.ceil(9 / 2) and Plan(3, 2, 1, 0, "linear", 0, None, 0, max_steps=7).steps(9) == 7
