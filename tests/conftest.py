"""Small random models of the families that byrote promises, with a word tokenizer, all made in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

torch.set_num_threads(1)  # random models are too small for two threads to help
WORDS = [f"w{number}" for number in range(60)]
COMMON = {"vocab_size": 64, "bos_token_id": 2, "eos_token_id": 0, "pad_token_id": 0}
LLAMA = {
    **COMMON,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": LLAMA,
    "gpt2": {**COMMON, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {
        **COMMON,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "gemma2": {**LLAMA, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0, "sliding_window": 16},
    "qwen3": LLAMA,
}


def _random(kind: type, config: PreTrainedConfig) -> PreTrainedModel:
    """A model of this configuration with random weights, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model: PreTrainedModel = kind.from_config(config, dtype=torch.float32)  # type: ignore[attr-defined]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.2)
    return model.eval()


def make_model(family: str, **changes: object) -> PreTrainedModel:
    """A random model of a family, weights drawn large enough that logits differ clearly."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(family, **{**FAMILIES[family], **changes})
    return _random(AutoModelForCausalLM, config)


BERT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODERS: dict[str, dict[str, object]] = {
    "bert": BERT,
    "roberta": BERT,
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
}


def make_classifier(family: str, labels: int = 3) -> PreTrainedModel:
    """A random classifier of a decoder or encoder family, with large weights as above."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    common = {"vocab_size": 64, "max_position_embeddings": 66, "pad_token_id": 0}
    fields = FAMILIES[family] if family in FAMILIES else {**common, **ENCODERS[family]}
    config = AutoConfig.for_model(family, **{**fields, "num_labels": labels})
    return _random(AutoModelForSequenceClassification, config)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One id per word; pad is the end-of-text token, as in SmolLM2."""
    vocabulary = {token: index for index, token in enumerate(["<eos>", "<unk>", "<bos>", "<x>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>", padding_side="right"
    )


def make_texts(count: int, seed: int = 0, low: int = 2, high: int = 20) -> list[str]:
    """Random texts of `low` to `high` words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(low, high + 1, (count,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(0, 60, (n,), generator=generator).tolist()) for n in lengths]


# What small_study offers, which imports this module.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model and 80 texts, the same for all tests of a module."""
    from small_study import make_folder

    return make_folder(tmp_path_factory.mktemp("small"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HTML, and no waiting for the disk."""
    from small_study import leave_out_what_is_slow

    leave_out_what_is_slow(monkeypatch)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Optimiser steps and scored texts, counted from here on."""
    from small_study import count_work

    return count_work(monkeypatch)


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Every family in turn."""
    return str(request.param)


@pytest.fixture
def model_of() -> Callable[..., PreTrainedModel]:
    """Makes a random model of a family."""
    return make_model


@pytest.fixture(scope="session")
def word_tokenizer() -> PreTrainedTokenizerFast:
    """The word tokenizer of the random models."""
    return make_tokenizer()
