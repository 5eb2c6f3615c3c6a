"""The loop and the loss, against naive ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from byrote.methods.head import Head
from byrote.objectives.batching import Example, collate, encode, length_grouped
from byrote.objectives.lm import Decoder, per_example_loss
from byrote.training.cost import seeded
from byrote.training.loop import Plan, Training
from byrote.training.losses import HeadLoss, TextLoss, example_loss
from byrote.training.state import trainable
from byrote.types import ByroteError
from conftest import make_model, make_texts, make_tokenizer


def examples_of(count: int, seed: int = 0) -> list:
    return encode(make_tokenizer(), make_texts(count, seed=seed), 40)


def single_loss(model: torch.nn.Module, ids: tuple[int, ...]) -> torch.Tensor:
    """transformers' own loss of one unpadded text: the mean over its tokens."""
    row = torch.tensor([ids])
    return model(input_ids=row, attention_mask=torch.ones_like(row), labels=row).loss


def plan(**changes: object) -> Plan:
    defaults = {
        "epochs": 2, "batch_size": 4, "learning_rate": 3e-3, "warmup_ratio": 0.1, "lr_scheduler_type": "linear",
        "weight_decay": 0.01, "max_grad_norm": 1.0, "seed": 11, "max_steps": None,
    }  # fmt: skip
    return Plan(**{**defaults, **changes})  # type: ignore[arg-type]


def run(model: torch.nn.Module, loss, examples: list, the_plan: Plan) -> Training:
    with seeded(0):
        training = Training(model, loss, [len(example.ids) for example in examples], the_plan)
        list(training.run())
    return training


def test_per_example_loss_equals_single_texts_for_every_family(family: str) -> None:
    model, examples = make_model(family), examples_of(6)
    losses = per_example_loss(Decoder(model), collate(examples, 0))
    assert losses.tolist() == pytest.approx([single_loss(model, e.ids).item() for e in examples], rel=1e-5)


def test_one_examples_gradient_does_not_depend_on_its_neighbours() -> None:
    """What transformers' own batch loss gets wrong: there it depends on the neighbours' lengths."""
    model, examples = make_model("llama"), examples_of(5)
    model.requires_grad_(True)
    parameters = list(trainable(model).values())

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    alone = gradient(single_loss(model, examples[2].ids))
    ours = gradient(per_example_loss(Decoder(model), collate(examples, 0))[2])
    torch.testing.assert_close(ours, alone, atol=1e-6, rtol=1e-4)


def test_the_loop_equals_a_naive_one() -> None:
    """Batches by the documented order, one text at a time, gradients summed by hand, torch's own AdamW."""
    examples, the_plan = examples_of(10), plan()
    ours, naive = make_model("llama").requires_grad_(True), make_model("llama").requires_grad_(True)
    run(ours, TextLoss(Decoder(ours), examples, 0, "cpu"), examples, the_plan)
    naive.train()
    optimizer = torch.optim.AdamW(naive.parameters(), lr=1.0, weight_decay=0.01)
    steps, step = 2 * 3, 0
    for epoch in range(2):
        generator = np.random.default_rng(np.random.SeedSequence([11, epoch]))
        for indices in length_grouped([len(e.ids) for e in examples], 4, generator):
            optimizer.zero_grad()
            for index in indices:
                (single_loss(naive, examples[index].ids) / len(indices)).backward()
            torch.nn.utils.clip_grad_norm_(naive.parameters(), 1.0)
            optimizer.param_groups[0]["lr"] = 3e-3 * ((step + 1) if step < 1 else (steps - step) / (steps - 1))
            optimizer.step()
            step += 1
    for (name, one), two in zip(ours.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4, msg=name)


def test_cached_features_train_the_same_head() -> None:
    examples = examples_of(12)
    weights = []
    for kind in (HeadLoss, TextLoss):
        model = Head().attach(make_model("gpt2", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)).model
        run(model, kind(Decoder(model), examples, 0, "cpu"), examples, plan())
        weights.append(model.get_output_embeddings().weight)
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)


def test_features_are_cached_only_where_that_is_exact() -> None:
    head = Head().attach(make_model("llama")).model
    assert isinstance(example_loss(Decoder(head), examples_of(3), 0, "cpu"), HeadLoss)
    full = make_model("llama").requires_grad_(True)
    assert isinstance(example_loss(Decoder(full), examples_of(3), 0, "cpu"), TextLoss)


def test_the_cached_body_runs_once() -> None:
    model, examples, calls = Head().attach(make_model("llama")).model, examples_of(8), []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    loss = example_loss(Decoder(model), examples, 0, "cpu")
    once = len(calls)
    assert 0 < once <= len(examples)
    run(model, loss, examples, plan(epochs=5))
    assert len(calls) == once


def test_out_of_memory_halves_the_micro_batch_and_ends_with_the_same_weights() -> None:
    examples, weights = examples_of(12), []
    for limit in (99, 3):
        model = make_model("llama").requires_grad_(True)
        loss = TextLoss(Decoder(model), examples, 0, "cpu")

        def limited(indices: list[int], loss: TextLoss = loss, limit: int = limit) -> torch.Tensor:
            if len(indices) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(indices)

        training = run(model, limited, examples, plan(batch_size=8))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert training.position.micro_batch_size == (8 if limit == 99 else 2)
    torch.testing.assert_close(weights[0], weights[1], atol=2e-5, rtol=1e-4)


def test_out_of_memory_with_one_record_is_an_error_that_says_what_to_do() -> None:
    model, examples = make_model("llama").requires_grad_(True), examples_of(4)

    def never(indices: list[int]) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(ByroteError, match="shorter max_length"):
        run(model, never, examples, plan())


def test_another_error_in_the_loss_is_not_taken_for_memory() -> None:
    model, examples = make_model("llama").requires_grad_(True), examples_of(4)

    def broken(indices: list[int]) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run(model, broken, examples, plan())


def test_dropout_repeats_after_a_retry() -> None:
    """A retried step sees the generator as it was, so a run with a retry is still repeatable."""
    examples, weights = examples_of(8), []
    for _ in range(2):
        model = make_model("gpt2", resid_pdrop=0.3).requires_grad_(True)
        loss, failed = TextLoss(Decoder(model), examples, 0, "cpu"), []

        def once(indices: list[int], loss: TextLoss = loss, failed: list[int] = failed) -> torch.Tensor:
            result = loss(indices)
            if not failed:
                failed.append(1)
                raise torch.OutOfMemoryError("out of memory")
            return result

        run(model, once, examples, plan())
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])


def test_divergence_is_an_error_that_names_the_rate() -> None:
    model, examples = make_model("llama").requires_grad_(True), examples_of(4)
    with pytest.raises(ByroteError, match=r"diverged.*learning rate 0.003"):
        run(model, lambda indices: torch.full((len(indices),), float("nan"), requires_grad=True), examples, plan())


def test_nothing_to_train_is_an_error() -> None:
    model = make_model("llama").requires_grad_(False)
    with pytest.raises(ByroteError, match="nothing to train"):
        Training(model, lambda indices: torch.zeros(1), [3], plan())


def test_epochs_are_yielded_and_max_steps_cuts_the_last(tmp_path: Path) -> None:
    examples = examples_of(10)
    model = make_model("llama").requires_grad_(True)
    training = Training(model, TextLoss(Decoder(model), examples, 0, "cpu"), [len(e.ids) for e in examples],
                        plan(epochs=9, max_steps=7))  # fmt: skip
    assert list(training.run()) == [1, 2, 3]
    assert training.position.step == 7 and len(training.position.losses) == 7


def test_resuming_in_the_middle_of_an_epoch_is_bitwise_and_its_test_can_fail(tmp_path: Path) -> None:
    examples = examples_of(10)

    def fresh() -> tuple[torch.nn.Module, Training]:
        model = make_model("gpt2", resid_pdrop=0.2).requires_grad_(True)
        loss = TextLoss(Decoder(model), examples, 0, "cpu")
        return model, Training(model, loss, [len(e.ids) for e in examples], plan(epochs=3))

    def weights(model: torch.nn.Module) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    with seeded(0):
        whole, training = fresh()

        def keep() -> None:
            if training.position.step == 4:
                training.save(tmp_path / "state")

        list(training.run(keep))
    endings = []
    for disturb in (False, True):
        with seeded(99):
            model, resumed = fresh()
            resumed.resume(tmp_path / "state")
            assert (resumed.position.step, resumed.position.epoch, resumed.position.batch) == (4, 1, 1)
            if disturb:
                torch.rand(1)
            assert list(resumed.run()) == [2, 3]
            endings.append(weights(model))
    assert torch.equal(endings[0], weights(whole))
    assert not torch.equal(endings[1], weights(whole))


def test_seeded_leaves_the_outer_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    with seeded(1):
        inside = torch.rand(3)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with seeded(1):
        assert torch.equal(torch.rand(3), inside)


def test_peak_memory_sees_what_was_freed_and_starts_anew() -> None:
    """In a process of its own: here, memory that earlier tests freed could be used again without a new peak."""
    program = """
from byrote.training.cost import PeakMemory
first = PeakMemory("cpu")
before = first.read()
block = bytearray(64 * 2**20)
del block
grown = first.read() - before
again = PeakMemory("cpu").read() - before
print(grown, again)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    grown, again = map(int, printed.split())
    assert 60 * 2**20 < grown < 80 * 2**20
    if sys.platform == "linux":
        assert again < 10 * 2**20


def test_a_batch_of_masked_padding_has_no_targets_there() -> None:
    batch = collate([Example((5, 6)), Example((7,))], 0)
    assert batch.targets.tolist() == [6]
    assert batch.rows(torch.arange(4.0).reshape(2, 2, 1)).flatten().tolist() == [0.0]
