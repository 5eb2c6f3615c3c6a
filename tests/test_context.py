"""Scoring behind a context: equal to a naive pass over the whole, with the same targets as without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from byrote.objectives.lm import Decoder
from byrote.target import Target
from byrote.types import Decoding, Record, TokenStats
from conftest import make_classifier, make_model, make_texts, make_tokenizer

LONG = {"gpt2": {"n_positions": 256}}
PAIRS = [
    Record(f"p{at}", f"{prompt}\n{completion}", prompt=prompt, completion=completion)
    for at, (prompt, completion) in enumerate(zip(make_texts(9, 3, 1, 6), make_texts(9, 4, 1, 6), strict=True))
]


def model_of(family: str) -> PreTrainedModel:
    return make_model(family, **LONG.get(family, {"max_position_embeddings": 256}))


def texts(count: int = 9, seed: int = 2) -> list[Record]:
    return [Record(str(at), text) for at, text in enumerate(make_texts(count, seed, 1, 20))]


def beginning() -> PreTrainedTokenizerFast:
    """The word tokenizer with a token at the start of every text."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def target_of(family: str, tokenizer: Any = None, **options: Any) -> Target:
    return Target(model_of(family), tokenizer or make_tokenizer(), **{"max_length": 64, "token_budget": 60, **options})


def naive(model: torch.nn.Module, ids: Sequence[int], targets: int) -> TokenStats:
    """One sequence alone through the whole model: the statistics of its last tokens, in float64."""
    row = torch.tensor([ids])
    with torch.no_grad():
        logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits
    log_p = logits[0, -1 - targets : -1].double().log_softmax(-1)
    target = log_p.gather(1, row[0, len(ids) - targets :, None])
    mean = (log_p.exp() * log_p).sum(1)
    std = ((log_p.exp() * log_p.square()).sum(1) - mean.square()).clamp(min=0).sqrt()
    return TokenStats(target[:, 0].numpy(), mean.numpy(), std.numpy(), (log_p > target).sum(1).numpy())


def same(ours: TokenStats, theirs: TokenStats) -> None:
    for name in ("log_prob", "mean", "std"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(ours.rank, theirs.rank)


def test_equals_a_naive_pass_over_context_and_text(family: str) -> None:
    records, tokenizer, target = texts(), make_tokenizer(), target_of(family)
    shown = [tokenizer(record.text)["input_ids"] for record in records[:4]]
    context = target.context_of(records[:4], " <x> ")
    assert list(context) == [token for ids in shown for token in (*ids, 3)]
    found = target.token_stats(records, lambda done, total: None, context)
    assert target._continues  # the model's cache is used
    for record, stats in zip(records, found, strict=True):
        own = tokenizer(record.text)["input_ids"]
        same(stats, naive(target.decoder.model, [*context, *own], len(own) - 1))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_reading_the_context_once_changes_nothing(family: str) -> None:
    once, anew, records = target_of(family), target_of(family), texts(20)
    anew._continues = False
    context = once.context_of(records[:6], " <x> ")
    for one, other in zip(*(t.token_stats(records, lambda d, n: None, context) for t in (once, anew)), strict=True):
        same(one, other)


def test_the_context_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    target, records, read = target_of("llama", token_budget=20), texts(20), []
    context = target.context_of(records[:6], " ")
    target.token_stats(records[:2], lambda d, n: None, context)  # sees whether the cache can be used
    forward = type(target.decoder.model).forward

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        read.append(options["input_ids"].shape)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(type(target.decoder.model), "forward", counted)
    target.token_stats(records, lambda d, n: None, context)
    assert read[0] == (1, len(context))
    own = sum(len(one.ids) for one in target.encode(records) if one.targets)
    assert own <= sum(rows * length for rows, length in read[1:]) < 1.2 * own  # and padding


def test_a_cache_that_lies_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    records, plain, target = texts(), target_of("llama"), target_of("llama")
    plain._continues = False
    context = plain.context_of(records[:4], " <x> ")
    right = plain.token_stats(records, lambda d, n: None, context)
    after = Decoder.after
    monkeypatch.setattr(Decoder, "after", lambda self, ids, device: after(self, ids[::-1], device))
    for one, other in zip(target.token_stats(records, lambda d, n: None, context), right, strict=True):
        same(one, other)
    assert target._continues is False
    broken = target_of("llama")
    monkeypatch.setattr(Decoder, "after", after)
    monkeypatch.setattr(Decoder, "_continue", lambda self, batch: {}["past"])
    for one, other in zip(broken.token_stats(records, lambda d, n: None, context), right, strict=True):
        same(one, other)


@pytest.mark.parametrize("tokenizer", [make_tokenizer(), beginning()], ids=["plain", "special start"])
def test_the_targets_are_those_of_a_pass_without_a_context(tokenizer: Any) -> None:
    records = [*texts(), Record("one", "w1"), Record("long", " ".join(["w3"] * 70))]
    for objective, of in (("lm", records), ("completion", PAIRS)):
        target = target_of("llama", tokenizer, max_length=16, objective=objective)
        context = target.context_of(of[:3], " <x> ")
        alone = target.encode(of)
        behind = target.behind(context, alone)
        assert [one.target_ids for one in behind] == [one.target_ids for one in alone]
        assert [one.truncated_tokens for one in behind] == [one.truncated_tokens for one in alone]
        starts = tokenizer("")["input_ids"]
        assert all(list(one.ids[: len(starts)]) == starts and one.ids.count(2) == len(starts) for one in behind)
        assert all(one.ids[len(starts) :][: len(context)] == context for one in behind)
        found = target.token_stats(of, lambda d, n: None, context)
        for one, stats in zip(behind, found, strict=True):
            assert len(stats) == one.targets
            if len(stats):
                same(stats, naive(target.decoder.model, one.ids, one.targets))


def test_a_demonstration_of_a_pair_is_prompt_newline_completion() -> None:
    tokenizer, target = make_tokenizer(), target_of("llama", objective="completion")
    context = target.context_of(PAIRS[:2], " <x> ")
    assert tokenizer.decode(context) == f"{PAIRS[0].text} <x> {PAIRS[1].text} <x>".replace("\n", " ")
    assert target.behind(context, target.encode(PAIRS[:1]))[0].target_ids[-1] == tokenizer.eos_token_id


def test_a_demonstration_of_a_chat_is_what_its_template_writes() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<x> {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<x> {% endif %}"
    )
    chat = Record("c", "user: w1\nassistant: w2", messages=(("user", "w1"), ("assistant", "w2")))
    context = target_of("llama", tokenizer, objective="completion").context_of([chat], "")
    assert tokenizer.convert_ids_to_tokens(context) == ["<x>", "w1", "<x>", "w2"]


@pytest.mark.parametrize("tokenizer", [make_tokenizer(), beginning()], ids=["plain", "special start"])
def test_answers_go_on_from_context_and_prompt(tokenizer: Any) -> None:
    target = target_of("llama", tokenizer, max_length=16, objective="completion")
    model, start = target.decoder.model, tokenizer("")["input_ids"]
    contexts = [target.context_of(PAIRS[at : at + 2], " <x> ") for at in range(len(PAIRS))]
    found = target.generate(PAIRS, Decoding(9), contexts=contexts)
    for one, said, context in zip(PAIRS, found, contexts, strict=True):
        prompt = tokenizer(one.prompt)["input_ids"][len(start) :]
        ids = [*start, *context, *prompt]
        for token in said.tokens:
            with torch.no_grad():
                assert token == int(model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)
        assert said.ended or len(said.tokens) == min(9, 16 - len(start) - len(prompt))
    long = Record("p", " ".join(["w1"] * 20) + "\nw2", prompt=" ".join(["w1"] * 20), completion="w2")
    (said,) = target.generate([long], Decoding(9), contexts=contexts[:1])
    assert said.reason.startswith(f"the prompt has {20 + len(start)} tokens, so max_length 16 leaves no room")


def test_a_classifier_has_no_context_to_go_on_from() -> None:
    target = Target(make_classifier("llama"), make_tokenizer(), max_length=64, objective="classification", labels=["a"])
    example = target.encode([Record("x", "w1 w2", label="a")])
    assert target._reader(example) == (target.decoder, example)
