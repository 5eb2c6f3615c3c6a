"""Encoders classify, and are refused as language models; the shipped one is what it is said to be."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import byrote.models
from byrote.models.load import load, resolve
from byrote.registry import discover
from byrote.types import StudyError
from conftest import ENCODERS, make_classifier, make_tokenizer

PACKAGE = Path(byrote.models.__file__).parent
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import build_encoder  # noqa: E402


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_is_no_language_model(family: str, tmp_path: Path) -> None:
    """transformers would load BERT as one, and every token would see those that it should foretell."""
    from transformers import AutoModelForMaskedLM

    AutoModelForMaskedLM.from_config(make_classifier(family).config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(StudyError, match=r"not a causal language model.*objective: classification"):
        load(resolve(str(tmp_path)))
    assert load(resolve(str(tmp_path)), labels=("a", "b")).model.config.num_labels == 2
    if family == "bert":  # as one that was trained to write
        config = tmp_path / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"is_decoder": True}))
        load(resolve(str(tmp_path)))


def test_the_shipped_models_are_small() -> None:
    shipped = [path for folder in ("tiny", "tiny-encoder") for path in (PACKAGE / folder).iterdir()]
    assert sum(path.stat().st_size for path in shipped) <= 12_000_000


class TestTinyEncoder:
    folder = PACKAGE / "tiny-encoder"

    def test_its_files(self) -> None:
        assert sum(path.stat().st_size for path in self.folder.iterdir()) <= 5_000_000
        assert {weight.dtype for weight in load_file(self.folder / "model.safetensors").values()} == {torch.float32}
        training = json.loads((self.folder / "training.json").read_text())
        assert training["corpus"] == "botocore==1.35.54"
        assert training["wheel_sha256"] in (self.folder / "NOTICE.md").read_text()

    def test_its_weights_are_those_of_the_published_results(self) -> None:
        digest = hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()
        assert digest == "1acf7133a4f9e6d03a8ce0434670c00d03f3a7c157c7872eaf426f21fff29cbb"

    def test_its_tokenizer_closes_each_text_and_loses_nothing(self) -> None:
        tokenizer = load(resolve("builtin:tiny-encoder"), labels=("a", "b")).tokenizer
        text = "  Größe: naïve — 表\t{\"a\": 'b'} don't  "
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids[1:-1]) == text
        assert [tokenizer.convert_ids_to_tokens(at) for at in (ids[0], ids[-1])] == ["[CLS]", "[SEP]"]
        assert len({tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id}) == 3
        cut = tokenizer(text, truncation=True, max_length=5)["input_ids"]
        assert len(cut) == 5 and cut[-1] == tokenizer.sep_token_id

    def test_as_a_classifier_nothing_is_new_but_the_head(self) -> None:
        stored = load_file(self.folder / "model.safetensors")
        loaded = load(resolve("builtin:tiny-encoder"), labels=("a", "b", "c"))
        weights = loaded.model.state_dict()
        assert {name for name in weights if name not in stored} == {"classifier.weight", "classifier.bias"}
        assert all(torch.equal(weight, stored[name]) for name, weight in weights.items() if name in stored)
        assert loaded.model.config.num_labels == 3 and not loaded.model.training

    def test_language_modelling_is_refused(self) -> None:
        with pytest.raises(StudyError, match="builtin:tiny-encoder is not a causal language model"):
            load(resolve("builtin:tiny-encoder"))

    def test_its_masked_loss_is_the_documented_one(self) -> None:
        from transformers import AutoModelForMaskedLM

        texts = pq.read_table(PACKAGE.parent / "data" / "builtin" / "aws-docs.parquet")["text"].to_pylist()
        model = AutoModelForMaskedLM.from_pretrained(self.folder).eval()
        assert model.num_parameters() + 128 * 129 == discover("model")["builtin:tiny-encoder"].parameters
        tokenizer = load(resolve("builtin:tiny-encoder"), labels=("a", "b")).tokenizer
        ids = tokenizer(texts[:200], truncation=True, max_length=256)["input_ids"]
        training = json.loads((self.folder / "training.json").read_text())
        found = masked_loss(model, tokenizer, ids)
        assert abs(found - training["aws_docs_sample"]["masked_loss"]) < 0.25
        assert found < training["unigram_loss"] - 1 < training["untrained_masked_loss"] - 2


def masked_loss(model: Any, tokenizer: Any, rows: list[list[int]]) -> float:
    """A plain loop: one text at a time, each seventh token hidden."""
    found = []
    for row in rows:
        seen = torch.tensor([row])
        hidden = torch.arange(1, len(row) - 1, 7)
        targets = seen[0, hidden].clone()
        seen[0, hidden] = tokenizer.mask_token_id
        with torch.no_grad():
            log_probs = model(seen).logits[0, hidden].double().log_softmax(-1)
        found += (-log_probs.gather(1, targets[:, None])).flatten().tolist()
    return sum(found) / len(found)


# --- how it was built ------------------------------------------------------------------------------


def test_fifteen_tokens_of_a_hundred_are_to_be_told_and_twelve_are_masked() -> None:
    ids = torch.full((400, 100), 9)
    ids[:, 0], ids[:, -1] = build_encoder.CLS, build_encoder.PAD
    seen, chosen = build_encoder.corrupted(ids, 4096, torch.Generator().manual_seed(0))
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(seen[~chosen], ids[~chosen])
    count = int(chosen.sum())
    assert count / (400 * 98) == pytest.approx(0.15, abs=0.01)
    assert (seen[chosen] == build_encoder.MASK).sum().item() / count == pytest.approx(0.8, abs=0.02)
    assert (seen[chosen] == 9).sum().item() / count == pytest.approx(0.1, abs=0.02)
    assert (seen[chosen] >= len(build_encoder.SPECIAL)).sum().item() / count == pytest.approx(0.2, abs=0.02)


def test_a_pass_has_every_document_once_and_pads_little() -> None:
    documents = [[index] * (1 + index % 50) for index in range(1000)]
    total = sum(map(len, documents))
    recipe = build_encoder.Recipe(width=8, learning_rate=1.0, tokens=2 * total, rows_per_step=8)
    batches = build_encoder.batches_of(documents, recipe)
    assert Counter(row[0] for batch in batches for row in batch) == dict.fromkeys(range(1000), 2)
    padded = sum(len(batch) * max(map(len, batch)) for batch in batches)
    assert padded < 1.1 * 2 * total
    fewer = build_encoder.batches_of(documents, build_encoder.Recipe(8, 1.0, total // 2, rows_per_step=8))
    assert fewer == batches[: len(fewer)]
    assert total // 2 <= sum(len(row) for batch in fewer for row in batch) <= total // 2 + 8 * 50


def test_the_losses_are_those_of_the_whole_model() -> None:
    """Only masked places go through the head; the pooler tells the tokens of the text, each once."""
    torch.manual_seed(0)
    recipe = build_encoder.Recipe(width=16, learning_rate=1.0, tokens=1, layers=1, heads=2, vocabulary=40)
    model = build_encoder.new_model(recipe).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    rows = [[1, *range(4, 34), 2], [1, 7, 7, 8, 2]]
    of_masked, of_first = build_encoder.losses(model, rows, torch.Generator().manual_seed(3))
    ids = build_encoder.padded(rows)
    seen, chosen = build_encoder.corrupted(ids, 40, torch.Generator().manual_seed(3))
    labels = torch.where(chosen, ids, -100)
    whole = model(input_ids=seen, attention_mask=(ids != 0).long(), labels=labels)
    assert of_masked.mean().item() == pytest.approx(whole.loss.item(), rel=1e-4)
    alone = model.bert(seen[1:, :5]).pooler_output.detach()
    log_probs = model.cls.predictions(alone).log_softmax(-1)[0].detach()
    assert of_first[1].item() == pytest.approx(-float(log_probs[7] + log_probs[8]) / 2, rel=1e-4)


def test_who_knows_only_frequencies_loses_their_entropy() -> None:
    training = [[1, *[4] * 500, *[5] * 499, 2]] * 1000
    assert build_encoder.unigram_loss(training, [[1, 4, 5, 2]], 6) == pytest.approx(math.log(2), abs=1e-3)
    assert build_encoder.unigram_loss([[1, 2]], [[1, 4, 4, 2]], 12) == pytest.approx(math.log(8))
