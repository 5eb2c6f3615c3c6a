"""What private training must do, as named checks: tests show that they pass, and that each planted fault fails one.

A check takes the thing to be checked and raises AssertionError. What is right is computed here a second time, from
single texts, transformers' own loss and the formulas as the papers write them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from byrote.methods.full import Full
from byrote.methods.lora import LoRA
from byrote.methods.prompt_tuning import PromptTuning
from byrote.objectives.batching import Example, encode
from byrote.objectives.lm import Decoder
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.loop import Plan, Training
from byrote.training.losses import TextLoss
from byrote.training.per_example import Clipping, Engine, Loop, Unit
from byrote.training.private import Guarantee, Privatiser
from byrote.training.sampling import Randomness, RepeatableRandomness, SystemRandomness
from byrote.training.state import trainable
from byrote.training.vmap import VMap
from conftest import make_model, make_texts, make_tokenizer

ENGINES: dict[str, type[Engine]] = {"bookkeeping": Bookkeeping, "vmap": VMap, "loop": Loop}
METHODS = {"full": Full(), "lora": LoRA(r=4), "prompt-tuning": PromptTuning(num_virtual_tokens=4)}
FALSE_ALARM = 1e-7
"""The chance that a statistical check fails though all is well."""
CLIP, NOISE = 0.1, 0.8
BAD = 63
"""A token; the texts that hold it break the model's numbers."""

Sums = dict[str, torch.Tensor]


# --- things to check -----------------------------------------------------------------------------


@dataclass(eq=False)
class Bench:
    """A model with a method on it, and its per-example loss over some examples."""

    model: torch.nn.Module
    loss: TextLoss
    parameters: dict[str, torch.nn.Parameter]

    @property
    def examples(self) -> Sequence[Example]:
        """All of them."""
        return self.loss.examples

    @property
    def lengths(self) -> list[int]:
        """Their token counts."""
        return [len(example.ids) for example in self.examples]


def bench(
    method: str = "lora", examples: int = 12, *, family: str = "llama", dtype: torch.dtype = torch.float32
) -> Bench:
    """The same at every call. What the method trains is moved off where it starts: LoRA's B would be zero."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = METHODS[method].attach(make_model(family)).model.to(dtype)
        parameters = trainable(model)
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.add_(0.1 * torch.randn_like(parameter))
    texts = encode(make_tokenizer(), make_texts(examples, seed=5, low=3, high=12), 40)
    return Bench(model, TextLoss(Decoder(model), texts, 0, "cpu"), parameters)


def guarantee(**changes: Any) -> Guarantee:
    """12 units, 4 expected in a batch; unclaimed, so that no time goes into accounting."""
    defaults = {
        "noise_multiplier": NOISE, "clipping": Clipping(CLIP), "expected_batch_size": 4, "units": 12, "steps": 6,
        "steps_per_epoch": 3, "delta": 0.01, "claimed": False,
    }  # fmt: skip
    return Guarantee(**{**defaults, **changes})  # type: ignore[arg-type]


def private(
    made: Bench,
    engine: str = "loop",
    *,
    units: Sequence[Unit] | None = None,
    randomness: Randomness | None = None,
    declared: int | None = None,
    **changes: Any,
) -> Privatiser:
    """A Privatiser over a bench; every example is a unit, and as many are declared, unless said otherwise."""
    units = [[index] for index in range(len(made.examples))] if units is None else units
    return Privatiser(
        guarantee(units=declared or len(units), **changes),
        ENGINES[engine](made.loss, made.parameters),
        units,
        randomness or RepeatableRandomness(1),
    )


def plan(**changes: Any) -> Plan:
    """Two epochs of batches of 4 at a constant rate, nothing clipped."""
    defaults = {
        "epochs": 2, "batch_size": 4, "learning_rate": 0.01, "warmup_ratio": 0.0, "lr_scheduler_type": "constant",
        "weight_decay": 0.0, "max_grad_norm": None, "seed": 11, "max_steps": None,
    }  # fmt: skip
    return Plan(**{**defaults, **changes})  # type: ignore[arg-type]


def training_of(made: Bench, privatiser: Privatiser | None, **changes: Any) -> Training:
    """The public loop over a bench."""
    return Training(made.model, made.loss, made.lengths, plan(**changes), private=privatiser)


def always(privatiser: Privatiser, batch: list[list[int]]) -> Privatiser:
    """The same Privatiser, which draws this batch each time."""
    privatiser.draw = lambda: batch  # type: ignore[method-assign]
    return privatiser


def weights(made: Bench) -> torch.Tensor:
    """All trainable numbers in one row, in float64."""
    return flat({name: parameter.detach() for name, parameter in made.parameters.items()})


def flat(sums: Sums) -> torch.Tensor:
    """(P,) all numbers in one row, in float64."""
    return torch.cat([value.double().flatten() for value in sums.values()])


def gradient(privatiser: Privatiser, batch: Sequence[Unit]) -> torch.Tensor:
    """(P,) the private gradient of a batch."""
    privatiser.gradients(batch)
    return flat({name: p.grad for name, p in privatiser.engine.parameters.items() if p.grad is not None})


def breaking(made: Bench, bad: list[int], how: str) -> Bench:
    """`made`, whose model breaks at the texts with these indices: in its activations, or only in their gradient."""
    made.loss.examples = [
        Example(tuple(BAD if index in bad else min(token, BAD - 1) for token in example.ids))
        for index, example in enumerate(made.examples)
    ]
    rows: list[torch.Tensor] = []

    def look(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        rows[:] = [(inputs[0] == BAD).any(-1)[..., None, None]]
        return output if how == "gradient" else output.masked_fill(rows[0], float(how))

    def spoil(_: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nothing = (output - output.detach()).where(rows[0], 1.0).sqrt()  # 0, and its gradient is infinite
        return output + nothing.where(rows[0], 0.0)

    modules = dict(made.model.named_modules())
    made.model.get_input_embeddings().register_forward_hook(look)  # type: ignore[operator]
    if how == "gradient":
        next(module for name, module in modules.items() if name.endswith("model.norm")).register_forward_hook(spoil)
    return made


# --- what is right -------------------------------------------------------------------------------


def loss_alone(made: Bench, index: int) -> torch.Tensor:
    """() of one unpadded text, by the whole model's own logits: the mean over its tokens but the first.

    Not by `labels=`: with virtual tokens PEFT counts the first token too.
    """
    row = torch.tensor([made.examples[index].ids])
    logits = made.model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, -row.shape[1] : -1]
    return -logits.log_softmax(-1).gather(1, row[0, 1:, None]).mean()


def gradient_alone(made: Bench, unit: Unit) -> Sums:
    """A unit's gradient: the mean over its records, each alone and unpadded."""
    total = {name: torch.zeros_like(parameter) for name, parameter in made.parameters.items()}
    made.model.train()
    for index in unit:
        found = torch.autograd.grad(loss_alone(made, index), list(made.parameters.values()), allow_unused=True)
        for name, one in zip(total, found, strict=True):
            total[name] += 0.0 if one is None else one / len(unit)
    return total


def naive_clipped(one: Sums, clipping: Clipping) -> Sums:
    """One unit's clipped gradient, by the formulas of Clipping's papers."""
    if clipping.kind == "per-layer":
        modules = sorted({name.rpartition(".")[0] for name in one})
        clipped: Sums = {}
        for module in modules:
            part = {name: value for name, value in one.items() if name.rpartition(".")[0] == module}
            clipped |= naive_clipped(part, Clipping(clipping.norm / math.sqrt(len(modules))))
        return {name: clipped[name] for name in one}
    length = float(flat(one).norm())
    if clipping.kind == "automatic":
        return {name: value * (clipping.norm / (length + 0.01)) for name, value in one.items()}
    return {name: value * min(1.0, clipping.norm / max(length, 1e-30)) for name, value in one.items()}


def naive_sum(made: Bench, units: Sequence[Unit], clipping: Clipping) -> Sums:
    """The clipped sum over units, one by one."""
    return naive_sum_of([gradient_alone(made, unit) for unit in units], clipping)


def naive_sum_of(gradients: Sequence[Sums], clipping: Clipping) -> Sums:
    """The same from the units' gradients."""
    parts = [naive_clipped(one, clipping) for one in gradients]
    return {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}


def relative_error(ours: Sums, right: Sums) -> float:
    """Of all numbers together."""
    return float((flat(ours) - flat(right)).norm() / flat(right).norm())


# --- checks --------------------------------------------------------------------------------------


def assert_clips_each_unit(made: Bench, engine: Engine, units: Sequence[Unit]) -> None:
    """Nothing clipped, about half of the units clipped, all clipped: the sums are those of a naive loop."""
    alone = [gradient_alone(made, unit) for unit in units]
    lengths = sorted(float(flat(one).norm()) for one in alone)
    middle, least = lengths[len(lengths) // 2], lengths[0]
    for clipping in (
        Clipping(math.inf),
        Clipping(middle),
        Clipping(0.1 * least),
        Clipping(0.1 * least, "automatic"),
        Clipping(middle, "per-layer"),
    ):
        ours = engine.clipped_sums(units, clipping)
        error = relative_error(ours.sums, naive_sum_of(alone, clipping))
        # The constant 1e-6 that keeps a length of zero from dividing is part of the difference.
        assert error < 2e-5 + 2e-6 / least, f"{engine.name}, {clipping}: off by {error:.1e}"
        assert sorted(ours.lengths.tolist()) == pytest.approx(lengths, rel=1e-4), f"{engine.name}: other norms"


def assert_no_unit_moves_the_sum_by_more_than(engine: Engine, units: Sequence[Unit], clipping: Clipping) -> None:
    """Sensitivity by brute force: without any one unit, the sum is at most the clip norm away."""
    whole = flat(engine.clipped_sums(units, clipping).sums)
    for left_out in range(len(units)):
        rest = [unit for at, unit in enumerate(units) if at != left_out]
        without = flat(engine.clipped_sums(rest, clipping).sums) if rest else torch.zeros_like(whole)
        moved = float((whole - without).norm())
        assert moved <= clipping.norm * (1 + 1e-5) + 1e-6, f"one unit moved the sum by {moved / clipping.norm:.3g} C"


def assert_noise_is(privatiser: Privatiser, made: Bench, deviation: float, batch: Sequence[Unit]) -> None:
    """What a step adds to the clipped sum is Gaussian of this deviation: not of 0.9 or 1.1 times it."""
    g = privatiser.guarantee
    clean = flat(naive_sum(made, batch, g.clipping)) if batch else 0.0
    noise = torch.cat([gradient(privatiser, batch) * g.expected_batch_size - clean for _ in range(3)]).numpy()
    assert_gaussian(noise, deviation)


def assert_gaussian(noise: np.ndarray, deviation: float) -> None:
    """A Kolmogorov-Smirnov test that has the power to see a tenth."""
    assert _normal(noise, deviation) > FALSE_ALARM, f"deviation {noise.std():.4g} instead of {deviation:.4g}"
    for wrong in (0.9, 1.1):
        assert _normal(noise, wrong * deviation) < FALSE_ALARM, "too few numbers to tell"


def _normal(noise: np.ndarray, deviation: float) -> float:
    return float(stats.kstest(noise, "norm", args=(0.0, deviation)).pvalue)


def assert_independent(one: torch.Tensor, other: torch.Tensor) -> None:
    """Two stretches of noise have nothing in common."""
    deviations = abs(float(torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1])) * math.sqrt(len(one))
    assert deviations < 6, f"correlation of {deviations:.1f} standard errors"
    assert not bool((one == other).any())


def assert_divides_by_the_declared_size(privatiser: Privatiser, made: Bench) -> None:
    """Batches of any size: the noiseless gradient is the clipped sum over the expected size, not over their own."""
    g = privatiser.guarantee
    assert g.noise_multiplier == 0.0
    for size in (1, 3, 7):
        batch = privatiser.units[:size]
        ours = gradient(privatiser, batch) * g.expected_batch_size
        right = flat(naive_sum(made, batch, g.clipping))
        error = float((ours - right).norm() / right.norm())
        assert error < 1e-3, f"a batch of {size}: off by a factor {float(ours.norm() / right.norm()):.3g}"


def assert_draws_are_poisson(privatiser: Privatiser, draws: int = 4000) -> None:
    """Sizes are Binomial(N, q), every unit comes with rate q, and neither units nor steps know of each other."""
    units, rate = len(privatiser.units), privatiser.guarantee.sampling_rate
    of_unit = {tuple(unit): at for at, unit in enumerate(privatiser.units)}
    table = np.zeros((draws, units))
    for row in range(draws):
        for unit in privatiser.draw():
            table[row, of_unit[tuple(unit)]] += 1
    assert table.max() == 1.0, "a unit was drawn twice into one batch"
    binomial = stats.binom(units, rate)
    assert_counts_fit(np.bincount(table.sum(1).astype(int), minlength=units + 1), binomial.pmf(np.arange(units + 1)))
    spread = math.sqrt(rate * (1 - rate))
    of_units = (table.mean(0) - rate) / spread * math.sqrt(draws)
    assert stats.chi2(units).sf(float((of_units**2).sum())) > FALSE_ALARM, "units come with other rates"
    standard = (table - rate) / spread
    for name, product in {"units": standard.T @ standard, "steps": standard[:-1].T @ standard[1:]}.items():
        together = product[~np.eye(units, dtype=bool)] if name == "units" else product.ravel()
        worst = float(np.abs(together).max()) / math.sqrt(draws)
        assert worst < 7, f"{name} depend on each other: {worst:.1f} standard errors"


def assert_counts_fit(counts: np.ndarray, chances: np.ndarray) -> None:
    """Pearson's chi-square; cells that expect fewer than 10 are taken together."""
    expected = chances * counts.sum()
    rare = expected < 10
    seen = np.append(counts[~rare], counts[rare].sum())
    due = np.append(expected[~rare], expected[rare].sum())
    seen, due = seen[due > 0], due[due > 0]
    chance = float(stats.chi2(len(seen) - 1).sf(float(((seen - due) ** 2 / due).sum())))
    assert chance > FALSE_ALARM, f"counts {seen.tolist()} where {due.round(1).tolist()} are due"


def assert_noise_is_fresh_after_resume(folder: Path, randomness: Callable[[], Randomness] = SystemRandomness) -> None:
    """A state that is resumed twice: each goes on with noise of its own, and so does the run that wrote it."""
    batch = [[0], [1], [2]]

    def fresh() -> tuple[Bench, Training]:
        made = bench("full")
        return made, training_of(made, always(private(made, "bookkeeping", randomness=randomness()), batch))

    torch.manual_seed(8)
    made, training = fresh()
    state, last = folder / "state.safetensors", [torch.zeros(0)]

    def keep(made: Bench = made, training: Training = training) -> None:
        if training.position.step == 1:
            training.save(state)
        if training.position.step == 2:
            last[0] = flat({name: p.grad for name, p in made.parameters.items() if p.grad is not None})
            training.steps = 2

    list(training.run(keep))
    noises = [last[0]]
    for _ in range(2):
        torch.manual_seed(8)
        made, training = fresh()
        training.resume(state)
        assert training.private is not None
        noises.append(gradient(training.private, training.private.draw()))
    spread = math.sqrt(2) * NOISE * CLIP / 4  # the signal is the same each time, so differences are noise alone
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert _normal((noises[one] - noises[other]).numpy(), spread) > FALSE_ALARM, "the noise was replayed"


def assert_examples_stand_alone(made: Bench) -> None:
    """In a batch, an example's loss and gradient are those that it has alone."""
    indices = list(range(6))
    parameters = list(made.parameters.values())
    losses = made.loss(indices)
    for at in indices:
        alone = loss_alone(made, at)
        assert abs(float(losses[at].detach() - alone.detach())) < 1e-4 * float(alone.detach()), f"loss of example {at}"
        ours = torch.autograd.grad(losses[at], parameters, retain_graph=True)
        right = torch.autograd.grad(alone, parameters)
        for one, other in zip(ours, right, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
