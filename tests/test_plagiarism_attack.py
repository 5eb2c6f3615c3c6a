"""Plagiarism as a measure of a study: classes as shares, and who confirms a paraphrase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from byrote.attacks.base import Background, Evidence
from byrote.attacks.extraction.base import measure_all
from byrote.attacks.extraction.plagiarism.attack import KINDS, Plagiarism
from byrote.models.load import resolve
from byrote.models.pairs import PairClassifier
from byrote.types import Floats, Generation, Record, StudyError
from conftest import make_texts, make_tokenizer
from evidence import stats

SOURCES = (
    "The gateway keeps a copy of every request that arrives during the maintenance window. It forwards them to the "
    "primary cluster when the window closes.",
    "Policies that grant access to a bucket are evaluated before the request reaches the storage layer of the service.",
    "Use this operation to list the routing profiles of an instance in the order in which they were created.",
)
COPIED = "As we know, the gateway keeps a copy of every request that arrives during the maintenance window."
REWRITTEN = "Policies granting access to a bucket are evaluated before requests reach the storage layers of a service."
OTHER = "Rain fell over the quiet harbour while three fishermen mended their nets beside an old lighthouse."


def said(text: str, number: int = 0, given: str = "Tell me:", background: Background | None = None) -> Evidence:
    return Evidence(
        Record(str(number), "whole"), stats([-1.0] * 3), continuations=(Generation(text, (1,), False),), given=(given,),
        follows=("something follows",), rests=("something follows",), background=background or Background(),
    )  # fmt: skip


def vectors(near: float) -> Any:
    """An encoder by which sentences of one subject are so near, and others are not near at all."""

    def embed(texts: Sequence[str]) -> np.ndarray[Any, Any]:
        found = np.zeros((len(texts), 3), np.float32)
        for row, text in zip(found, texts, strict=True):
            row[:2] = (1.0, 0.0) if text.startswith("Policies that") else (near, (1 - near**2) ** 0.5)
        return found

    return lambda name: embed


def kinds(measure: Plagiarism, *evidence: Evidence) -> list[str]:
    found = measure_all(measure, evidence, SOURCES)
    assert all(sum(numbers[:4]) <= 1 and numbers[4] == sum(numbers[:3]) for numbers in found)  # type: ignore[arg-type]
    return [next((kind for kind, hit in zip(KINDS, numbers, strict=False) if hit), "none") for numbers in found]


def test_each_text_has_at_most_one_class_and_the_encoder_confirms() -> None:
    texts = (COPIED, REWRITTEN, OTHER, "")
    for near, expected in ((0.9, "paraphrase"), (0.7, "unconfirmed")):
        background = Background(encoder=vectors(near))
        found = kinds(
            Plagiarism(idf="corpus"), *(said(text, at, background=background) for at, text in enumerate(texts))
        )
        assert found == ["verbatim", expected, "none", "none"]
    assert (
        kinds(Plagiarism(encoder=None, idf="corpus"), *(said(text, at) for at, text in enumerate(texts)))[1]
        == "unconfirmed"
    )
    strict = Plagiarism(verbatim_minlen=256, min_plaglen=150, encoder=None)
    assert kinds(strict, said(COPIED)) == ["none"]  # 83 characters are in common


def test_a_classifier_stands_in_the_place_of_the_encoder() -> None:
    asked: list[tuple[str, str]] = []

    def judge(name: str) -> Any:
        assert name == "some/judge"

        def probabilities(pairs: Sequence[tuple[str, str]]) -> Floats:
            asked.extend(pairs)
            return np.full(len(pairs), 0.6)

        return probabilities

    measure = Plagiarism(classifier="some/judge", idf="corpus")
    assert measure.encoders == () and measure.judges == ("some/judge",)
    assert kinds(measure, said(REWRITTEN, background=Background(judge=judge))) == ["paraphrase"]
    assert asked and all(ours in REWRITTEN and theirs in SOURCES[1] for ours, theirs in asked)


def test_who_is_not_there_is_named_and_what_needs_nobody_is_told() -> None:
    (reason,) = measure_all(Plagiarism(idf="corpus"), [said(REWRITTEN)], SOURCES)
    assert reason == "no sentence encoder builtin:minilm is at hand"
    assert kinds(Plagiarism(), said(COPIED), said(OTHER, 1)) == ["verbatim", "none"]  # nobody had to be asked


def test_what_repeats_the_prompt_is_no_plagiarism() -> None:
    assert kinds(Plagiarism(encoder=None), said(f"{COPIED} {OTHER}", given=COPIED)) == ["none"]


def test_a_pair_classifier_gives_each_pair_its_probability_in_any_company(tmp_path: Path) -> None:
    torch.manual_seed(3)
    fields = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_labels": 2}
    config = AutoConfig.for_model("bert", **fields, num_attention_heads=2, pad_token_id=0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "judge")
    make_tokenizer().save_pretrained(tmp_path / "judge")
    judge = PairClassifier(resolve(str(tmp_path / "judge")))
    texts = make_texts(80, 5)
    pairs = list(zip(texts[:40], texts[40:], strict=True))
    found = judge(pairs)
    assert found.shape == (40,) and ((found > 0) & (found < 1)).all() and np.ptp(found) > 0
    np.testing.assert_allclose(found, [judge([pair])[0] for pair in pairs], atol=1e-6)
    assert judge([]).shape == (0,)
    three = AutoConfig.for_model("bert", **{**fields, "num_labels": 3}, num_attention_heads=2, pad_token_id=0)
    AutoModelForSequenceClassification.from_config(three).save_pretrained(tmp_path / "three")
    make_tokenizer().save_pretrained(tmp_path / "three")
    with pytest.raises(StudyError, match="tells 3 classes apart"):
        PairClassifier(resolve(str(tmp_path / "three")))
