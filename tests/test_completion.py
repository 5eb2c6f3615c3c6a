"""The completion objective: which tokens count, against transformers' own masked labels."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import torch

from byrote.data.base import Columns
from byrote.data.load import load as load_data
from byrote.models.load import load, resolve
from byrote.objectives.batching import Example, collate
from byrote.objectives.completion import encode_completions
from byrote.objectives.lm import Decoder, per_example_loss
from byrote.registry import make
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.study import Study
from byrote.target import Target
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.losses import HeadLoss, TextLoss
from byrote.training.per_example import Clipping, Loop
from byrote.training.state import trainable
from byrote.training.vmap import VMap
from byrote.types import Record, StudyError
from conftest import WORDS, make_model, make_tokenizer
from small_study import leave_out_what_is_slow, make_folder, settings, study_of

CHAT = (
    "{% for m in messages %}<x> {{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<x> assistant {% endif %}"
)


def record(prompt: str, completion: str, number: int = 0) -> Record:
    return Record(f"r{number}", f"{prompt}\n{completion}", prompt=prompt, completion=completion)


def pairs(count: int, seed: int = 0) -> list[Record]:
    generator = torch.Generator().manual_seed(seed)

    def words(low: int, high: int) -> str:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return " ".join(WORDS[i] for i in torch.randint(0, 60, (length,), generator=generator).tolist())

    return [record(words(1, 8), words(1, 8), number) for number in range(count)]


def test_the_completion_and_the_end_are_the_targets() -> None:
    tokenizer = make_tokenizer()
    example = encode_completions(tokenizer, [record("w1 w2", "w3 w4 w5")], 64)[0]
    assert tokenizer.convert_ids_to_tokens(example.ids) == ["w1", "w2", "w3", "w4", "w5", "<eos>"]
    assert tokenizer.convert_ids_to_tokens(example.target_ids) == ["w3", "w4", "w5", "<eos>"]
    cut = encode_completions(tokenizer, [record("w1 w2", "w3 w4 w5")], 3)[0]
    assert (len(cut.target_ids), cut.truncated_tokens) == (1, 3)
    assert encode_completions(tokenizer, [record("w1 w2 w3", "w4")], 2)[0].targets == 0


def test_a_first_token_has_nothing_before_it_whatever_is_given() -> None:
    assert Example((5, 6, 7)).target_ids == Example((5, 6, 7), given=1).target_ids == (6, 7)
    assert Example((5, 6, 7), given=3).targets == 0


def test_real_tokens_cover_the_completion_and_no_more_than_its_boundary() -> None:
    """Byte-level tokens merge across boundaries; the targets still spell the whole completion."""
    tokenizer = load(resolve("builtin:tiny")).tokenizer
    records = load_data("builtin:aws-commands").records[:300]
    for one, example in zip(records, encode_completions(tokenizer, records, 512), strict=True):
        assert example.ids[-1] == tokenizer.eos_token_id
        said = tokenizer.decode(example.target_ids[:-1])
        assert said.endswith(one.completion or "?") and one.text.endswith(said)
        without_first = tokenizer.decode(example.target_ids[1:-1])
        assert len(without_first) < len(one.completion or "")


@pytest.mark.parametrize("method", ["full", "prompt-tuning"])
def test_the_loss_is_transformers_own_with_the_prompt_masked(family: str, method: str) -> None:
    tokenizer, records = make_tokenizer(), pairs(5)
    model = make("method", method).attach(make_model(family)).model  # type: ignore[attr-defined]
    examples = encode_completions(tokenizer, records, 64)
    batch, expected = collate(examples, 0), []
    for example in examples:
        ids = torch.tensor([example.ids])
        labels = ids.clone()
        labels[0, : len(example.ids) - example.targets] = -100
        expected.append(float(model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.detach()))
    assert per_example_loss(Decoder(model), batch).tolist() == pytest.approx(expected, rel=1e-4)
    assert Decoder(model).loss_without_looking(batch).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["full", "head", "lora", "prompt-tuning"])
def test_every_engine_is_exact_on_completions(method: str) -> None:
    examples = encode_completions(make_tokenizer(), pairs(5, 3), 64)
    model = make("method", method).attach(make_model("llama")).model  # type: ignore[attr-defined]
    parameters = trainable(model)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.05)
    units = [[index] for index in range(5)]
    naive: dict[str, torch.Tensor] = {}
    for example in examples:
        ids = torch.tensor([example.ids])
        labels = ids.clone()
        labels[0, : len(example.ids) - example.targets] = -100
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = torch.stack([g.norm() for g in gradients]).norm()
        for name, gradient in zip(parameters, gradients, strict=True):
            naive[name] = naive.get(name, 0) + gradient * min(1.0, 0.5 / float(norm))
    kinds = [TextLoss, HeadLoss] if method == "head" else [TextLoss]
    for kind in kinds:
        for engine in (Bookkeeping, VMap, Loop):
            loss_of = kind(Decoder(model), examples, 0, "cpu")
            sums = engine(loss_of, parameters).clipped_sums(units, Clipping(0.5)).sums
            for name, value in naive.items():
                torch.testing.assert_close(sums[name], value, atol=1e-5, rtol=1e-3)


def test_statistics_are_of_the_completion_alone() -> None:
    model, tokenizer, records = make_model("llama"), make_tokenizer(), pairs(6)
    target = Target(model, tokenizer, max_length=64, objective="completion")
    whole = Target(model, tokenizer, max_length=64)
    for one, found in zip(records, target.token_stats(records), strict=True):
        joined = whole.token_stats([f"{one.prompt} {one.completion} <eos>"])[0]
        count = len((one.completion or "").split()) + 1
        assert len(found) == count
        assert found.log_prob.tolist() == pytest.approx(joined.log_prob[-count:].tolist(), abs=1e-4)


def chat(*messages: tuple[str, str]) -> Record:
    return Record("c", "\n".join(": ".join(m) for m in messages), messages=messages)


def test_a_chat_is_written_by_the_template_and_its_last_message_counts() -> None:
    tokenizer = make_tokenizer()
    one = chat(("user", "w1 w2"), ("assistant", "w3"), ("user", "w4"), ("assistant", "w5 w6"))
    with pytest.raises(StudyError, match=r"needs a tokenizer with a chat template.*data\.prompt"):
        encode_completions(tokenizer, [one], 64)
    tokenizer.chat_template = CHAT
    example = encode_completions(tokenizer, [one], 64)[0]
    assert tokenizer.convert_ids_to_tokens(example.target_ids) == ["w5", "w6"]
    assert tokenizer.convert_ids_to_tokens(example.ids)[:4] == ["<x>", "<unk>", "w1", "w2"]


def test_a_record_without_a_completion_is_named() -> None:
    with pytest.raises(StudyError, match=r"texts\.jsonl:7: objective: completion needs a prompt and a completion"):
        encode_completions(make_tokenizer(), [Record("a", "w1", where="texts.jsonl:7")], 64)


def test_messages_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    good = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    path.write_text(json.dumps({"messages": good}) + "\n" + json.dumps({"messages": json.dumps(good[::-1] + good)}))
    records = load_data(str(path), Columns(messages="messages")).records
    assert records[0].messages == (("user", "hello"), ("assistant", "hi"))
    assert records[0].text == "user: hello\nassistant: hi" and len(records[1].messages or ()) == 4
    for wrong, said in (
        (good[:1], "must end with a message of the assistant"),
        ("hello", "not the JSON of a list"),
        ([{"role": "user"}, good[1]], "message 1 of 'messages' needs a role and a content"),
        ([1, 2], "must be a list of"),
    ):
        path.write_text(json.dumps({"messages": wrong}))
        with pytest.raises(StudyError, match=said):
            load_data(str(path), Columns(messages="messages"))


def test_the_objective_follows_the_columns(tmp_path: Path) -> None:
    study = settings(tmp_path)
    assert Study.model_validate(study).objective == "lm"
    prompts = {k: v for k, v in study["data"].items() if k != "text"} | {"prompt": "q", "completion": "a"}
    assert Study.model_validate(study | {"data": prompts}).objective == "completion"
    assert Study.model_validate(study | {"data": prompts, "objective": "lm"}).objective == "lm"
    with pytest.raises(ValueError, match="completion needs prompt and completion, or messages"):
        Study.model_validate(study | {"objective": "completion", "data": study["data"] | {"text": "t"}})


def test_a_study_of_prompts_and_completions_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    make_folder(tmp_path)
    rows = [json.dumps({"q": one.prompt, "a": one.completion}) for one in pairs(80, 5)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    data = {"source": str(tmp_path / "pairs.jsonl"), "prompt": "q", "completion": "a", "near_duplicates": 1.0}
    study = study_of(
        tmp_path,
        data=data,
        methods=["full", "prompt-tuning"],
        privacy=["none", {"epsilon": 8}],
        attacks=["loss", "zlib", "reference"],
    )
    results = run(study, tmp_path / "out")
    assert not results.failed
    assert {row.method for row in results.rows if row.kind == "membership"} == {"none", "full", "prompt-tuning"}
    as_text = run(study.model_copy(update={"objective": "lm"}), tmp_path / "lm", tmp_path / "out" / "runs")
    assert {c.run_id for c in as_text.manifest.cells}.isdisjoint(c.run_id for c in results.manifest.cells)
    records = {one.id: one for one in load_data(data["source"], Columns(prompt="q", completion="a")).records}
    for found, part in ((results, "completion"), (as_text, "text")):
        sizes = compressed_sizes(found)
        assert sizes == {key: len(zlib.compress(getattr(records[key], part).encode())) for key in sizes}


def compressed_sizes(results: Results) -> dict[str, int]:
    """By record, the bytes by which the zlib attack divides the loss."""
    scores = results.scores().query("method == 'full' and epoch == 2 and privacy == 'none'")
    loss, zlibs = (scores[scores.attack == name].set_index("record_id").score for name in ("loss", "zlib"))
    return {key: round(ratio) for key, ratio in (loss / zlibs).items()}
