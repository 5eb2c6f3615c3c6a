"""What attacks are given besides statistics: neighbours, gradients, openings, and answers in any company."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from byrote.attacks.base import Background, Evidence, score_all
from byrote.attacks.membership.con_recall import ContrastiveRecall
from byrote.attacks.membership.gradient_norm import GradientNorm
from byrote.attacks.membership.neighbourhood import Neighbourhood
from byrote.attacks.membership.recall import Recall
from byrote.attacks.membership.samia import Samia
from byrote.attacks.membership.spv_mia import ProbabilisticVariation
from byrote.objectives.batching import encode
from byrote.objectives.completion import encode_prompts
from byrote.registry import discover
from byrote.runner.neighbours import Finder, Place, neighbours_of
from byrote.target import Target
from byrote.types import Decoding, Generation, Record, TokenStats
from conftest import make_model, make_texts, make_tokenizer
from evidence import INSIDERS, OUTSIDERS, one, stats
from test_target import tuned

METHODS = discover("method")


def target_of(model: torch.nn.Module | None = None, **options: Any) -> Target:
    return Target(model or make_model("llama"), make_tokenizer(), **{"max_length": 32, **options})


def loss(of: TokenStats | None) -> float:
    assert of is not None
    return -sum(float(value) for value in of.log_prob) / len(of)


# --- formulas ------------------------------------------------------------------------------------


def test_recall_and_con_recall_compare_losses_behind_prefixes() -> None:
    recall, contrast = Recall(shots=3, seed=4), ContrastiveRecall(shots=3, seed=4, gamma=0.7)
    for attack in (recall, contrast):
        found = one("a", 0.5, attack=attack)
        queries = attack.queries(found.record, found.background)
        assert all(query.record is found.record and len(query.context) == 3 for query in queries)
        assert {record.id for record in queries[0].context} <= {record.id for record in OUTSIDERS}
        behind = [loss(found.answers[query.key]) for query in queries]
        if attack is recall:
            assert attack.score(found) == pytest.approx(behind[0] / loss(found.target), rel=1e-9)
        else:
            assert {record.id for record in queries[1].context} <= {record.id for record in INSIDERS}
            expected = (behind[0] - 0.7 * behind[1]) / loss(found.target)
            assert attack.score(found) == pytest.approx(expected, rel=1e-9)


def test_all_records_stand_behind_the_same_prefix_and_another_seed_draws_another() -> None:
    background = Background(OUTSIDERS, INSIDERS)
    again = Background(OUTSIDERS[::-1], INSIDERS)
    prefixes = [
        [record.id for record in Recall(shots=5, seed=seed).queries(asked, of)[0].context]
        for seed, of in ((0, background), (0, again), (1, background))
        for asked in (Record("a", "x"), Record("b", "y"))
    ]
    assert prefixes[0] == prefixes[1] == prefixes[2] == prefixes[3] != prefixes[4] == prefixes[5]
    assert len(Recall(shots=1000).queries(Record("a", "x"), background)[0].context) == len(OUTSIDERS)


def test_members_that_are_known_are_not_scored_and_neither_are_their_copies() -> None:
    attack, background = ContrastiveRecall(shots=2), Background(OUTSIDERS, INSIDERS)
    known = attack.queries(Record("a", "x"), background)[1].context
    copy_of_one = Record("copy", "x", group=known[1].group_id)
    for record in (*known, copy_of_one):
        scores = score_all(attack, [Evidence(record, stats([-1.0]), background=background)])
        assert "knows already" in scores.reasons[0]
    others = [record for record in INSIDERS if record not in known]
    assert all(attack.queries(record, background) for record in others)
    for one_of in (Recall(), attack):
        scores = score_all(one_of, [Evidence(others[0], stats([-1.0]), background=Background((), INSIDERS))])
        assert "needs validation or test records" in scores.reasons[0]


def test_neighbourhood_and_spv_mia_compare_losses_around_the_text() -> None:
    near, varied = Neighbourhood(neighbours=4), ProbabilisticVariation(pairs=2)
    for attack in (near, varied):
        found = one("a", 0.5, attack=attack)
        texts = found.background.neighbours["a"][:4]
        queries = attack.queries(found.record, found.background)
        assert [query.record.text for query in queries] == list(texts)
        target, base = (
            sum(loss(answers[query.key]) for query in queries) / 4 - loss(own)
            for answers, own in ((found.answers, found.target), (found.base_answers, found.base))
        )
        assert attack.score(found) == pytest.approx(target - base if attack is varied else target, rel=1e-9)
        alone = replace(found, background=Background())
        assert "no neighbours" in score_all(attack, [alone]).reasons[0]


def test_samia_is_the_share_of_the_following_words_that_were_written() -> None:
    attack = Samia(samples=3)
    record = Record("a", "the  bucket policy\n denies the request")
    openings = attack.openings(record, Background())
    assert [one.record.text for one in openings] == ["the  bucket policy"] * 3
    assert len({one.decoding.seed for one in openings}) == 3 and all(one.decoding.do_sample for one in openings)
    said = ["Denies the the request", "a b c request denies", ""]
    found = Evidence(
        record, stats([-1.0] * 4), continuations=tuple(Generation(text, (), True) for text in said)
    )  # what follows: denies the request, of which 2, 0 and 0 are among the first three words
    assert attack.score(found) == pytest.approx((2 / 3 + 0 + 0) / 3)
    failed = replace(found, continuations=(Generation("", (), False, "no room"),) * 3)
    assert score_all(attack, [failed]).reasons == ("no room",)
    assert "was not asked" in score_all(attack, [replace(found, continuations=())]).reasons[0]
    assert "fewer than two words" in score_all(attack, [replace(found, record=Record("a", "word"))]).reasons[0]


def test_an_opening_is_exactly_the_beginning_of_the_text() -> None:
    tokenizer = make_tokenizer()
    plain = Record("a", "w1 w2 w3  w4 w5")
    pair = Record("p", "w1 w2\nw3 w4", prompt="w1 w2", completion="w3 w4")
    for record, of, beginning in ((plain, "text", "w1 w2"), (pair, "completion", "w1 w2\n"), (pair, "text", "w1 w2")):
        (asked,) = Samia(samples=1).openings(record, Background(of=of))  # type: ignore[arg-type]
        opening = asked.record
        assert opening.text == beginning and record.text.startswith(beginning) and opening.id == record.id
        assert list(encode_prompts(tokenizer, [opening])[0]) == tokenizer(beginning)["input_ids"]
    chat = Record("c", "user: w1\nassistant: w2", messages=(("user", "w1"), ("assistant", "w2")))
    (asked,) = Samia(samples=1).openings(chat, Background(of="completion"))
    assert asked.record is chat


def test_a_text_that_is_gone_on_from_is_continued_as_the_model_would() -> None:
    target, record = target_of(), Record("a", "w1 w2 w3 w4 w5 w6")
    (asked,) = Samia(samples=1, top_k=1, max_new_tokens=4).openings(record, Background())
    (said,) = target.generate([asked.record], asked.decoding)
    ids = target.tokenizer("w1 w2 w3")["input_ids"]
    for token in said.tokens:
        with torch.no_grad():
            assert token == int(target.decoder.model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
    assert isinstance(asked.decoding, Decoding)


# --- neighbours ----------------------------------------------------------------------------------


def test_the_likeliest_others_are_those_of_the_full_logits(family: str) -> None:
    model, texts = make_model(family), [*make_texts(9), "w1", ""]
    target = target_of(model, token_budget=40)
    examples = encode(target.tokenizer, texts, 32)
    import byrote.target as module

    before, module.CHUNK_BYTES = module.CHUNK_BYTES, 4 * 64 * 5
    try:
        found = target.likeliest(examples, 6)
    finally:
        module.CHUNK_BYTES = before
    for example, others in zip(examples, found, strict=True):
        assert others.shape == (example.targets, 6)
        for at, row in enumerate(others):
            with torch.no_grad():
                logits = model(torch.tensor([example.ids[: at + 1]])).logits[0, -1]
            ranked = [token for token in logits.argsort(descending=True).tolist() if token != example.ids[at + 1]]
            assert row.tolist() == ranked[:6]


def test_a_neighbour_differs_in_a_tenth_of_the_tokens_and_pairs_share_their_places() -> None:
    tokenizer, (text,) = make_tokenizer(), make_texts(1, seed=3, low=41, high=41)
    text = text.replace(" ", "  ", 2)
    (likely,) = target_of(max_length=64).likeliest(encode(tokenizer, [text], 64), 12)
    places = Finder(tokenizer).places(text, likely)
    assert [text[place.start : place.end] for place in places] == text.split()[1:]
    found = neighbours_of(text, places, 6)
    assert len(found) == 6 and neighbours_of(text, places, 4) == found[:4]
    changes = []
    for near in found:
        pairs = list(zip(near.split(), text.split(), strict=True))
        changes.append([at for at, (one, other) in enumerate(pairs) if one != other])
        assert len(changes[-1]) == 4 and near.count("  ") == 2
    assert changes[0] == changes[1] != changes[2] == changes[3] != changes[4] == changes[5]
    assert len(set(found)) == 6
    assert neighbours_of("w1", [], 6) == ()


def test_whatever_the_tokenizer_a_place_keeps_its_white_space_and_a_word_stays_a_word() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<eos>", "a", "Ġcat", "s", "Ġdog", "Ġ", "ed", "Ã", "Ġthe", "ing", "Ġcats"]
    raw = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>")
    finder = Finder(fast)
    name = words.index
    others = [name(word) for word in ("<eos>", "Ġ", "s", "Ġcat", "Ã", "Ġdog", "Ġthe")]
    assert finder._others(name("Ġcat"), " cat", others) == (" dog", " the")
    assert finder._others(name("Ġcat"), "cat", others) == ("dog", "the")  # where spans leave the space out
    assert finder._others(name("s"), "s", [name("Ġdog"), name("ed"), name("ing"), name("a")]) == ("ed", "ing")
    assert neighbours_of("a cat", [Place(2, 5, ("dog",))], 2) == ("a dog", "a dog")


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora", "prompt-tuning", "prefix-tuning", "head"])
def test_gradient_norms_are_those_of_a_plain_backward_pass(method: str) -> None:
    model = tuned("llama", method)
    model.train()  # whoever asked before left it so
    before = copy.deepcopy(model.state_dict())
    asked = {name: weight.requires_grad for name, weight in model.named_parameters()}
    records = [Record(str(at), text) for at, text in enumerate([*make_texts(4), "w1"])]
    found = target_of(model).gradient_norms(records, [()] * 5)
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == asked
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert np.isnan(found[-1])
    model.eval().requires_grad_(True)
    for record, norm in zip(records[:-1], found, strict=False):
        ids = torch.tensor([make_tokenizer()(record.text)["input_ids"]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -ids.shape[1] : -1]
        torch.nn.functional.cross_entropy(logits, ids[0, 1:]).backward()
        squares = [
            float(weight.grad.double().square().sum()) for weight in model.parameters() if weight.grad is not None
        ]
        assert norm == pytest.approx(sum(squares) ** 0.5, rel=1e-4)
        model.zero_grad()


def test_gradients_behind_a_context_are_of_the_text_alone() -> None:
    target, record = target_of(), Record("a", "w1 w2 w3")
    context = target.context_of([Record("b", "w7 w8 w9")], " ")
    (behind,), (alone,) = target.gradient_norms([record], [context]), target.gradient_norms([record], [()])
    model = target.decoder.model.requires_grad_(True)
    ids = torch.tensor([[*context, *target.tokenizer("w1 w2 w3")["input_ids"]]])
    logits = model(input_ids=ids).logits[0, -3:-1]
    torch.nn.functional.cross_entropy(logits, ids[0, -2:]).backward()
    squares = [float(weight.grad.double().square().sum()) for weight in model.parameters() if weight.grad is not None]
    assert behind == pytest.approx(sum(squares) ** 0.5, rel=1e-4) and behind != pytest.approx(alone, rel=1e-2)
    assert GradientNorm().score(Evidence(record, stats([-1.0]), gradient_norm=behind)) == -behind


# --- answers in any company ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_prefix_that_is_read_once_gives_what_the_whole_text_gives(family: str, method: str) -> None:
    """For every method: virtual tokens that entered twice, or a cache that does not fit, would show."""
    model = tuned(family, method)
    target = target_of(model, token_budget=60)
    records = [Record(str(at), text) for at, text in enumerate(make_texts(7, seed=2, low=1, high=9))]
    context = target.context_of([Record("x", "w5 w6 w7 w8"), Record("y", "w9 w1")], "\n\n")
    found = target.token_stats(records, lambda done, total: None, context)
    assert target._continues is not None  # it was seen whether the cache may be used
    for record, one_found in zip(records, found, strict=True):
        own = target.tokenizer(record.text)["input_ids"]
        ids = torch.tensor([[*context, *own]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(own) : -1]
        expected = logits.log_softmax(-1).gather(1, ids[0, len(context) + 1 :, None])[:, 0]
        np.testing.assert_allclose(one_found.log_prob, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [1, 7 * 12, 2048])
def test_answers_are_the_same_in_any_company(side: str, budget: int) -> None:
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    tokenizer.padding_side = side
    records = [Record(str(at), text) for at, text in enumerate(make_texts(20, seed=5, low=2, high=12))]
    alone = Target(model, make_tokenizer(), max_length=32, token_budget=1)
    context = alone.context_of(records[:2], "\n\n")
    order = np.random.default_rng(budget).permutation(len(records))
    for before in ((), context):
        expected = [alone.token_stats([record], lambda d, n: None, before)[0] for record in records]
        target = Target(model, tokenizer, max_length=32, token_budget=budget)
        found = target.token_stats([records[at] for at in order], lambda d, n: None, before)
        for at, stats_found in zip(order, found, strict=True):
            for name in ("log_prob", "mean", "std"):
                np.testing.assert_allclose(getattr(stats_found, name), getattr(expected[at], name), atol=1e-4)


def norms(target: Target, records: Sequence[Record]) -> list[float]:
    return target.gradient_norms(records, [()] * len(records))


def test_gradients_are_the_same_in_any_company() -> None:
    records = [Record(str(at), text) for at, text in enumerate(make_texts(6))]
    together = norms(target_of(), records)
    assert together == pytest.approx([norms(target_of(), [record])[0] for record in records[::-1]][::-1], rel=1e-4)
