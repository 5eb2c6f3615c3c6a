"""The private step: its limits, its batches, and the states from which it goes on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from byrote.objectives.batching import length_grouped
from byrote.runner.private_runs import model_card
from byrote.training.loop import Training
from byrote.training.per_example import Clipping, EngineUnsuited
from byrote.training.sampling import (
    Randomness,
    RepeatableRandomness,
    SystemRandomness,
)
from byrote.training.vmap import masks_without_looking
from byrote.types import ByroteError, Ledger, StudyError
from private_checks import (
    CLIP,
    ENGINES,
    METHODS,
    NOISE,
    Bench,
    always,
    assert_divides_by_the_declared_size,
    assert_draws_are_poisson,
    assert_examples_stand_alone,
    assert_noise_is,
    bench,
    flat,
    gradient,
    naive_sum,
    private,
    training_of,
    weights,
)

CPU = torch.device("cpu")
UNBOUNDED: dict[str, Any] = {"noise_multiplier": 0.0, "clipping": Clipping(1e12)}

# --- limits --------------------------------------------------------------------------------------


def trained(method: str, engine: str | None, dtype: torch.dtype, optimizer: type[torch.optim.Optimizer]) -> Bench:
    """6 steps of the public loop over the same batches: plain, or private without noise and clipping."""
    made = bench(method, dtype=dtype)
    privatiser = None
    if engine:
        privatiser = private(made, engine, **UNBOUNDED)
        batches = plain_batches(made)
        privatiser.draw = lambda: next(batches)  # type: ignore[method-assign]
    training = training_of(made, privatiser)
    training.optimizer = optimizer(made.parameters.values(), lr=0.01)  # type: ignore[call-arg,assignment]
    assert list(training.run()) == [1, 2]
    return made


def plain_batches(made: Bench) -> Iterator[list[list[int]]]:
    for epoch in range(2):
        generator = np.random.default_rng(np.random.SeedSequence([11, epoch]))
        for indices in length_grouped(made.lengths, 4, generator):
            yield [[index] for index in indices]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_without_noise_and_clipping_training_is_plain(method: str, engine: str) -> None:
    start = weights(bench(method, dtype=torch.float64))
    for dtype, optimizer, tolerance in (
        (torch.float64, torch.optim.SGD, 1e-6),
        (torch.float32, torch.optim.AdamW, 2e-4),
    ):
        plain = weights(trained(method, None, dtype, optimizer))
        ours = weights(trained(method, engine, dtype, optimizer))
        moved = float((plain - start).norm())
        assert moved > 1e-3
        assert float((ours - plain).norm()) < tolerance * moved


def test_a_run_without_noise_never_says_that_it_is_private() -> None:
    made = bench()
    unclaimed = always(private(made, **UNBOUNDED), [[0], [1]])
    training = training_of(made, unclaimed)
    list(training.run())
    ledger = training.ledger()
    assert ledger is not None and not ledger.private and ledger.epsilon == math.inf
    claimed = private(made, randomness=SystemRandomness(), claimed=True, noise_multiplier=0.0)
    with pytest.raises(StudyError, match="without noise nothing is private"):
        claimed.ledger(1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("ignore")
def test_lora_updates_are_those_of_opacus_hooks(engine: str) -> None:
    """Clipping active for about half of the records, no noise, one step of SGD."""
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    ours, theirs, batch = bench(), bench(), [[index] for index in range(8)]
    norm = float(np.median([float(flat(naive_sum(ours, [unit], Clipping(math.inf))).norm()) for unit in batch]))
    training = training_of(ours, always(private(ours, engine, noise_multiplier=0.0, clipping=Clipping(norm)), batch))
    training.optimizer = torch.optim.SGD(ours.parameters.values(), lr=1.0)  # type: ignore[assignment]
    training.steps = 1
    list(training.run())

    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters.values(), lr=0.01),
        noise_multiplier=0.0,
        max_grad_norm=norm,
        expected_batch_size=4,
    )
    hooked = GradSampleModule(theirs.model, loss_reduction="sum")
    theirs.loss([index for unit in batch for index in unit]).sum().backward()
    assert [p.grad_sample.shape[0] for p in theirs.parameters.values()] == [8] * len(theirs.parameters)
    optimizer.step()
    hooked.remove_hooks()
    start = weights(bench())
    torch.testing.assert_close(weights(ours) - start, weights(theirs) - start, atol=1e-7, rtol=1e-4)


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("randomness", [RepeatableRandomness(5), SystemRandomness()], ids=["repeatable", "system"])
def test_batches_are_poisson_draws(randomness: Randomness) -> None:
    assert_draws_are_poisson(private(bench(), randomness=randomness))
    assert_draws_are_poisson(private(bench(), randomness=randomness, units=[[i, i + 1] for i in range(0, 12, 2)],
                                     records_per_group=2, expected_batch_size=1))  # fmt: skip


def test_a_rate_of_one_takes_everyone() -> None:
    privatiser = private(bench(), expected_batch_size=12)
    assert all(privatiser.draw() == [[index] for index in range(12)] for _ in range(50))


def test_empty_batches_are_steps_of_noise_that_count() -> None:
    made = bench("full")
    start = weights(made)
    training = training_of(made, always(private(made), []))
    seen: list[float | None] = []
    training.on_step = lambda done, steps, loss: seen.append(loss)
    list(training.run())
    ledger = training.ledger()
    assert ledger is not None and (ledger.steps, ledger.planned_steps) == (6, 6)
    assert seen == [None] * 6
    assert bool((weights(made) != start).all())


def test_the_gradient_is_over_the_declared_size() -> None:
    made = bench()
    assert_divides_by_the_declared_size(private(made, noise_multiplier=0.0), made)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_larger_than_memory_gets_its_noise_once(engine: str) -> None:
    made, found = bench(), []
    batch = [[index] for index in range(12)]
    for micro_batch in (1, 3, 100):
        privatiser = private(made, engine)  # with the same noise each time
        privatiser.micro_batch = micro_batch
        found.append(gradient(privatiser, batch))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-7, rtol=1e-4)
    assert_noise_is(privatiser_of_ones(engine), bench("full"), NOISE * CLIP, batch)


def privatiser_of_ones(engine: str) -> Any:
    privatiser = private(bench("full"), engine)
    privatiser.micro_batch = 1
    return privatiser


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(error: Exception) -> None:
    made, batch = bench(), [[index] for index in range(8)]
    right = gradient(private(made, expected_batch_size=8), batch)
    privatiser = private(made, expected_batch_size=8)
    sums, sizes = privatiser.engine.clipped_sums, []

    def limited(units: Any, clipping: Clipping) -> Any:
        sizes.append(len(units))
        if len(units) > 3:
            raise error
        return sums(units, clipping)

    privatiser.engine.clipped_sums = limited  # type: ignore[method-assign]
    torch.testing.assert_close(gradient(privatiser, batch), right, atol=1e-7, rtol=1e-4)
    assert sizes == [8, 4, 2, 2, 2, 2] and privatiser.micro_batch == 2


def test_out_of_memory_with_one_record_and_other_errors() -> None:
    privatiser = private(bench())
    for error, kind, words in (
        (torch.OutOfMemoryError("out of memory"), ByroteError, "with a single record in memory"),
        (RuntimeError("shapes do not match"), RuntimeError, "shapes"),
    ):

        def broken(*_: Any, error: Exception = error) -> Any:
            raise error

        privatiser.engine.clipped_sums = broken  # type: ignore[method-assign]
        with pytest.raises(kind, match=words):
            privatiser.gradients([[0], [1]])


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_an_example_is_its_own(method: str) -> None:
    assert_examples_stand_alone(bench(method))


# --- the rest of the step ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_leaves_no_trace(engine: str) -> None:
    import transformers.masking_utils as masking

    made, looks = bench("prompt-tuning"), masking.is_tracing
    for parameter in made.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    made.model.register_forward_hook(lambda *_: calls.append(masking.is_tracing is not looks))
    calls: list[bool] = []
    made.loss.training = True
    ENGINES[engine](made.loss, made.parameters).clipped_sums([[0], [1]], Clipping(1.0))
    assert calls and all(calls) == (engine == "vmap")
    assert all(bool((p.grad == 1).all()) and p.requires_grad for p in made.parameters.values())
    assert masking.is_tracing is looks and "get_prompt" not in vars(made.model)

    def broken(*_: Any) -> None:
        raise ValueError("in the middle")

    made.model.register_forward_hook(broken)
    with pytest.raises(ValueError, match="in the middle"):
        ENGINES[engine](made.loss, made.parameters).clipped_sums([[0], [1]], Clipping(1.0))
    assert all(bool((p.grad == 1).all()) and p.requires_grad for p in made.parameters.values())
    assert masking.is_tracing is looks and "get_prompt" not in vars(made.model)
    assert not any(module._forward_hooks for module in made.model.modules() if module is not made.model)


def test_another_transformers_is_said_rather_than_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("transformers.masking_utils.is_tracing")
    with pytest.raises(EngineUnsuited, match="is_tracing"), masks_without_looking():
        pass


def test_weights_that_do_not_move_stop_the_run() -> None:
    made = bench()
    training = training_of(made, private(made))
    copies = [p.detach().clone().requires_grad_() for p in made.parameters.values()]
    training.optimizer = torch.optim.AdamW(copies, lr=0.1)  # the optimiser holds other tensors than the model
    with pytest.raises(ByroteError, match=r"lora_A.*did not move"):
        list(training.run())


def test_the_noise_is_not_clipped_by_max_grad_norm() -> None:
    made, other = bench(), bench()
    for each, bound in ((made, None), (other, 1e-3)):
        list(training_of(each, private(each), max_grad_norm=bound).run())
    assert torch.equal(weights(made), weights(other))


@pytest.mark.parametrize(
    "changes",
    [
        {"clipping": Clipping(0.2)},
        {"clipping": Clipping(CLIP, "automatic")},
        {"expected_batch_size": 3},
        {"declared": 13},
        {"steps": 7},
        {"delta": 0.02},
        {"unit": "group"},
        {"claimed": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_state_with_another_account_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    state = saved_state(tmp_path)
    with pytest.raises(ByroteError, match="another privacy account"):
        training_of(made := bench(), private(made, randomness=SystemRandomness(), **changes)).resume(state)
    training_of(made := bench(), private(made)).resume(state)


def saved_state(folder: Path) -> Path:
    training = training_of(made := bench(), private(made))
    stop_after(training, 2)
    training.save(folder / "state.safetensors")
    return folder / "state.safetensors"


def stop_after(training: Training, steps: int) -> None:
    whole, training.steps = training.steps, steps
    list(training.run())
    training.steps = whole


def test_a_state_without_an_account_is_refused(tmp_path: Path) -> None:
    training = training_of(bench(), None)
    stop_after(training, 2)
    training.save(tmp_path / "state.safetensors")
    with pytest.raises(ByroteError, match="account"):
        training_of(made := bench(), private(made)).resume(tmp_path / "state.safetensors")


def test_the_account_grows_by_the_step_and_reads_back() -> None:
    made = bench()
    known: dict[str, Any] = {"declared": 10, "noise_multiplier": 1.0, "claimed": True}  # as other tests account for
    privatiser = private(made, "bookkeeping", randomness=SystemRandomness(), **known)
    spent = [privatiser.ledger(steps) for steps in (0, 3, 6)]
    assert spent[0].epsilon == 0 < spent[1].epsilon < spent[2].epsilon
    assert all(ledger.private for ledger in spent)
    assert spent[2].engine == "bookkeeping" and spent[2].sampling_rate == 0.4
    assert Ledger.read(json.loads(json.dumps(dataclasses.asdict(spent[2])))) == spent[2]
    repeatable = private(made, **known).ledger(3)
    assert not repeatable.private and "NOT PRIVATE" in model_card(repeatable)
    assert "NOT PRIVATE" not in model_card(spent[1])
