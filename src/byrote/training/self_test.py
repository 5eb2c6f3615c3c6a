"""The test that every private run must pass before its first step, on the user's own model.

Three public examples of unequal length go through the chosen engine and through single-example backward passes. The
gradients must agree for every trainable parameter. It takes seconds, and it catches what otherwise ends in a wrong
epsilon: a batch clipped as one example, a layer that no hook sees, a loss that mixes examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from byrote.objectives.batching import Example, collate, out_of_memory
from byrote.objectives.lm import per_example_loss
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.losses import ExampleLoss, HeadLoss
from byrote.training.per_example import Clipped, Clipping, Engine, EngineUnsuited, Loop, Unit
from byrote.training.vmap import VMap
from byrote.types import ByroteError

if TYPE_CHECKING:
    from torch import nn

ENGINES: tuple[type[Engine], ...] = (Bookkeeping, VMap, Loop)
"""From the fastest to the plainest."""

TOLERANCE = 1e-3
"""Relative error of each parameter's clipped gradient sum, in float32."""
HALF_TOLERANCE = 3e-2
"""The same in bfloat16 and float16, whose own rounding is about 1e-2 over a model's depth."""
NOTHING = 1e-3
"""Of the whole gradient's norm: what a parameter below it is compared with. The key bias of BERT's attention has no
gradient but rounding, about 1e-8 of the whole; with this no error above 1e-6 of the whole is let through."""
SPREAD = 0.1
"""Perturbation, in standard deviations of a parameter; where it is constant, in fifths of a unit."""


class NoEngine(ByroteError):
    """No engine gives right per-example gradients, so private training would not be private."""


def probes(examples: Sequence[Example]) -> list[Example]:
    """Three examples of unequal length from public ones: the longest, and two cut from others.

    Raises ByroteError where no example is long enough.
    """
    long = sorted((e for e in examples if len(e.ids) >= 4), key=lambda e: -len(e.ids))[:3]
    if not long:
        raise ByroteError("the self-test needs a validation record of at least 4 tokens")
    longest = len(long[0].ids)
    sources = (long * 3)[:3]
    wanted = (longest, max(3, 2 * longest // 3), max(2, longest // 3))
    return [_cut(one if len(one.ids) >= n else long[0], n) for one, n in zip(sources, wanted, strict=True)]


def _cut(example: Example, length: int) -> Example:
    """The first tokens of an example, about half of them given where a prompt would take them all."""
    ids = example.ids[:length]
    return Example(ids, given=min(example.given, len(ids) // 2), label=example.label)


def choose_engine(
    asked: str,
    loss: ExampleLoss,
    public: ExampleLoss,
    parameters: Mapping[str, nn.Parameter],
    *,
    records_per_group: int = 1,
) -> tuple[Engine, list[str]]:
    """The engine that was asked for, or the first that passes, over `loss`; and why others were refused.

    `public` is the same loss over `probes`. Raises NoEngine.
    """
    kinds = [kind for kind in ENGINES if asked in ("auto", kind.name)]
    refused: list[str] = []
    for kind in kinds:
        try:
            check(kind, public, parameters, records_per_group=records_per_group)
            return kind(loss, parameters), refused
        except EngineUnsuited as error:
            refused.append(f"{kind.name}: {error}")
    raise NoEngine(
        "private training refused: no engine gives each record's own gradient here. "
        + "; ".join(refused)
        + ". Another method, or privacy: none, would work."
    )


def check(
    kind: type[Engine], loss: ExampleLoss, parameters: Mapping[str, nn.Parameter], *, records_per_group: int = 1
) -> None:
    """Compare an engine with single-example backward passes. Raises EngineUnsuited with the first difference.

    Trainable values are perturbed meanwhile, because LoRA's A has no gradient while B is zero, and dropout is off.
    """
    units: list[Unit] = [[0], [1], [2]]
    if records_per_group > 1:
        units = [[0, 1], [2]]
    before, loss.training = loss.training, False
    try:
        with _perturbed(parameters):
            _compare(kind, loss, parameters, units)
            _trains_as_tested(kind, loss)
    except EngineUnsuited:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        # What an engine meets in a model it does not know can be anything; none of it may end a study.
        said = " ".join(str(error).split())[:160]
        raise EngineUnsuited(f"{type(error).__name__}: {said}") from error
    finally:
        loss.training = before


def _compare(
    kind: type[Engine], loss: ExampleLoss, parameters: Mapping[str, nn.Parameter], units: Sequence[Unit]
) -> None:
    import torch

    loop, wide = Loop(loss, parameters), Clipping(float("inf"))
    alone = [loop.clipped_sums([unit], wide) for unit in units]
    lengths = torch.cat([one.lengths for one in alone])
    if not bool(lengths.isfinite().all()):
        raise EngineUnsuited("the model's own gradients are not finite")
    for name in parameters:
        if all(bool((one.sums[name] == 0).all()) for one in alone):
            raise EngineUnsuited(f"{name} receives no gradient, though the method trains it")
    if kind is Loop:  # it is what the others are compared with
        _depends_on_its_own_records_only(loss, units, alone)
        return
    engine = kind(loss, parameters)
    # Nothing clipped, about half of the units clipped, and all of them: each catches faults that the others hide.
    tolerance = HALF_TOLERANCE if _is_narrow(loss) else TOLERANCE
    for norm in (float("inf"), float(lengths.median()), 0.5 * float(lengths.min())):
        _same(engine.clipped_sums(units, Clipping(norm)), _sum(alone, Clipping(norm)), tolerance)


def _is_narrow(loss: ExampleLoss) -> bool:
    import torch

    return any(p.dtype in (torch.bfloat16, torch.float16) for p in loss.decoder.model.parameters())


def _depends_on_its_own_records_only(loss: ExampleLoss, units: Sequence[Unit], alone: Sequence[Clipped]) -> None:
    """A record that is trained alone must at least give the same loss twice."""
    import torch

    for unit, one in zip(units, alone, strict=True):
        with torch.no_grad():
            again = loss(list(unit)).mean()
        if abs(float(again) - float(one.losses[0])) > TOLERANCE * abs(float(again)):
            raise EngineUnsuited("the model gives the same record another loss each time")


def _trains_as_tested(kind: type[Engine], loss: ExampleLoss) -> None:
    """What the comparison cannot see, because dropout is off in it and because both sides may read the same rows.

    In training too, no record's loss may depend on its neighbours in a batch, and nothing but gradients may carry
    records into what is saved (batch normalisation does both).
    """
    import torch

    model, made_before = loss.decoder.model, isinstance(loss, HeadLoss)
    saved = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in saved}
    kept = {name: value.clone() for name, value in buffers.items()}
    # vmap and loop show every record to the model alone, unless its rows were made beforehand, in batches.
    in_batches = issubclass(kind, Bookkeeping) or made_before
    was = model.training
    loss.training = not made_before  # a frozen body makes its rows as it scores
    model.train(loss.training)
    try:
        if in_batches and _mixes_records(loss):
            raise EngineUnsuited("the model lets a record's loss depend on other records of its batch")
        if buffers:
            with torch.no_grad():
                loss([0])
        for name, value in buffers.items():
            if not torch.equal(value, kept[name]):
                raise EngineUnsuited(f"training on a record changes {name}, which no clipping bounds")
    finally:
        model.train(was)
        with torch.no_grad():
            for name, value in buffers.items():
                value.copy_(kept[name])


def _mixes_records(loss: ExampleLoss) -> bool:
    """Whether a record's loss has a gradient at another record's embedded tokens."""
    import torch

    leaves: list[torch.Tensor] = []

    def cut(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    embedding: nn.Module = loss.decoder.model.get_input_embeddings()  # type: ignore[operator]
    hook = embedding.register_forward_hook(cut, prepend=True)
    try:
        losses = per_example_loss(loss.decoder, collate(loss.examples, loss.pad_token_id, loss.device))
    finally:
        hook.remove()
    for row in range(len(losses)):
        found = torch.autograd.grad(losses[row], leaves, retain_graph=True, allow_unused=True)
        if any(g is not None and int((g != 0).flatten(1).any(1).sum()) > 1 for g in found):
            return True
    return False


def _sum(alone: Sequence[Clipped], clipping: Clipping) -> Clipped:
    """The reference: each unit's whole gradient, clipped by hand and added."""
    import torch

    lengths = torch.cat([one.lengths for one in alone])
    factors = (clipping.norm / lengths).clamp(max=1.0)
    sums = {
        name: torch.stack([one.sums[name] * f for one, f in zip(alone, factors, strict=True)]).sum(0)
        for name in alone[0].sums
    }
    return Clipped(sums, torch.cat([one.losses for one in alone]), lengths)


def _same(ours: Clipped, right: Clipped, tolerance: float) -> None:
    import torch

    if ours.lengths.shape != right.lengths.shape:
        raise EngineUnsuited(f"it saw {len(ours.lengths)} examples instead of {len(right.lengths)}")
    least = right.lengths.clamp(min=NOTHING * float(right.lengths.max()))
    worst = float(((ours.lengths - right.lengths).abs() / least).max())
    if not worst <= tolerance:
        raise EngineUnsuited(f"its per-example gradient norms are off by {worst:.1e}")
    whole = float(torch.stack([value.float().norm() for value in right.sums.values()]).norm())
    for name, value in right.sums.items():
        if ours.sums[name].shape != value.shape:
            raise EngineUnsuited(f"its gradient of {name} has another shape")
        error = float((ours.sums[name].float() - value.float()).norm())
        size = max(float(value.float().norm()), NOTHING * whole)
        if not error <= tolerance * size:
            raise EngineUnsuited(f"its clipped gradient of {name} is off by {error / size:.1e}")


@contextlib.contextmanager
def _perturbed(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Every trainable value moved off where it starts, and put back in the end."""
    import torch

    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for parameter in parameters.values():
                own = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
                spread = SPREAD * (own if own > 0 else 0.2)
                step = torch.randn(parameter.shape, generator=generator) * spread
                parameter.add_(step.to(parameter.device, parameter.dtype))
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kept[name])
