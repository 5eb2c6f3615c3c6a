"""The scoring pass: equal to a naive single-text forward, for every family and method, in any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byrote.methods.base import NotForThisModel
from byrote.objectives.batching import MAX_PADDING, encode, length_grouped, pack
from byrote.registry import discover
from byrote.target import Target
from byrote.types import ByroteError, TokenStats, Unscorable
from byrote.vocabulary import vocabulary_stats
from conftest import make_model, make_texts, make_tokenizer

METHODS = discover("method")


def naive(model: torch.nn.Module, tokenizer, text: str, virtual: int = 0) -> TokenStats:
    """One text, the model's own logits, statistics in float64 by their definitions."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
    log_p = logits[0, :-1].double().log_softmax(-1)
    target = log_p.gather(1, ids[0, 1:, None])
    p = log_p.exp()
    mean = (p * log_p).sum(1)
    std = ((p * log_p.square()).sum(1) - mean.square()).clamp(min=0).sqrt()
    rank = (log_p > target).sum(1)
    return TokenStats(target[:, 0].numpy(), mean.numpy(), std.numpy(), rank.numpy())


def same(ours: TokenStats, theirs: TokenStats, tolerance: float = 1e-4) -> None:
    for name in ("log_prob", "mean", "std"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(ours.rank, theirs.rank)


def tuned(family: str, method: str) -> torch.nn.Module:
    """A model with the method attached and its parameters moved off their starting values."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        try:
            model = METHODS[method]().attach(make_model(family)).model
        except NotForThisModel as reason:
            pytest.skip(str(reason))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_naive_pass_for_every_family_and_method(family: str, method: str) -> None:
    tokenizer, texts = make_tokenizer(), make_texts(9)
    model = tuned(family, method)
    target = Target(model, tokenizer, max_length=64, token_budget=48)
    target.check()
    for text, stats in zip(texts, target.token_stats(texts), strict=True):
        same(stats, naive(model, tokenizer, text))


def test_a_text_scores_the_same_in_any_company(family: str) -> None:
    texts = make_texts(30, seed=1)
    model, tokenizer = make_model(family), make_tokenizer()
    alone = [Target(model, tokenizer, max_length=64, token_budget=1).token_stats([text])[0] for text in texts]
    order = np.random.default_rng(0).permutation(len(texts))
    for budget in (16, 200, 8192):
        found = Target(model, tokenizer, max_length=64, token_budget=budget).token_stats([texts[i] for i in order])
        for index, stats in zip(order, found, strict=True):
            same(stats, alone[index])


def test_padding_side_of_the_tokenizer_changes_nothing() -> None:
    texts, model = make_texts(12), make_model("gpt2")
    left = make_tokenizer()
    left.padding_side = "left"
    for one, other in zip(
        Target(model, make_tokenizer(), max_length=64).token_stats(texts),
        Target(model, left, max_length=64).token_stats(texts),
        strict=True,
    ):
        same(one, other, 0)


def test_text_with_the_padding_token_in_it_is_scored_in_full() -> None:
    tokenizer, model = make_tokenizer(), make_model("llama")
    texts = ["w1 <eos> w2 <eos> <eos>", "w1 w2 w3 w4 w5 w6 w7"]
    found = Target(model, tokenizer, max_length=64).token_stats(texts)
    assert [len(stats) for stats in found] == [4, 6]
    for text, stats in zip(texts, found, strict=True):
        same(stats, naive(model, tokenizer, text))


def test_texts_without_a_target_are_empty_and_cut_texts_say_so() -> None:
    target = Target(make_model("llama"), make_tokenizer(), max_length=5)
    empty, one, cut = target.token_stats(["", "w1", "w1 w2 w3 w4 w5 w6 w7"])
    assert len(empty) == len(one) == 0
    assert len(cut) == 4 and cut.truncated_tokens == 2
    with pytest.raises(Unscorable):
        _ = one.loss


def test_no_texts_give_no_statistics() -> None:
    assert Target(make_model("llama"), make_tokenizer(), max_length=5).token_stats([]) == []


def test_full_logits_never_exist() -> None:
    """The head sees at most a chunk of rows, and one position per text inside the model."""
    model = make_model("llama")
    rows: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].numel() // inputs[0].shape[-1]))
    target = Target(model, make_tokenizer(), max_length=64, token_budget=8192)
    import byrote.target as module

    before, module.CHUNK_BYTES = module.CHUNK_BYTES, 4 * 64 * 7
    try:
        target.token_stats(make_texts(40, low=20, high=20))
    finally:
        module.CHUNK_BYTES = before
    # The first call is the model's own, which enters the hooked head with all rows and leaves with 40.
    assert max(rows[1:]) <= 7


def test_out_of_memory_halves_the_batch_and_keeps_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, model, tokenizer = make_texts(40, seed=2), make_model("llama"), make_tokenizer()
    expected = Target(model, tokenizer, max_length=64).token_stats(texts)
    target = Target(model, tokenizer, max_length=64, token_budget=512)
    original = target.decoder.rows

    def limited(batch):
        if batch.input_ids.numel() > 60:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        return original(batch)

    monkeypatch.setattr(target.decoder, "rows", limited)
    for one, other in zip(target.token_stats(texts), expected, strict=True):
        same(one, other)
    assert target.token_budget <= 64

    monkeypatch.setattr(target.decoder, "rows", lambda batch: limited_always())
    with pytest.raises(ByroteError, match="lower max_length"):
        target.token_stats(texts)


def limited_always() -> None:
    raise RuntimeError("CUDA out of memory")


def test_remembered_rows_give_the_same_numbers_after_the_head_moved() -> None:
    texts, tokenizer = make_texts(15, seed=4), make_tokenizer()
    model = METHODS["head"]().attach(make_model("gpt2")).model.eval()
    target = Target(model, tokenizer, max_length=64, remember=True)
    target.token_stats(texts)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.3)
    for text, stats in zip(texts, target.token_stats(texts), strict=True):
        same(stats, naive(model, tokenizer, text))


def test_masked_vocabulary_and_certain_tokens() -> None:
    logits = torch.tensor([[0.0, float("-inf"), 1.0], [0.0, 1000.0, 0.0]])
    columns = torch.empty(4, 2)
    vocabulary_stats(logits, torch.tensor([0, 1]), torch.empty(2, 3), columns)
    log_prob, mean, std, rank = columns
    p = 1 / (1 + np.e)
    assert float(log_prob[0]) == pytest.approx(np.log(p))
    assert float(mean[0]) == pytest.approx(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert torch.isfinite(std).all()
    assert float(log_prob[1]) == 0.0 and float(std[1]) == 0.0
    assert rank.tolist() == [1, 0]


def test_a_model_that_changes_its_logits_in_an_unknown_way_is_refused() -> None:
    model = make_model("llama")
    forward = model.forward

    def altered(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits + torch.arange(64.0)
        return out

    model.forward = altered
    with pytest.raises(ByroteError, match="differ from the model's own"):
        Target(model, make_tokenizer(), max_length=64).check()


def test_batches_keep_padding_below_a_tenth_and_hold_every_text_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500).tolist()
    for budget in (64, 512, 4096):
        batches = pack(lengths, budget)
        assert sorted(index for batch in batches for index in batch) == list(range(500))
        for batch in batches:
            padded = len(batch) * max(lengths[i] for i in batch)
            assert padded <= budget or len(batch) == 1
            assert padded - sum(lengths[i] for i in batch) <= MAX_PADDING * padded


def test_length_grouped_epochs_are_random_permutations_of_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 320).tolist()
    epochs = [length_grouped(lengths, 16, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert sorted(index for batch in epochs[0] for index in batch) == list(range(320))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in epochs[0])
    plain = sum(16 * max(lengths[first : first + 16]) for first in range(0, 320, 16))
    assert padded < 0.75 * plain


def test_encode_reports_what_it_cuts() -> None:
    examples = encode(make_tokenizer(), ["w1 w2 w3", "w1"], 2)
    assert [(example.ids, example.truncated_tokens) for example in examples] == [((5, 6), 1), ((5,), 0)]
