"""From a study's privacy level to the Privatiser of one run: constants, noise, and the engine that passed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from byrote.methods.base import Method
from byrote.registry import make
from byrote.report.formats import rounded_up
from byrote.study import Experiment
from byrote.study.privacy import Privacy
from byrote.types import Ledger, Record, StudyError

if TYPE_CHECKING:
    from torch import nn

    from byrote.objectives.batching import Example
    from byrote.training.losses import ExampleLoss
    from byrote.training.per_example import Engine
    from byrote.training.private import Guarantee, Privatiser


LARGEST_EPSILON = 1000.0


def steps_of(experiment: Experiment, privacy: Privacy) -> tuple[int, int]:
    """(optimiser steps in all, steps of an epoch), from declared numbers alone."""
    members = experiment.members
    per_epoch = -(-privacy.units(members) // privacy.batch_of(experiment.batch_size))
    steps = experiment.epochs * per_epoch
    return (steps if experiment.max_steps is None else min(steps, experiment.max_steps)), per_epoch


def guarantee_of(experiment: Experiment, privacy: Privacy) -> Guarantee:
    """What a run promises. Calibrates the noise, in about a second. Raises StudyError for what cannot be had."""
    from byrote.training.accounting import check_request, noise_for
    from byrote.training.per_example import Clipping
    from byrote.training.private import Guarantee

    members = experiment.members
    units, expected = privacy.units(members), privacy.batch_of(experiment.batch_size)
    delta, (steps, per_epoch) = privacy.delta_of(members), steps_of(experiment, privacy)
    rate = expected / units
    check_request(rate, steps, delta, privacy.epsilon, privacy.noise_multiplier, privacy.clip_norm)
    noise = privacy.noise_multiplier
    if noise is None:
        assert privacy.epsilon is not None
        noise = noise_for(privacy.epsilon, delta, rate, steps, privacy.accountant)
    else:
        _check_noise(noise, rate, steps, delta, privacy.accountant)
    return Guarantee(
        noise_multiplier=noise,
        clipping=Clipping(privacy.clip_norm, privacy.clipping),
        expected_batch_size=expected,
        units=units,
        steps=steps,
        steps_per_epoch=per_epoch,
        delta=delta,
        unit=privacy.unit,
        records_per_group=privacy.records_per_group,
        target_epsilon=privacy.epsilon,
        accountant=privacy.accountant,
    )


def _check_noise(noise: float, rate: float, steps: int, delta: float, accountant: str) -> None:
    """Raises StudyError for so little noise that what it promises is no promise."""
    from byrote.training.accounting import epsilon_of

    try:
        spent = epsilon_of(noise, rate, steps, delta, accountant).epsilon
    except ArithmeticError:
        spent = math.inf
    if not spent <= LARGEST_EPSILON:
        raise StudyError(
            f"privacy: a noise_multiplier of {noise:g} spends an epsilon of {spent:.3g}, which promises nothing; above "
            f"{LARGEST_EPSILON:,.0f} byrote does not call a run private. Use more noise, or privacy: none"
        )


def rehearsed(guarantee: Guarantee, units: int) -> Guarantee:
    """The same training on `units` units that nobody promised anything: as much noise beside as much signal."""
    from dataclasses import replace

    size = min(guarantee.expected_batch_size, units)
    noise = guarantee.noise_multiplier * size / guarantee.expected_batch_size
    return replace(guarantee, units=units, expected_batch_size=size, noise_multiplier=noise, claimed=False)


def units_of(records: Sequence[Record], unit: str) -> list[list[int]]:
    """The examples of each privacy unit: every record alone, or all records of a group."""
    if unit == "record":
        return [[index] for index in range(len(records))]
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(record.group_id, []).append(index)
    return list(groups.values())


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """The engine that passed the self-test, and why others did not."""

    engine: Engine
    refused: tuple[str, ...]


def tested_engine(
    privacy: Privacy, loss: ExampleLoss, parameters: dict[str, nn.Parameter], public: Sequence[Example]
) -> Tested:
    """The per-example gradient engine for `loss`, tested on public examples. Raises NoEngine."""
    from byrote.training.losses import example_loss
    from byrote.training.self_test import choose_engine, probes

    decoder = loss.decoder
    outside = example_loss(decoder, probes(public), loss.pad_token_id, loss.device)
    engine, refused = choose_engine(
        privacy.engine, loss, outside, parameters, records_per_group=privacy.records_per_group
    )
    return Tested(engine, tuple(refused))


def check_privacy(method: Method) -> None:
    """Raises StudyError for a method that no privacy can be promised for."""
    if method.not_private:
        raise StudyError(f"private training refused: {method.not_private}")


def promised(experiment: Experiment, privacy: Privacy, records: Sequence[Record]) -> tuple[Guarantee, list[list[int]]]:
    """What a run over these records promises, and the examples of each unit. Raises StudyError."""
    method = make("method", experiment.method)
    assert isinstance(method, Method)
    check_privacy(method)
    guarantee = guarantee_of(experiment, privacy)
    units = units_of(records, privacy.unit)
    if experiment.trains_on == "test":
        guarantee = rehearsed(guarantee, len(units))
    elif not 0.5 <= len(units) / guarantee.units <= 2:
        raise StudyError(
            f"privacy: the members were declared to have {guarantee.units} {privacy.unit}s, which is far from the "
            "truth: training would take far too large or small steps. Correct privacy.groups (or data.members)."
        )
    return guarantee, units


def privatiser_of(
    experiment: Experiment,
    privacy: Privacy,
    records: Sequence[Record],
    loss: ExampleLoss,
    parameters: dict[str, nn.Parameter],
    public: Sequence[Example],
) -> Privatiser:
    """Everything that makes a run over `records` private. `loss` is over the same records, in their order."""
    from byrote.training.private import Privatiser
    from byrote.training.sampling import SystemRandomness

    guarantee, units = promised(experiment, privacy, records)
    tested = tested_engine(privacy, loss, parameters, public)
    return Privatiser(guarantee, tested.engine, units, SystemRandomness(), tested.refused)


def model_card(ledger: Ledger) -> str:
    """The section of a saved adapter's model card that states its account."""
    lines = [
        "",
        "## Differential privacy",
        "",
        f"Trained with DP-SGD: ({rounded_up(ledger.epsilon, 4)}, {rounded_up(ledger.delta, 4)})-differentially private "
        f"for one {ledger.unit} ({ledger.relation}).",
        "",
        "| | |",
        "|---|---|",
        f"| epsilon spent | {rounded_up(ledger.epsilon, 4)} |",
        f"| delta | {rounded_up(ledger.delta, 4)} |",
        f"| unit, relation | one {ledger.unit}, {ledger.relation} |",
        f"| noise multiplier | {ledger.noise_multiplier:.6g} |",
        f"| clipping | {ledger.clipping}, norm {ledger.clip_norm:g} |",
        f"| sampling | {ledger.sampling}, rate {ledger.sampling_rate:.6g} "
        f"(expected batch {ledger.expected_batch_size} of {ledger.units} {ledger.unit}s) |",
        f"| steps | {ledger.steps} of {ledger.planned_steps} planned |",
        f"| accountant | {ledger.accountant} ({ledger.accountant_version}) |",
        f"| per-example gradients | {ledger.engine} |",
        *(
            [f"| trainings | {ledger.trainings}: whoever saw all their results has seen the sum |"]
            * (ledger.trainings > 1)
        ),
        "",
        "The guarantee covers these weights. It does not cover numbers that were computed from the training records "
        "themselves, such as training losses or audits.",
        "",
    ]
    if not ledger.private:
        lines.insert(3, "**NOT PRIVATE: the noise of this run was repeatable.**\n")
    return "\n".join(lines)
