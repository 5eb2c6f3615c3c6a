"""Generation: the naive loop without a cache, for every family and method, in any company, and what it draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from byrote.generation import Prompt, choose, generate
from byrote.objectives.completion import encode_prompts
from byrote.objectives.lm import Decoder
from byrote.registry import discover
from byrote.target import Target
from byrote.types import ByroteError, Decoding
from conftest import FAMILIES, WORDS, make_model, make_tokenizer
from test_completion import CHAT, chat, pairs, record
from test_target import tuned

METHODS = discover("method")
GREEDY = Decoding(max_new_tokens=12)


def prompts(lengths: Sequence[int], room: int = 50) -> list[Prompt]:
    generator = torch.Generator().manual_seed(2)
    return [
        Prompt(tuple(torch.randint(4, 64, (n,), generator=generator).tolist()), room, seed)
        for seed, n in enumerate(lengths)
    ]


def naive(model: torch.nn.Module, prompt: Prompt, count: int, stops: Sequence[int]) -> tuple[int, ...]:
    """The likeliest next token of the whole text, again and again; nothing is kept between."""
    ids = list(prompt.ids)
    while len(ids) - len(prompt.ids) < min(count, prompt.room):
        row = torch.tensor([ids])
        with torch.no_grad():
            ids.append(
                int(model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits[0, -1].argmax())
            )
        if ids[-1] in stops:
            break
    return tuple(ids[len(prompt.ids) :])


FEW = ("full", "lora", "prompt-tuning", "prefix-tuning")
CASES = [(f, m) for f in FAMILIES for m in (METHODS if f in ("llama", "gpt2") else FEW)]
"""Every method with turned and with learned places; the other families, one of them with windows, with a few."""


@pytest.mark.parametrize(("family", "method"), CASES)
def test_a_batch_of_unequal_prompts_says_what_each_says_alone(family: str, method: str) -> None:
    model, asked = tuned(family, method), prompts([5, 1, 20, 5])
    expected = [naive(model, prompt, 8, ()) for prompt in asked]
    stops = {expected[0][2], expected[2][6]}  # they cut some of the texts short, each at another place
    expected = [_cut(tokens, stops) for tokens in expected]
    assert len({len(tokens) for tokens in expected}) > 1
    decoder, eight = Decoder(model), Decoding(max_new_tokens=8)
    assert generate(decoder, asked, eight, stops, token_budget=10**6) == expected
    assert [generate(decoder, [prompt], eight, stops)[0] for prompt in asked] == expected
    assert generate(decoder, asked[::-1], eight, stops, token_budget=28) == expected[::-1]


def _cut(tokens: tuple[int, ...], stops: set[int]) -> tuple[int, ...]:
    """Up to the first stop token."""
    return next((tokens[: at + 1] for at, token in enumerate(tokens) if token in stops), tokens)


def test_no_more_tokens_than_allowed_and_than_there_is_room_for() -> None:
    model = make_model("gpt2")
    asked = [Prompt(one.ids, room) for one, room in zip(prompts([5, 9, 9]), (3, 1, 40), strict=True)]
    found = generate(Decoder(model), asked, GREEDY, ())
    assert found == [naive(model, prompt, 12, ()) for prompt in asked]
    assert [len(tokens) for tokens in found] == [3, 1, 12]
    assert generate(Decoder(model), [], GREEDY, ()) == []


def test_out_of_memory_halves_the_batches_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, asked = Decoder(make_model("llama")), prompts([6] * 8)
    expected, whole = generate(decoder, asked, GREEDY, ()), Decoder.next_logits
    sizes: list[int] = []

    def limited(self: Decoder, ids: torch.Tensor, cache: object) -> object:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("not enough")
        sizes.append(len(ids))
        return whole(self, ids, cache)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "next_logits", limited)
    seen: list[int] = []
    assert generate(decoder, asked, GREEDY, (), on_progress=seen.append) == expected
    assert max(sizes) == 2 and seen == [2, 4, 6, 8]

    def never(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr("byrote.generation._together", never)
    with pytest.raises(ByroteError, match="out of memory generating up to 18 tokens for a single prompt"):
        generate(decoder, asked, GREEDY, ())


def test_a_cache_that_is_not_exact_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when PEFT puts its virtual tokens before every piece again."""
    monkeypatch.setattr("peft.PeftModel.get_base_model", lambda self: self)
    for method in ("prompt-tuning", "prefix-tuning"):
        with pytest.raises(ByroteError, match=r"differ from those without by .* would not be its own"):
            generate(Decoder(tuned("llama", method)), prompts([9, 4]), GREEDY, ())
    empty = SimpleNamespace(logits=torch.zeros(1, 1, 4), get=lambda name: None)
    decoder = Decoder(make_model("llama"))
    monkeypatch.setattr(type(decoder.model), "forward", lambda self, **_: empty)
    with pytest.raises(ByroteError, match="keeps no keys and values"):
        generate(decoder, prompts([3]), GREEDY, ())


# --- sampling --------------------------------------------------------------------------------------


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, 1.0, -float("inf")])
    for decoding, kept in (
        (Decoding(do_sample=True, temperature=0.7), [0, 1, 2, 3]),
        (Decoding(do_sample=True, top_k=2), [0, 3]),
        (Decoding(do_sample=True, top_p=0.8), [0, 3]),  # .58, .21, .13, .03 of 1
        (Decoding(do_sample=True, top_p=0.5), [0]),
    ):
        rng = np.random.default_rng(3)
        drawn = Counter(choose(logits.expand(4000, -1).clone(), decoding, [rng] * 4000))
        chances = (logits[kept].double() / decoding.temperature).softmax(0).numpy()
        assert set(drawn) == set(kept)
        assert len(kept) == 1 or chisquare([drawn[token] for token in kept], 4000 * chances).pvalue > 1e-3


def test_a_prompt_draws_the_same_in_any_company() -> None:
    decoder, asked = Decoder(make_model("llama")), prompts([5, 9, 2, 9])
    warm = Decoding(max_new_tokens=10, do_sample=True, temperature=1.5, top_k=40, top_p=0.95)
    together = generate(decoder, asked, warm, (9,))
    assert [generate(decoder, [prompt], warm, (9,))[0] for prompt in asked] == together
    assert generate(decoder, asked[::-1], warm, (9,))[::-1] == together
    again = generate(decoder, asked, Decoding(10, do_sample=True, temperature=1.5, seed=1), (9,))
    assert again != together
    same_text = [Prompt(asked[0].ids, 50, seed) for seed in (1, 2)]
    first, second = generate(decoder, same_text, warm, ())
    assert first != second


def test_a_low_temperature_is_greedy() -> None:
    decoder, asked = Decoder(make_model("gpt2")), prompts([4, 8])
    cold = Decoding(max_new_tokens=6, do_sample=True, temperature=1e-4)
    assert generate(decoder, asked, cold, ()) == generate(decoder, asked, Decoding(6), ())


def test_settings_are_said_in_words() -> None:
    assert str(Decoding(64)) == "greedy decoding, at most 64 new tokens"
    warm = Decoding(64, do_sample=True, temperature=0.7, top_k=50, top_p=0.9, seed=3)
    assert str(warm) == "sampled at temperature 0.7, at most 64 new tokens, top_k 50, top_p 0.9, seed 3"


# --- records ---------------------------------------------------------------------------------------


def test_answers_of_records_end_at_the_end_of_text_and_keep_to_max_length() -> None:
    """The pad of these models is their end-of-text token."""
    model, tokenizer, records = make_model("llama"), make_tokenizer(), pairs(20, 4)
    target = Target(model, tokenizer, max_length=14, objective="completion")
    assert target.stops == {0}
    found = target.generate(records, Decoding(20))
    for one, said, ids in zip(records, found, encode_prompts(tokenizer, records), strict=True):
        assert tokenizer.convert_ids_to_tokens(ids) == (one.prompt or "").split()
        assert said.tokens == naive(model, Prompt(ids, 14 - len(ids)), 20, (0,))
        assert said.ended == (said.tokens[-1] == 0) and len(ids) + len(said.tokens) <= 14
        assert said.text.split() == [WORDS[token - 4] for token in said.tokens if token >= 4]  # the others are special
    assert {said.ended for said in found} == {False, True}


def test_a_prompt_that_leaves_no_room_says_so() -> None:
    target = Target(make_model("llama"), make_tokenizer(), max_length=4, objective="completion")
    long, short, empty = record("w1 w2 w3 w4", "w5", 0), record("w1 w2 w3", "w5", 1), record("", "w5", 2)
    found = target.generate([long, short, empty], Decoding(5))
    assert found[0].reason == "the prompt has 4 tokens, so max_length 4 leaves no room for an answer"
    assert len(found[1].tokens) == 1 and not found[1].reason
    assert found[2].reason == "the prompt has no token to go on from" and found[2].tokens == ()


def test_a_chat_is_opened_as_its_template_opens_an_answer() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    one = chat(("user", "w1 w2"), ("assistant", "w3"), ("user", "w4"), ("assistant", "w5 w6"))
    (ids,) = encode_prompts(tokenizer, [one])
    assert tokenizer.decode(ids).split()[-4:] == ["<unk>", "w4", "<x>", "<unk>"]


def test_special_tokens_stand_before_a_prompt_and_not_after_it() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        "<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 0)]
    )
    assert encode_prompts(tokenizer, [record("w1 w2", "w3")]) == [(2, 5, 6)]
