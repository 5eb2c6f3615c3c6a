"""The learned attacks: closed forms on Gaussian features, chance on noise, and reasons in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from byrote.attacks.base import Evidence
from byrote.attacks.fitted import score_set
from byrote.attacks.learned import LearnedAttack
from byrote.attacks.membership.learned_logistic_regression import LogisticRegressionAttack
from byrote.registry import discover, make
from byrote.statistics.delong import auc_estimate
from byrote.types import Record, TokenStats
from test_fitted_attacks import evidence_of, sides, split_aucs

NAMES = sorted(name for name, one in discover("attack").items() if issubclass(one, LearnedAttack))
FAST: dict[str, dict[str, Any]] = {"random-forest": {"n_estimators": 10}, "mlp": {"max_iter": 20}}
"""Quick enough for many draws."""


def attack_of(name: str, **settings: Any) -> LearnedAttack:
    attack = make("attack", {"name": name, **settings})
    assert isinstance(attack, LearnedAttack)
    return attack


@pytest.fixture(params=NAMES)
def attack(request: pytest.FixtureRequest) -> LearnedAttack:
    return attack_of(request.param)


def classified(rng: np.random.Generator, members: int, nonmembers: int, gain: float) -> list[Evidence]:
    """Records of 4 classes, whose labels the model scores `gain` higher where they are members."""
    found = []
    for at in range(members + nonmembers):
        scores, label = rng.normal(size=4), int(rng.integers(4))
        scores[label] += 1.0 + gain * (at < members)
        logs = (scores - np.logaddexp.reduce(scores)).astype(np.float32)
        one = logs[label : label + 1]
        found.append(Evidence(Record(f"r{at}", "x"), TokenStats(one, one, one, np.zeros(1, np.int32), classes=logs)))
    return found


def test_the_four_of_ma_2024_are_there() -> None:
    assert NAMES == ["k-nearest-neighbours", "logistic-regression", "mlp", "random-forest"]
    for name in NAMES:
        attack = make("attack", name)
        assert isinstance(attack, LearnedAttack) and attack.null_is_stated and not attack.compares_with_base
        assert (attack.reads, attack.settings()) == ("labels", "")
        assert "known to be members" in attack.access


def test_features_are_the_class_log_probabilities_and_the_loss() -> None:
    one = classified(np.random.default_rng(0), 1, 0, 0.0)[0]
    assert one.target.classes is not None
    assert LogisticRegressionAttack().features(one).tolist() == [*one.target.classes.tolist(), one.target.loss]


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_logistic_regression_finds_a_gaussian_shift_to_its_closed_form(shift: float) -> None:
    """Of two normal clouds `shift` apart no score separates better than the best line: AUC = Phi(shift / sqrt 2)."""
    is_member = sides(1500, 1000)
    rows = np.random.default_rng(1).normal(size=(2500, 3)) + np.outer(is_member, np.array([0.6, 0.0, -0.8]) * shift)
    found = split_aucs(score_set(LogisticRegressionAttack(), evidence_of(rows), is_member.tolist()), is_member)
    assert found == pytest.approx(0.5 * (1 + math.erf(shift / 2)), abs=3 * 0.012)


def test_what_no_line_separates_the_others_find(attack: LearnedAttack) -> None:
    """Nonmembers twice as spread out in the plane: the best score is minus the radius, with AUC 4 / (1 + 4)."""
    is_member = sides(400, 200)
    rows = np.random.default_rng(2).normal(size=(600, 2)) * np.where(is_member, 1.0, 2.0)[:, None]
    found = split_aucs(score_set(attack, evidence_of(rows), is_member.tolist()), is_member)
    if attack.name == "logistic-regression":
        assert found == pytest.approx(0.5, abs=0.1)
    else:
        assert 0.7 < found < 0.8 + 3 * 0.02


def test_a_planted_leak_is_found_among_ten_members_to_one(attack: LearnedAttack) -> None:
    is_member = sides(500, 50)
    evidence = classified(np.random.default_rng(3), 500, 50, 3.0)
    scores = score_set(attack, evidence, is_member.tolist())
    estimate = auc_estimate(scores.values[is_member], scores.values[~is_member], level=0.999)
    assert estimate.low is not None and estimate.low > 0.6


@pytest.mark.parametrize(("name", "draws"), [("logistic-regression", 60), ("k-nearest-neighbours", 80),
                                             ("random-forest", 25), ("mlp", 25)])  # fmt: skip
def test_noise_is_at_chance(name: str, draws: int) -> None:
    """Three members to one nonmember, who do not differ: the mean and the spread are those of the null."""
    rng, is_member, attack = np.random.default_rng(4), sides(75, 25), attack_of(name, **FAST.get(name, {}))
    error = math.sqrt((75 + 25 + 1) / (12 * 75 * 25))
    aucs = [split_aucs(score_set(attack, classified(rng, 75, 25, 0.0), is_member.tolist()), is_member)
            for _ in range(draws)]  # fmt: skip
    z = (np.array(aucs) - 0.5) / error
    assert abs(z.mean()) < 3.5 / math.sqrt(draws)
    assert np.mean(z**2) < 1 + 3.5 * math.sqrt(2 / draws)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_scores_in_any_order(name: str) -> None:
    attack = attack_of(name, **FAST.get(name, {}))
    is_member, evidence = sides(40, 30), classified(np.random.default_rng(5), 40, 30, 0.5)
    scores = score_set(attack, evidence, is_member.tolist()).values
    order = np.random.default_rng(6).permutation(70)
    again = score_set(attack, [evidence[at] for at in order], is_member[order].tolist()).values
    assert (again == scores[order]).all()


def test_records_without_classes_and_fits_that_do_not_converge_are_said() -> None:
    is_member, evidence = sides(40, 30), classified(np.random.default_rng(7), 40, 30, 0.5)
    one = np.zeros(1, np.float32)
    text = Evidence(Record("text", "x"), TokenStats(one, one, one, np.zeros(1, np.int32)))
    scores = score_set(LogisticRegressionAttack(), [*evidence, text], [*is_member.tolist(), False])
    assert scores.reasons[-1] == "there are no class probabilities" and not any(scores.reasons[:-1])
    short = score_set(LogisticRegressionAttack(max_iter=1), evidence, is_member.tolist())
    assert set(short.reasons) == {"logistic-regression did not converge: raise max_iter"}


def test_odds_keep_the_order_of_records_that_are_all_but_certain() -> None:
    """Far apart, the probabilities of most members round to 1, and would tie."""
    is_member = sides(60, 60)
    rows = np.random.default_rng(8).normal(size=(120, 1)) + 60.0 * is_member[:, None]
    scores = score_set(LogisticRegressionAttack(C=1e4), evidence_of(rows), is_member.tolist())
    assert split_aucs(scores, is_member) == 1.0 and len(set(scores.values)) == 24  # no ties among a fold's 24
