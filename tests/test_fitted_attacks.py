"""The protocol of attacks that are fitted: who teaches whom, whole groups, ranks, and an honest null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from byrote.attacks import fitted
from byrote.attacks.base import Evidence
from byrote.attacks.fitted import Bools, FittedAttack, Predict, deal, score_set, teachers
from byrote.statistics.delong import auc_estimate
from byrote.statistics.roc import auc
from byrote.types import Floats, Record, Scores, TokenStats, Unscorable

Fit = Callable[[Floats, Bools], Predict]


def evidence_of(rows: Floats, groups: list[str] | None = None) -> list[Evidence]:
    """One record per row of features, which stand where the class log-probabilities do; the loss is 0."""
    zero, rank = np.zeros(1, np.float32), np.zeros(1, np.int32)
    return [
        Evidence(
            Record(f"r{at:05d}", "text", group=groups[at] if groups else None),
            TokenStats(zero, zero, zero, rank, classes=row.astype(np.float32)),
        )
        for at, row in enumerate(rows)
    ]


class Toy(FittedAttack):
    """Fits what the test gives it."""

    fits: Any

    def features(self, evidence: Evidence) -> Floats:
        assert evidence.target.classes is not None
        return evidence.target.classes.astype(np.float64)

    def fit(self, features: Floats, is_member: Bools, seed: int) -> Predict:
        predict: Predict = self.fits(features, is_member)
        return predict


def means(features: Floats, is_member: Bools) -> Predict:
    """The line through the two means."""
    direction = features[is_member].mean(0) - features[~is_member].mean(0)
    middle = (features[is_member].mean(0) + features[~is_member].mean(0)) / 2
    return lambda rows: (rows - middle) @ direction


def nearest(features: Floats, is_member: Bools) -> Predict:
    """Learns by rote: the label of the nearest record seen, fading with its distance."""

    def predict(rows: Floats) -> Floats:
        distance = np.abs(rows[:, None] - features).sum(2)
        label = np.where(is_member[distance.argmin(1)], 1.0, -1.0)
        return np.asarray(label / (1e-3 + distance.min(1)))

    return predict


def split_aucs(scores: Scores, is_member: Bools) -> float:
    assert not any(scores.reasons)
    return auc(scores.values[is_member], scores.values[~is_member])


def sides(members: int, nonmembers: int) -> Bools:
    return np.arange(members + nonmembers) < members


# --- folds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", range(3, 21))
def test_of_two_folds_at_most_one_teaches_the_other(folds: int) -> None:
    taught_by = [set(teachers(fold, folds)) for fold in range(folds)]
    assert {len(each) for each in taught_by} == {(folds - 1) // 2}  # as many as that allows, where folds are odd
    for one in range(folds):
        assert one not in taught_by[one]
        assert not any(one in taught_by[other] for other in taught_by[one])


def test_folds_hold_whole_groups_and_each_side_evenly() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        groups = [f"g{number}" for number in rng.integers(0, 120, 300)]
        is_member = np.array([int(group[1:]) % 3 > 0 for group in groups])
        fold = deal(groups, is_member, 5, seed)
        assert all(len({int(fold[at]) for at, name in enumerate(groups) if name == group}) == 1 for group in groups)
        largest = max(groups.count(group) for group in groups)
        for side in (True, False):
            counts = np.bincount(fold[is_member == side], minlength=5)
            assert counts.max() - counts.min() <= largest
    singles = deal([str(at) for at in range(303)], sides(203, 100), 5, 0)
    assert sorted(np.bincount(singles[:203])) == [40, 40, 41, 41, 41] and set(np.bincount(singles[203:])) == {20}


def test_a_group_on_both_sides_is_one_group() -> None:
    groups = [str(at % 40) for at in range(80)]
    fold = deal(groups, sides(40, 40), 5, 0)
    assert (fold[:40] == fold[40:]).all() and set(np.bincount(fold)) == {16}


def test_folds_depend_on_names_and_seed_and_not_on_order() -> None:
    names, is_member = [f"n{at}" for at in range(60)], sides(40, 20)
    fold = deal(names, is_member, 5, 0)
    order = np.random.default_rng(1).permutation(60)
    assert (deal([names[at] for at in order], is_member[order], 5, 0) == fold[order]).all()
    assert (deal(names, is_member, 5, 1) != fold).any()


@pytest.mark.parametrize("copies", [1, 2])
def test_no_model_saw_the_record_or_a_copy_of_it(copies: int) -> None:
    rows = np.repeat(np.arange(60.0), copies)[:, None]
    groups = [f"g{row:.0f}" for row in rows[:, 0]]
    asked = []

    def remember(features: Floats, is_member: Bools) -> Predict:
        assert is_member.any() and not is_member.all()
        seen = set(features[:, 0])

        def predict(rows: Floats) -> Floats:
            asked.extend(rows[:, 0])
            assert seen.isdisjoint(rows[:, 0])
            return np.zeros(len(rows))

        return predict

    scores = score_set(Toy(fits=remember), evidence_of(rows, groups), sides(30 * copies, 30 * copies).tolist())
    assert sorted(asked) == rows[:, 0].tolist() and not any(scores.reasons)


# --- what the scores are -------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_order_of_the_records() -> None:
    rng, is_member = np.random.default_rng(2), sides(60, 30)
    evidence = evidence_of(rng.normal(size=(90, 3)))
    scores = score_set(Toy(fits=means), evidence, is_member.tolist()).values
    assert (score_set(Toy(fits=means), evidence, is_member.tolist()).values == scores).all()
    order = rng.permutation(90)
    again = score_set(Toy(fits=means), [evidence[at] for at in order], is_member[order].tolist()).values
    assert (again == scores[order]).all()
    assert (score_set(Toy(fits=means, seed=1), evidence, is_member.tolist()).values != scores).any()


def test_the_offset_of_a_model_is_no_signal() -> None:
    """Each model says how common members were among its records; pooled as it is, that has an AUC far below 0.5."""

    def prior(features: Floats, is_member: Bools) -> Predict:
        return lambda rows: np.full(len(rows), is_member.mean())

    is_member = sides(43, 52)
    scores = score_set(Toy(fits=prior), evidence_of(np.zeros((95, 1))), is_member.tolist())
    assert set(scores.values) == {0.5}


def test_the_pooled_auc_is_the_mean_of_the_folds() -> None:
    is_member = sides(100, 50)
    evidence = evidence_of(np.random.default_rng(3).normal(size=(150, 2)) + 0.5 * is_member[:, None])
    scores = score_set(Toy(fits=means), evidence, is_member.tolist())
    fold = deal([one.record.id for one in evidence], is_member, 5, 0)
    aucs = [auc(scores.values[is_member & (fold == k)], scores.values[~is_member & (fold == k)]) for k in range(5)]
    assert split_aucs(scores, is_member) == pytest.approx(np.mean(aucs), abs=1e-12)


def z_values(draws: int, fit: Fit, features: int) -> Floats:
    """(draws,) AUCs on pure noise less 0.5, in units of their standard error under the null."""
    rng, is_member = np.random.default_rng(4), sides(60, 40)
    error = np.sqrt((60 + 40 + 1) / (12 * 60 * 40))
    found = [
        split_aucs(
            score_set(Toy(fits=fit), evidence_of(rng.normal(size=(100, features))), is_member.tolist()), is_member
        )
        for _ in range(draws)
    ]
    return (np.array(found) - 0.5) / error


@pytest.mark.parametrize("features", [1, 6])
def test_noise_is_at_chance_with_the_error_that_independent_records_have(features: int) -> None:
    z = z_values(400, means, features)
    assert abs(z.mean()) < 3.5 / np.sqrt(400)
    assert np.mean(z**2) < 1 + 3.5 * np.sqrt(2 / 400)


def test_ordinary_cross_validation_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "teachers", lambda fold, folds: [other for other in range(folds) if other != fold])
    assert np.mean(z_values(150, means, 6) ** 2) > 1 + 3.5 * np.sqrt(2 / 150)


@pytest.mark.parametrize("grouped", [True, False])
def test_copies_leak_membership_unless_they_share_a_group(grouped: bool) -> None:
    """Noise, but every record has a copy: whoever saw one knows the other."""
    rows = np.repeat(np.random.default_rng(5).normal(size=(200, 3)), 2, axis=0)
    groups = [f"g{at // 2}" for at in range(400)] if grouped else None
    is_member = sides(200, 200)
    scores = score_set(Toy(fits=nearest), evidence_of(rows, groups), is_member.tolist())
    codes = ([f"g{at // 2}" for at in range(200)], [f"g{at // 2}" for at in range(200, 400)])
    estimate = auc_estimate(scores.values[is_member], scores.values[~is_member], *codes, level=0.999)
    assert estimate.low is not None and estimate.high is not None and estimate.value is not None
    if grouped:
        assert estimate.low < 0.5 < estimate.high
    else:
        assert estimate.low > 0.6


def test_fitted_on_itself_noise_would_look_like_a_leak() -> None:
    rows, is_member = np.random.default_rng(6).normal(size=(300, 3)), sides(150, 150)
    naive = nearest(rows, is_member)(rows)
    assert auc(naive[is_member], naive[~is_member]) == 1.0
    estimate = auc_estimate(*_both(score_set(Toy(fits=nearest), evidence_of(rows), is_member.tolist()), is_member))
    assert estimate.low is not None and estimate.high is not None and estimate.low < 0.5 < estimate.high


def _both(scores: Scores, is_member: Bools) -> tuple[Floats, Floats]:
    return scores.values[is_member], scores.values[~is_member]


# --- what cannot be scored -----------------------------------------------------------------------


def test_what_cannot_be_read_has_its_reason_and_takes_no_part() -> None:
    is_member = sides(30, 30)
    evidence = evidence_of(np.random.default_rng(7).normal(size=(60, 2)))

    class Picky(Toy):
        def features(self, evidence: Evidence) -> Floats:
            bad = {"r00003": Unscorable("no label"), "r00040": ValueError("odd")}
            if evidence.record.id in bad:
                raise bad[evidence.record.id]
            row = Toy.features(self, evidence)
            return row * np.inf if evidence.record.id == "r00050" else row

    scores = score_set(Picky(fits=means), evidence, is_member.tolist())
    assert {at: reason for at, reason in enumerate(scores.reasons) if reason} == {
        3: "no label",
        40: "the attack failed: ValueError: odd",
        50: "a feature is not finite: the model gives a log-probability that is not finite",
    }
    kept = [at for at in range(60) if at not in (3, 40, 50)]
    without = score_set(Toy(fits=means), [evidence[at] for at in kept], is_member[kept].tolist())
    assert (scores.values[kept] == without.values).all()


@pytest.mark.parametrize(
    ("members", "nonmembers", "groups", "said"),
    [
        (9, 30, None, "needs 10 members that are not copies of one another, has 9"),
        (30, 0, None, "needs 10 nonmembers that are not copies of one another, has 0"),
        (30, 30, [f"g{at // 5}" for at in range(60)], "needs 10 members that are not copies of one another, has 6"),
    ],
)
def test_too_few_records_are_a_reason_for_all(members: int, nonmembers: int, groups: Any, said: str) -> None:
    evidence = evidence_of(np.zeros((members + nonmembers, 1)), groups)
    scores = score_set(Toy(fits=means), evidence, sides(members, nonmembers).tolist())
    assert set(scores.reasons) == {f"fitting in 5 folds {said}"}
    assert score_set(Toy(fits=means), [], []).values.shape == (0,)


def test_a_fit_that_fails_is_a_reason_for_all() -> None:
    evidence, is_member = evidence_of(np.zeros((40, 1))), sides(20, 20).tolist()

    def broken(features: Floats, is_member: Bools) -> Predict:
        raise ZeroDivisionError("division by zero")

    def undefined(features: Floats, is_member: Bools) -> Predict:
        return lambda rows: np.full(len(rows), np.nan)

    reasons = {name: set(score_set(Toy(fits=fit), evidence, is_member).reasons)
               for name, fit in (("broken", broken), ("undefined", undefined))}  # fmt: skip
    assert reasons == {
        "broken": {"the attack failed: ZeroDivisionError: division by zero"},
        "undefined": {"the fitted model gives a score that is not finite"},
    }
    with pytest.raises(ValueError, match="40 records but 3 labels"):
        score_set(Toy(fits=means), evidence, [True, False, True])
