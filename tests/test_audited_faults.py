"""Audits of byrote's own private step, with the mechanism's noise and with faults planted in it.

One canary is one row of the embedding: a text of two tokens, the first of which no other text has. The attacker sees
the private gradient of every step, and scores a canary by how much of its own gradient it finds there. So one step at
a sampling rate of 1 shows each coin through Gaussian noise, and a bound can come close to the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from byrote.objectives.batching import Example
from byrote.objectives.lm import Decoder
from byrote.statistics.epsilon import Audit
from byrote.statistics.one_run import profile_inverse
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.losses import TextLoss
from byrote.training.per_example import Clipping, Loop
from byrote.training.private import Guarantee, Privatiser
from byrote.training.sampling import RepeatableRandomness
from byrote.types import Floats, Ledger
from conftest import make_model
from test_private_faults import Plant, clipping_off, noise_of, one_factor_for_all, the_batch_clipped_as_one_example

CANARIES, FILLERS, CLIP, DELTA = 3000, 1000, 0.01, 1e-5
LAST = 0
"""The token that every text ends with."""


@dataclass(eq=False)
class Canaries:
    """A model of which only the embedding trains, a text for each of its rows, and the coins of the first ones.

    The others, the fillers, are always in, and their gradients are far shorter than the clipping norm.
    """

    loss: TextLoss
    embedding: torch.nn.Parameter
    coins: np.ndarray
    gradients: torch.Tensor
    """(m, width) of each canary in its row."""


def canaries(seed: int) -> Canaries:
    """Canaries whose gradients are all longer than the clipping norm."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = make_model("llama", vocab_size=CANARIES + FILLERS + 1, tie_word_embeddings=False)
    model.requires_grad_(False)
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, torch.nn.Parameter)
    embedding[1 + CANARIES :] *= 1e4  # the norm of the first layer takes the length away, and so the gradient
    embedding.requires_grad_(True)
    examples = [Example((1 + at, LAST)) for at in range(CANARIES + FILLERS)]
    loss = TextLoss(Decoder(model), examples, 0, "cpu")
    gradients = torch.autograd.grad(loss(range(len(examples))).sum(), embedding)[0][1:]
    lengths = gradients.norm(dim=1)
    assert lengths[:CANARIES].min() > 3 * CLIP and lengths[CANARIES:].max() < CLIP / 3
    coins = np.random.default_rng(seed).random(CANARIES) < 0.5
    return Canaries(loss, embedding, coins, gradients[:CANARIES])


def released(made: Canaries, noise: float, seed: int, steps: int = 1, rate: float = 1.0) -> tuple[Floats, Ledger]:
    """The score of each canary after some steps that leave the weights where they are, and the ledger."""
    members = [*np.flatnonzero(made.coins), *range(CANARIES, CANARIES + FILLERS)]
    units = [[at] for at in np.random.default_rng(seed).permutation(members).tolist()]
    declared = CANARIES // 2 + FILLERS  # whatever the coins say
    guarantee = Guarantee(
        noise_multiplier=noise, clipping=Clipping(CLIP), expected_batch_size=round(rate * declared), units=declared,
        steps=steps, steps_per_epoch=1, delta=DELTA,
    )  # fmt: skip
    engine = Bookkeeping(made.loss, {"model.embed_tokens.weight": made.embedding})
    privatiser = Privatiser(guarantee, engine, units, RepeatableRandomness(seed))
    privatiser.micro_batch = 500
    directions, scores = torch.nn.functional.normalize(made.gradients, dim=1), torch.zeros(CANARIES)
    for _ in range(steps):
        privatiser.gradients(privatiser.draw())
        assert made.embedding.grad is not None
        scores += (made.embedding.grad[1 : CANARIES + 1] * directions).sum(1)
    return scores.double().numpy(), privatiser.ledger(steps)


def audited(made: Canaries, scores: Floats, ledger: Ledger) -> tuple[Audit, float]:
    """The audit, and its p-value of the ledger."""
    audit = Audit.of(scores, made.coins, ledger.delta)
    return audit, audit.p_value(profile_inverse((*ledger.profile, (ledger.epsilon, ledger.delta))))


def repeated_releases(noise: float, releases: int, seed: int) -> tuple[Floats, np.ndarray, Ledger]:
    """One canary and one other text, whose gradients point away from each other, released again and again.

    Each time a coin decides whether the canary is in; the scores (releases,), the coins and the ledger of one release.
    Were the two clipped as one, the canary would turn the sum round, which is twice what it may do.
    """
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = make_model("llama", num_hidden_layers=1).requires_grad_(False)
    weight = model.get_submodule("model.norm").get_parameter("weight").requires_grad_(True)
    texts = [Example((at, other)) for at in range(1, 16) for other in range(1, 16) if at != other]
    loss = TextLoss(Decoder(model), texts, 0, "cpu")
    gradients = torch.stack([torch.autograd.grad(loss([at]).sum(), weight)[0] for at in range(len(texts))])
    other, canary = divmod(int(_turned(gradients).argmax()), len(texts))
    direction = torch.nn.functional.normalize(gradients[other] + gradients[canary], dim=0)
    direction = direction - torch.nn.functional.normalize(gradients[other], dim=0)
    guarantee = Guarantee(
        noise_multiplier=noise, clipping=Clipping(CLIP), expected_batch_size=1, units=1, steps=1, steps_per_epoch=1,
        delta=DELTA,
    )  # fmt: skip
    engine = Loop(loss, {"model.norm.weight": weight})
    privatiser = Privatiser(guarantee, engine, [[other], [canary]], RepeatableRandomness(seed))
    privatiser.micro_batch = 2
    coins, scores = np.random.default_rng(seed).random(releases) < 0.5, np.zeros(releases)
    for at, coin in enumerate(coins.tolist()):
        privatiser.gradients([[other], [canary]] if coin else [[other]])
        assert weight.grad is not None
        scores[at] = float(weight.grad @ direction)
    return scores, coins, privatiser.ledger(1)


def _turned(gradients: torch.Tensor) -> torch.Tensor:
    """(N, N): by how much adding the second gradient turns the first one, as the distance of their directions."""
    ways = torch.nn.functional.normalize(gradients, dim=1)
    return torch.stack([
        (torch.nn.functional.normalize(one + gradients, dim=1) - way).norm(dim=1)
        for one, way in zip(gradients, ways, strict=True)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Canaries:
    return canaries(0)


@pytest.mark.parametrize(("noise", "steps", "rate"), [(1.0, 1, 1.0), (2.0, 1, 1.0), (1.0, 4, 0.5)])
def test_the_private_step_as_it_is_shows_no_more_than_its_ledger(
    made: Canaries, noise: float, steps: int, rate: float
) -> None:
    for seed in range(3):
        scores, ledger = released(made, noise, seed, steps, rate)
        audit, p = audited(made, scores, ledger)
        assert p > 0.05
        bounds = audit.bounds()
        assert all(bound.epsilon < ledger.epsilon for bound in bounds.values())
        assert bounds["gaussian"].epsilon > 0.3 * ledger.epsilon  # and not by being blind


@pytest.mark.parametrize(
    ("plant", "least"),
    [(noise_of(0.5), 0.02), (noise_of(0.0), 1e-6), (clipping_off, 1e-6), (one_factor_for_all, 1e-6)],
    ids=["noise halved", "no noise", "clipping off", "clipped by the mean norm"],
)
def test_a_fault_planted_in_the_private_step_is_red(
    made: Canaries, monkeypatch: pytest.MonkeyPatch, plant: Plant, least: float
) -> None:
    """In two noises, so that it is no luck of one."""
    for noise in (1.0, 2.0):
        _, p = audited(made, *released(made, noise, 1))
        assert p > 0.05
    plant(monkeypatch)
    for noise in (1.0, 2.0):
        _, p = audited(made, *released(made, noise, 1))
        assert p < least


def test_one_training_does_not_show_a_batch_that_is_clipped_as_one(
    made: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each canary then moves the sum less, not more: the self-test before training sees this, the audit cannot."""
    the_batch_clipped_as_one_example(monkeypatch)
    audit, p = audited(made, *released(made, 1.0, 1))
    assert p > 0.5 and audit.rates_gaussian().epsilon < 0.5


def test_many_releases_show_a_batch_that_is_clipped_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here records are releases of their own, so that rates may be counted."""
    scores, coins, ledger = repeated_releases(1.0, 1200, 2)
    assert 1.0 < Audit.of(scores, coins, DELTA).rates_gaussian().epsilon < ledger.epsilon
    the_batch_clipped_as_one_example(monkeypatch)
    scores, coins, _ = repeated_releases(1.0, 1200, 2)
    assert Audit.of(scores, coins, DELTA).rates_gaussian().epsilon > ledger.epsilon
