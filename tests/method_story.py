"""What happens to one small model with one method on it, from attaching to loading again: told once, asked often."""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from byrote.methods.base import Attached, Method
from byrote.objectives.batching import collate, encode
from byrote.objectives.lm import Decoder
from byrote.registry import make
from byrote.training.cost import seeded
from byrote.training.loop import Plan, Training
from byrote.training.losses import example_loss
from conftest import FAMILIES, make_classifier, make_model, make_texts, make_tokenizer

SUBJECTS = (*FAMILIES, "llama, labels", "bert, labels")
"""Language models by family, and classifiers."""
NO_BIAS = "this {} model has no bias terms, so nothing would train"
CONV1D = "PEFT refuses {} on gpt2 models: Target module"
NO_ADAPTION = "PEFT refuses ADAPTION_PROMPT on {} models: Unsupported model type"
REFUSED: dict[tuple[str, str], str] = {
    **{("bitfit", name): NO_BIAS.format(name) for name in ("llama", "gemma2", "qwen3")},
    ("bitfit", "llama, labels"): NO_BIAS.format("llama"),
    **{(name, "gpt2"): CONV1D.format(name.upper()) for name in ("hra", "loha", "lokr", "oft")},
    **{("llama-adapter", name): NO_ADAPTION.format(name) for name in ("gpt_neox", "gemma2", "qwen3")},
    **{("llama-adapter", f"{name}, labels"): "does not train a classification head" for name in ("llama", "bert")},
    **{("cpt", f"{name}, labels"): "PEFT has it for language models only" for name in ("llama", "bert")},
    **{("qlora", name): "4-bit matrices need a GPU" for name in SUBJECTS},
}
"""What each method is not for, and a part of what it says; every other pair works."""
VARIANTS: list[dict[str, Any]] = [
    {"name": "lora", "placement": "mlp"},
    {"name": "lora", "placement": "both"},
    {"name": "lora", "target_modules": "all-linear"},
    {"name": "oft", "placement": "both"},
    {"name": "adapter", "placement": "pfeiffer"},
    {"name": "prefix-tuning", "prefix_projection": True},
    {"name": "p-tuning", "encoder_reparameterization_type": "LSTM"},
    {"name": "cpt", "cpt_token_ids": [5, 6, 7]},
]
"""Settings that make another network of a method."""
PLAN = Plan(
    epochs=3, batch_size=4, learning_rate=1e-2, warmup_ratio=0, lr_scheduler_type="constant", weight_decay=0,
    max_grad_norm=None, seed=0, max_steps=3,
)  # fmt: skip

Weights = dict[str, torch.Tensor]


def subject(name: str) -> Any:
    """A fresh model; always the same."""
    family, _, labels = name.partition(", ")
    return make_classifier(family) if labels else make_model(family)


def attach(name: str, spec: str | dict[str, Any]) -> Attached:
    """A method on a fresh model."""
    method = make("method", spec)
    assert isinstance(method, Method)
    with seeded(1):
        return method.attach(subject(name))


def outputs(model: nn.Module) -> torch.Tensor:
    """Logits of three texts: at every token of a language model, of the classes of a classifier."""
    model.eval()
    with torch.no_grad():
        if "Classification" in type(model).__name__:
            ids = class_batch()
            return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        batch = collate(encode(make_tokenizer(), make_texts(3, seed=5), 64), 0)
        found = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    return found[:, -batch.input_ids.shape[1] :][batch.attention_mask.bool()]


def class_batch() -> torch.Tensor:
    """(3, 9) ids; of one length, so that nothing depends on where a decoder pools."""
    return torch.randint(4, 64, (3, 9), generator=torch.Generator().manual_seed(0))


def train(attached: Attached, plan: Plan = PLAN) -> None:
    """byrote's loop for a language model; three plain steps for a classifier."""
    model = attached.model
    with seeded(2):
        if "Classification" not in type(model).__name__:
            examples = encode(make_tokenizer(), make_texts(8, seed=6), 40)
            loss = example_loss(Decoder(model), examples, 0, "cpu")
            lengths = [len(e.ids) for e in examples]
            for _ in Training(model, loss, lengths, plan, regimen=attached.regimen).run():
                pass
            return
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0)
        ids, labels = class_batch(), torch.tensor([0, 1, 2])
        for _ in range(3):
            found = model.train()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(found, labels))
            optimizer.step()


def load_again(name: str, model: nn.Module, *, adapter: bool) -> nn.Module:
    """Saved by its library and loaded by plain PEFT or transformers."""
    from peft import PeftModel

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)  # a norm has no in_features
        warnings.filterwarnings("ignore", "Invalid `oft_block_size`", UserWarning)  # told in a note
        if adapter:
            model.save_pretrained(Path(folder), save_embedding_layers=False)  # type: ignore[operator]
            return PeftModel.from_pretrained(subject(name), folder)
        model.save_pretrained(Path(folder))  # type: ignore[operator]
        return type(model).from_pretrained(folder)  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True, eq=False)
class Story:
    """One method on one model."""

    method: Method
    model: nn.Module
    trainable: Weights
    """What required gradients after attaching, as it was then."""
    frozen: Weights
    after: Weights
    """Every parameter after three steps."""
    base_outputs: torch.Tensor
    first_outputs: torch.Tensor
    last_outputs: torch.Tensor
    loaded_outputs: torch.Tensor
    base_names: set[str]

    @property
    def moved(self) -> set[str]:
        """Names of what training changed."""
        before = self.trainable | self.frozen
        return {name for name, value in self.after.items() if not torch.equal(value, before[name])}


@functools.cache
def _story(name: str, spec: str) -> Story:
    method = make("method", json.loads(spec))
    assert isinstance(method, Method)
    base = subject(name)
    attached = attach(name, json.loads(spec))
    model = attached.model
    start = {key: (value.detach().clone(), value.requires_grad) for key, value in model.named_parameters()}
    first = outputs(model)
    train(attached)
    last = outputs(model)
    return Story(
        method=method,
        model=model,
        trainable={key: value for key, (value, trains) in start.items() if trains},
        frozen={key: value for key, (value, trains) in start.items() if not trains},
        after={key: value.detach().clone() for key, value in model.named_parameters()},
        base_outputs=outputs(base),
        first_outputs=first,
        last_outputs=last,
        loaded_outputs=outputs(load_again(name, model, adapter=method.is_adapter)),
        base_names={key for key, _ in base.named_parameters()},
    )


def story(name: str, spec: str | dict[str, Any]) -> Story:
    """The story of a method on a subject. Raises NotForThisModel."""
    return _story(name, json.dumps(spec, sort_keys=True))
