"""The shipped formulas on a real model: the scoring pass against definitions applied to the full float32 logits."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import pytest
import torch

from byrote.attacks.base import Evidence
from byrote.attacks.membership.loss import Loss
from byrote.attacks.membership.min_k import MinK
from byrote.attacks.membership.min_k_plus_plus import MinKPlusPlus
from byrote.attacks.membership.zlib_entropy import ZlibEntropy
from byrote.data.base import Columns
from byrote.data.load import load as load_data
from byrote.models.load import load, resolve
from byrote.target import Target
from byrote.types import Record, StudyError

LENGTHS = (1, 2, 3, 4, 5, 9, 10, 11, 33, 64, 100, 200, 300)
"""Tokens of the texts."""


@cache
def loaded() -> Any:
    try:
        return load(resolve("builtin:smollm2-135m"))
    except StudyError as error:
        pytest.skip(str(error))


@cache
def records() -> list[Record]:
    """Paragraphs of documentation one after another, cut to so many tokens."""
    found = load_data("builtin:aws-docs", Columns(text="text"), on_bad_rows="error").records
    tokenizer = loaded().tokenizer
    ids = tokenizer(" ".join(record.text for record in found[:60]))["input_ids"]
    texts = [tokenizer.decode(ids[7 * at : 7 * at + length]) for at, length in enumerate(LENGTHS)]
    return [Record(str(length), text) for length, text in zip(LENGTHS, texts, strict=True)]


@pytest.mark.real_model
def test_loss_zlib_min_k_and_min_k_plus_plus_are_their_definitions() -> None:
    model, tokenizer = loaded().model, loaded().tokenizer
    target = Target(model, tokenizer, max_length=512)
    for record, stats in zip(records(), target.token_stats(records()), strict=True):
        evidence = Evidence(record, stats)
        ids = torch.tensor([tokenizer(record.text)["input_ids"]])
        assert len(stats) == ids.shape[1] - 1
        if len(stats) < 1:
            continue
        with torch.no_grad():
            log_p = model(ids).logits[0, :-1].log_softmax(-1)
        own, p = log_p.gather(1, ids[0, 1:, None])[:, 0], log_p.exp()
        mean = (p * log_p).sum(1)
        spread = (p * (log_p - mean[:, None]).square()).sum(1).sqrt().clamp(min=1e-3)
        kept = max(1, int(0.2 * len(own)))
        loss = -float(own.mean())
        compressed = len(zlib.compress(record.text.encode()))
        assert Loss().score(evidence) == pytest.approx(-loss, abs=1e-3)
        assert ZlibEntropy().score(evidence) == pytest.approx(-loss / compressed, abs=1e-3 / compressed)
        assert MinK(k=0.2).score(evidence) == pytest.approx(float(own.sort().values[:kept].mean()), abs=1e-3)
        standardised = ((own - mean) / spread).sort().values[:kept]
        assert MinKPlusPlus(k=0.2).score(evidence) == pytest.approx(float(standardised.mean()), abs=1e-3)


@pytest.mark.real_model
def test_neighbours_of_real_text_read_as_text() -> None:
    """A tenth of the tokens differ, white space and everything else stands as it did."""
    from byrote.objectives.batching import encode
    from byrote.runner.neighbours import Finder, neighbours_of

    tokenizer = loaded().tokenizer
    target = Target(loaded().model, tokenizer, max_length=512)
    texts = [record.text for record in records() if record.id in ("33", "64")] + ["Zoë's café – 12 € a cup."]
    finder = Finder(tokenizer)
    for text, likely in zip(texts, target.likeliest(encode(tokenizer, texts, 512), 12), strict=True):
        places = finder.places(text, likely)
        tokens = len(tokenizer(text)["input_ids"])
        assert 0.7 * tokens < len(places) < tokens
        for near in neighbours_of(text, places, 4):
            assert near != text and "�" not in near
            assert [part.isspace() for part in near.splitlines()] == [part.isspace() for part in text.splitlines()]
            assert len(near.split()) == len(text.split())
