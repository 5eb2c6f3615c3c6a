"""Every method has an engine that gives each record's own gradient, or says why it is not trained privately."""

from __future__ import annotations

from typing import Any

import pytest

from byrote.methods.base import Method
from byrote.objectives.batching import encode
from byrote.objectives.lm import Decoder
from byrote.registry import discover
from byrote.training.losses import example_loss
from byrote.training.self_test import check, choose_engine, probes
from byrote.training.state import trainable
from byrote.training.vmap import VMap
from conftest import make_texts, make_tokenizer
from method_story import REFUSED, VARIANTS, attach

METHODS: dict[str, type[Method]] = discover("method")  # type: ignore[assignment]
SPECS: list[dict[str, Any]] = [
    *({"name": name} for name, kind in METHODS.items() if not kind.not_private),
    *VARIANTS,
    {"name": "adapter", "parallel": True},
    {"name": "oft", "use_cayley_neumann": False},
]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_some_engine_passes_the_self_test(name: str, spec: dict[str, Any]) -> None:
    if (spec["name"], name) in REFUSED:
        return
    model = attach(name, spec).model
    loss = example_loss(Decoder(model), probes(encode(make_tokenizer(), make_texts(8, seed=6), 40)), 0, "cpu")
    engine, refused = choose_engine("auto", loss, loss, trainable(model))
    # The fast engine takes whatever is made of layers that it knows; then nothing was refused before it.
    assert (engine.name == "bookkeeping") == (not refused)


def test_virtual_tokens_take_the_fast_engine() -> None:
    """One lookup for the whole batch, which PEFT does to save time, would clip a batch as one record."""
    for name in ("prompt-tuning", "p-tuning", "cpt"):
        model = attach("llama", name).model
        loss = example_loss(Decoder(model), probes(encode(make_tokenizer(), make_texts(8, seed=6), 40)), 0, "cpu")
        assert choose_engine("auto", loss, loss, trainable(model))[0].name == "bookkeeping"


def test_why_adalora_is_refused_is_no_missing_engine() -> None:
    """It would pass the self-test; what is untested is its choice of ranks."""
    model = attach("llama", "adalora").model
    loss = example_loss(Decoder(model), probes(encode(make_tokenizer(), make_texts(8, seed=6), 40)), 0, "cpu")
    check(VMap, loss, trainable(model))
    assert METHODS["adalora"].not_private
