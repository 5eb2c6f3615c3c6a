"""Attacks with shadow models: each equals its formula, says what it lacks, and is at chance where nothing leaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats as distributions

from byrote.attacks.base import Background, CalibratedAttack, Evidence, MembershipAttack, Shadow, score_all
from byrote.attacks.membership.bavaria import MOST, BaVarIA, Prior, inverse_trigamma, log_predictive, prior_of
from byrote.attacks.membership.bayes_base import BayesBase
from byrote.attacks.membership.lira import LiRA
from byrote.attacks.membership.lira_offline import LiRAOffline
from byrote.attacks.membership.rmia import RMIA
from byrote.attacks.shadow import CERTAIN, Shadows, confidence, powers_below
from byrote.registry import discover, make
from byrote.statistics.delong import auc_estimate
from byrote.statistics.roc import auc
from byrote.types import Floats, Record, Scores, TokenStats, Unscorable
from evidence import classified, stats

NAMES = sorted(name for name, kind in discover("attack").items() if issubclass(kind, Shadows))
TESTED = ("lira", "lira-offline", "rmia", "bayes-base", "bavaria")
OUTSIDERS = 60


def text(log_p: float) -> TokenStats:
    """What a model says of a text of two tokens whose mean log-probability is this."""
    return stats([log_p - 0.125, log_p + 0.125])


def world(
    target: Floats, shadows: Floats, is_in: Any, outsiders: Floats | None = None
) -> tuple[list[Evidence], list[Evidence]]:
    """Evidence from mean log-probabilities: of N records (N,) and by K shadows (N, K), and of Z outsiders (Z, 1 + K).

    Returns the records, and the outsiders followed by the records: what a calibrated attack is calibrated on.
    """
    beyond = np.full((3, 1 + shadows.shape[1]), -3.0) if outsiders is None else outsiders
    background = Background(tuple(Record(f"z{at}", f"z {at}") for at in range(len(beyond))))

    def one(record: Record, own: float, by: Floats, seen: Any) -> Evidence:
        models = tuple(Shadow(bool(each), text(float(log))) for each, log in zip(seen, by, strict=True))
        return Evidence(record, text(float(own)), background=background, shadows=models)

    asked = [one(Record(f"r{at}", f"r {at}"), *row) for at, row in enumerate(zip(target, shadows, is_in, strict=True))]
    none = [False] * shadows.shape[1]
    others = [one(r, row[0], row[1:], none) for r, row in zip(background.outsiders, beyond, strict=True)]
    return asked, others + asked


def score(attack: Any, asked: Sequence[Evidence], everyone: Sequence[Evidence]) -> Scores:
    assert isinstance(attack, MembershipAttack | CalibratedAttack)
    ids = {record.id for record in asked[0].background.outsiders}
    wanted = [
        one for one in everyone if ("population" if one.record.id in ids else "peers") in attack.needs
    ]  # as the runner gives them
    return score_all(attack, asked, wanted)


def drawn(rng: np.random.Generator, records: int, shadows: int, gain: float, spread: float = 0.1) -> tuple[Any, ...]:
    """A target and shadows that each know a random half of the records `gain` nats better; difficulties differ."""
    hard = rng.normal(-3.0, 0.6, records)
    member = rng.random(records) < 0.5
    is_in = rng.random((records, shadows)) < 0.5
    target = hard + gain * member + rng.normal(0, spread, records)
    by = hard[:, None] + gain * is_in + rng.normal(0, spread, (records, shadows))
    beyond = rng.normal(-3.0, 0.6, OUTSIDERS)[:, None] + rng.normal(0, spread, (OUTSIDERS, 1 + shadows))
    return member, *world(target, by, is_in, beyond)


# --- formulas ------------------------------------------------------------------------------------


@pytest.fixture
def four() -> tuple[Floats, Floats, Any, Floats]:
    """Four records, six shadows, five outsiders."""
    rng = np.random.default_rng(0)
    is_in = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 0, 1]], bool)
    return rng.normal(-3, 0.5, 4), rng.normal(-3, 0.5, (4, 6)), is_in, rng.normal(-3, 0.5, (5, 7))


def phi(log_p: float) -> float:
    p = math.exp(log_p)
    return math.log(p / (1 - p))


def close(log_p: Floats) -> Floats:
    """As the statistics hold it: in single precision."""
    return np.vectorize(lambda one: float(text(one).log_prob.mean(dtype=np.float64)))(log_p)


def test_confidence_is_the_log_odds_of_the_text_or_the_label() -> None:
    assert confidence(stats([-0.2, -0.6])) == pytest.approx(phi(-0.4), rel=1e-6)
    one = classified(np.array([0.3, 1.2, -0.7]), 1)
    p = math.exp(float(one.log_prob[0]))
    assert confidence(one) == pytest.approx(math.log(p / (1 - p)), rel=1e-5)
    assert confidence(stats([0.0, 0.0])) == pytest.approx(-math.log(CERTAIN), rel=1e-6)
    assert confidence(stats([-1e30])) == pytest.approx(-1e30, rel=1e-6)
    with pytest.raises(Unscorable, match="not finite"):
        confidence(stats([-np.inf, -1.0]))


@pytest.mark.parametrize("variance", ["pooled", "per-record"])
def test_lira_is_the_log_ratio_of_two_normal_densities(four: Any, variance: Any) -> None:
    target, shadows, is_in, _ = four
    own, by = np.vectorize(phi)(close(target)), np.vectorize(phi)(close(shadows))
    sides = [[by[at][is_in[at] == side] for at in range(4)] for side in (True, False)]
    pooled = [
        sum(((v - v.mean()) ** 2).sum() for v in side) / sum(len(v) - 1 for v in side if len(v) > 1) for side in sides
    ]
    found = score(LiRA(shadows=6, variance=variance), *world(target, shadows, is_in)).values
    offline = score(LiRAOffline(shadows=6, variance=variance), *world(target, shadows, is_in)).values
    for at in range(4):
        spread = [v if variance == "pooled" else side[at].var(ddof=1) for v, side in zip(pooled, sides, strict=True)]
        logs = [
            distributions.norm.logpdf(own[at], side[at].mean(), math.sqrt(v))
            for v, side in zip(spread, sides, strict=True)
        ]
        assert found[at] == pytest.approx(logs[0] - logs[1], rel=1e-9)
        below = distributions.norm.cdf(own[at], sides[1][at].mean(), math.sqrt(spread[1]))
        assert distributions.norm.cdf(offline[at]) == pytest.approx(below, rel=1e-9)


@pytest.mark.parametrize(("gamma", "a"), [(1.0, None), (1.3, None), (1.0, 1.0), (2.0, 0.3), (0.7, 0.0)])
def test_rmia_is_the_share_of_outsiders_that_a_loop_over_pairs_counts(four: Any, gamma: float, a: float | None) -> None:
    target, shadows, is_in, beyond = four
    p, by, z = np.exp(close(target)), np.exp(close(shadows)), np.exp(close(beyond))
    seen, unseen = ([by[at][is_in[at] == side].mean() for at in range(4)] for side in (True, False))
    usual = np.exp(np.mean(np.log(seen) - np.log(unseen)))

    def marginal(out: float, if_seen: float) -> float:
        return (out + (if_seen if a is None else a * out + 1 - a)) / 2

    found = score(RMIA(shadows=6, gamma=gamma, a=a), *world(target, shadows, is_in, beyond)).values
    for at in range(4):
        x = p[at] / marginal(unseen[at], seen[at])
        passed = [x / (row[0] / marginal(row[1:].mean(), usual * row[1:].mean())) >= gamma for row in z]
        assert found[at] == np.mean(passed)
    assert 0 < found.mean() < 1 or gamma != 1.0


def test_base_is_the_loss_below_the_log_of_the_mean_likelihood(four: Any) -> None:
    target, shadows, is_in, _ = four
    found = score(BayesBase(shadows=6), *world(target, shadows, is_in)).values
    assert found == pytest.approx(close(target) - np.log(np.exp(close(shadows)).mean(1)), rel=1e-9)


def test_bavaria_is_the_ratio_of_students_predictive_densities() -> None:
    values, prior = np.array([0.3, 0.9, -0.4]), Prior(0.5, 4.0)
    scale2 = (1 + 1 / 3) * (4 * 0.5 + 3 * values.var()) / 6
    for at in (-2.0, 0.1, 3.0):
        exact = distributions.t.logpdf(at, 6, values.mean(), math.sqrt(scale2))
        assert log_predictive(at, values, prior) == pytest.approx(exact + 0.5 * math.log(math.pi), rel=1e-12)


def test_bavaria_lies_between_a_records_own_variance_and_the_pooled_one() -> None:
    values = np.array([0.3, 0.9, -0.4, 1.1])
    pooled = Prior(0.25, MOST)
    normal = distributions.norm.logpdf(0.7, values.mean(), math.sqrt(0.25 * 1.25))
    assert log_predictive(0.7, values, pooled) + 0.5 * math.log(2) - 0.5 * math.log(2 * math.pi) == pytest.approx(
        normal, abs=1e-5
    )
    own = distributions.t.logpdf(0.7, 3, values.mean(), math.sqrt(values.var(ddof=1) * 1.25))
    assert log_predictive(0.7, values, Prior(0.25, 1e-9)) + -0.5 * math.log(math.pi) == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize(("weight", "centre"), [(4.0, 0.02), (12.0, 3.0)])
def test_the_prior_of_the_variances_is_found_again(weight: float, centre: float) -> None:
    rng = np.random.default_rng(1)
    degrees = rng.integers(3, 12, 40_000).astype(float)
    variances = weight * centre / rng.chisquare(weight, len(degrees))
    found = prior_of(variances * rng.chisquare(degrees), degrees)
    assert found.variance == pytest.approx(centre, rel=0.03) and found.degrees == pytest.approx(weight, rel=0.15)


def test_variances_that_do_not_differ_are_pooled() -> None:
    rng = np.random.default_rng(2)
    degrees = np.full(500, 7.0)
    sums = rng.chisquare(7, 500)
    sums[:] = sums.mean()  # they differ less than chance would have it
    assert prior_of(sums, degrees) == Prior(pytest.approx(float(sums.sum() / degrees.sum())), MOST)
    assert all(
        distributions_trigamma(inverse_trigamma(v)) == pytest.approx(v, rel=1e-8) for v in (1e-6, 0.3, 2.0, 50.0)
    )


def distributions_trigamma(value: float) -> float:
    from scipy.special import polygamma

    return float(polygamma(1, value))


# --- what is lacking -----------------------------------------------------------------------------


def test_every_shadow_attack_is_tested_here() -> None:
    assert sorted(TESTED) == NAMES


def test_a_record_without_a_shadow_on_one_side_has_a_reason() -> None:
    is_in = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], bool)
    evidence = world(np.full(4, -2.0), np.random.default_rng(3).normal(-3, 0.5, (4, 4)), is_in)
    unseen, seen = "needs a shadow model that did not see it, has 0", "needs a shadow model that saw it, has 0"
    for name in ("lira", "rmia", "bavaria"):
        assert score(make("attack", {"name": name, "shadows": 4}), *evidence).reasons == (unseen, seen, "", "")
    for offline in (LiRAOffline(shadows=4), RMIA(shadows=4, a=1.0)):
        assert score(offline, *evidence).reasons == (unseen, "", "", "")
    assert not any(score(BayesBase(shadows=4), *evidence).reasons)


def test_one_shadow_has_no_spread() -> None:
    is_in = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    evidence = world(np.full(3, -2.0), np.random.default_rng(4).normal(-3, 0.5, (3, 4)), is_in)
    said = score(LiRA(shadows=4, variance="per-record"), *evidence).reasons
    assert said == (
        "needs 2 shadow models that saw it, has 1", "", "needs 2 shadow models that did not see it, has 1"
    )  # fmt: skip
    assert not any(score(LiRA(shadows=4), *evidence).reasons)
    alone = world(np.full(2, -2.0), np.full((2, 2), -3.0), [[True, False], [False, True]])
    for name in ("lira", "bavaria"):
        reasons = score(make("attack", {"name": name, "shadows": 2}), *alone).reasons
        assert set(reasons) == {"the spread needs a record that 2 shadow models saw: there are too few of them"}


@pytest.mark.parametrize("name", TESTED)
def test_fewer_shadows_than_asked_for_is_a_reason(name: str) -> None:
    _, asked, everyone = drawn(np.random.default_rng(5), 6, 3, 0.5)
    many = make("attack", {"name": name, "shadows": 8})
    assert set(score(many, asked, everyone).reasons) == {"needs 8 shadow models, has 3"}
    none = [Evidence(one.record, one.target, background=one.background) for one in everyone]
    said = set(score(many, none[-6:], none).reasons)
    assert said == {"needs 8 shadow models, has none: where nothing is trained there are none"}


@pytest.mark.parametrize("name", TESTED)
@pytest.mark.parametrize("shadows", [2, 3, 4])
def test_few_shadows_give_finite_scores_or_reasons(name: str, shadows: int) -> None:
    _, asked, everyone = drawn(np.random.default_rng(6), 80, shadows, 0.5)
    found = score(make("attack", {"name": name, "shadows": shadows}), asked, everyone)
    assert np.isfinite(found.values).mean() > 0.4


@pytest.mark.parametrize("name", TESTED)
def test_shadows_that_agree_to_the_last_bit_are_survived(name: str) -> None:
    is_in = [[True, False, True, False]] * 5
    found = score(make("attack", {"name": name, "shadows": 4}), *world(np.full(5, -2.0), np.full((5, 4), -3.0), is_in))
    assert np.isfinite(found.values).all()


def test_weaker_ones_read_the_first_shadows() -> None:
    assert powers_below(16) == [2, 4, 8] and powers_below(2) == [] and powers_below(20) == [2, 4, 8, 16]
    strong = LiRA(shadows=16, variance="per-record")
    assert [one.settings() for one in strong.weaker()] == [
        f'{{"shadows":{k},"variance":"per-record"}}' for k in (2, 4, 8)
    ]
    _, asked, _ = drawn(np.random.default_rng(7), 40, 16, 0.5)
    cut = [Evidence(one.record, one.target, shadows=one.shadows[:4]) for one in asked]
    assert (score_all(BayesBase(shadows=4), asked).values == score_all(BayesBase(shadows=4), cut).values).all()


# --- what they find, and what they do not ----------------------------------------------------------


def test_shadows_find_what_the_loss_hides() -> None:
    """Texts differ in difficulty by far more than training changes them."""
    member, asked, everyone = drawn(np.random.default_rng(8), 400, 16, 0.3)
    plain = auc(*_split(np.array([one.target.loss for one in asked]) * -1, member))
    assert plain < 0.7
    for name in TESTED:
        found = score(make("attack", name), asked, everyone).values
        assert auc(*_split(found, member)) > 0.9, name


def test_shrinking_the_variance_beats_each_records_own_where_shadows_are_few() -> None:
    rng = np.random.default_rng(9)
    wins = {"pooled": 0, "bavaria": 0}
    for _ in range(4):
        member, asked, everyone = drawn(rng, 300, 8, 0.15)
        own = score(LiRA(shadows=8, variance="per-record"), asked, everyone).values
        kept = np.isfinite(own)
        best = auc(*_split(own[kept], member[kept]))
        for name, attack in (("pooled", LiRA(shadows=8)), ("bavaria", BaVarIA(shadows=8))):
            wins[name] += auc(*_split(score(attack, asked, everyone).values[kept], member[kept])) > best
    assert min(wins.values()) == 4


def _split(values: Floats, member: Any) -> tuple[Floats, Floats]:
    return values[member], values[~member]


SPLITS = 200


@pytest.mark.parametrize("name", TESTED)
def test_the_interval_holds_chance_at_its_rate_where_membership_means_nothing(name: str) -> None:
    """200 splits: the shadows leak their halves, the target leaks nothing of its own."""
    rng = np.random.default_rng(10)
    records, inside = 60, 0
    attack = make("attack", {"name": name, "shadows": 8})
    for _ in range(SPLITS // 20):
        _, asked, everyone = drawn(rng, records, 8, 0.5)
        values = score(attack, asked, everyone).values
        kept = values[np.isfinite(values)]
        for _ in range(20):  # labels permuted: any half may have been the members
            labels = rng.permutation(len(kept)) < len(kept) // 2
            if np.ptp(kept):
                estimate = auc_estimate(kept[labels], kept[~labels])
                assert estimate.low is not None and estimate.high is not None
                inside += estimate.low <= 0.5 <= estimate.high
    expected, error = 0.95 * SPLITS, math.sqrt(SPLITS * 0.95 * 0.05)
    assert inside > expected - 3.5 * error
