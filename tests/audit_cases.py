"""What the tests of audits share: records, adapters that were trained by hand, and scores by their definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from byrote.report.results import Results
from conftest import make_texts, make_tokenizer
from small_study import make_folder

TEXTS = make_texts(80, 1, 6, 20)
MEMBERS, NONMEMBERS, POPULATION = TEXTS[:30], TEXTS[30:60], TEXTS[60:]
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
Called = Callable[..., tuple[int, str, str]]


def base_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)


def tuned_by_hand(folder: Path, config: Any, rate: float = 1e-2, epochs: int = 1) -> Any:
    """A PEFT model that was trained a little by a loop of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model: Any = get_peft_model(base_of(folder), config)
    tokenizer = make_tokenizer()
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=rate)
    for text in MEMBERS[:10] if epochs == 1 else MEMBERS * epochs:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def audit_folder(place: Path) -> Path:
    """A folder with model/ and the members, nonmembers and population in files."""
    make_folder(place)
    for name, texts in (("a", MEMBERS), ("b", NONMEMBERS), ("c", POPULATION)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return place


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
