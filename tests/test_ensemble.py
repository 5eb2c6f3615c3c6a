"""The ensemble and dataset inference: what they weigh, what they need, chance on noise, and what a set gives away."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from byrote.attacks.base import Evidence
from byrote.attacks.fitted import score_set
from byrote.attacks.membership.dataset_inference import SHARES, DatasetInference
from byrote.attacks.membership.ensemble import OF_LABELS, OF_TOKENS, Ensemble, attack_of
from byrote.registry import make
from byrote.statistics.delong import auc_estimate
from byrote.statistics.roc import auc
from byrote.statistics.set_level import set_level_p_value
from byrote.types import Record, StudyError
from evidence import many, one, stats

Fitted = Ensemble | DatasetInference


def sides(gain: float, count: int, attack: Fitted, seed: int = 0) -> tuple[list[Evidence], list[bool]]:
    members = many(2 * seed, count, gain, attack)
    return members + many(2 * seed + 1, count, 0.0, attack), [True] * count + [False] * count


# --- the ensemble --------------------------------------------------------------------------------


def test_its_features_are_the_scores_of_its_attacks() -> None:
    attack = Ensemble(attacks=("loss", "min-k", "reference"))
    evidence = one("a", 0.3, 20)
    assert attack.features(evidence).tolist() == [attack_of(name).score(evidence) for name in attack.attacks]
    labelled = one("b", 0.3, reads="labels")
    assert Ensemble().features(evidence).tolist() == [attack_of(name).score(evidence) for name in OF_TOKENS]
    assert Ensemble().features(labelled).tolist() == [attack_of(name).score(labelled) for name in OF_LABELS]


def test_it_needs_what_its_attacks_need() -> None:
    assert Ensemble().needs == {"base"} and Ensemble().compares_with_base and not Ensemble().at_the_end
    plain = Ensemble(attacks=("loss", "zlib"))
    assert plain.needs == frozenset() and not plain.compares_with_base and plain.null_is_stated
    shadowed = Ensemble(attacks=("loss", "bayes-base"))
    assert shadowed.needs == {"shadows"} and shadowed.at_the_end and shadowed.trainings == 16
    around = Ensemble(attacks=("loss", "neighbourhood"))
    assert around.neighbours_read == attack_of("neighbourhood").neighbours_read > 0 and around.at_the_end
    assert plain.settings() == '{"attacks":["loss","zlib"]}'


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        (["loss"], "two attacks or more"),
        (["loss", "loss"], "each named once"),
        (["loss", "min-q"], "unknown attack 'min-q'"),
        (["loss", "lira"], "score a record by itself, which lira is not"),
        (["loss", "logistic-regression"], "which logistic-regression is not"),
        (["loss", "mislabelled-loss"], "which mislabelled-loss is not"),
        (["loss", "samia"], "samia reads what the model writes"),
    ],
)
def test_what_it_cannot_weigh_is_said(attacks: list[str], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        make("attack", {"name": "ensemble", "attacks": attacks})


def test_two_half_blind_attacks_see_more_together() -> None:
    """Difficulty hides the gain from the loss, and the base model's own noise from the comparison."""
    rng, evidence = np.random.default_rng(0), []
    for at in range(800):
        hard = rng.normal(-4, 0.5)
        tuned, base = stats([hard + 0.3 * (at < 400)]), stats([hard + rng.normal(0, 0.5)])
        evidence.append(Evidence(Record(f"r{at}", "x"), tuned, base=base))
    labels = [at < 400 for at in range(800)]
    together = score_set(Ensemble(attacks=("loss", "reference")), evidence, labels).values
    alone = max(
        auc(values[:400], values[400:])
        for name in ("loss", "reference")
        for values in (np.array([attack_of(name).score(each) for each in evidence]),)
    )
    assert auc(together[:400], together[400:]) > alone + 0.02


# --- dataset inference ---------------------------------------------------------------------------


def test_its_features_are_many_signals_of_one_record() -> None:
    evidence = one("a", 0.3, 40)
    found = DatasetInference().features(evidence)
    assert len(found) == 3 + 3 * len(SHARES)
    logs = sorted(float(x) for x in evidence.target.log_prob)
    assert found[0] == pytest.approx(sum(logs) / 40) and found[3] == pytest.approx(sum(logs[:2]) / 2)
    assert found[-1] == pytest.approx(sum(logs[-24:]) / 24)
    assert found[1] == pytest.approx(attack_of("reference").score(evidence))


def test_its_line_is_that_of_least_squares_with_both_sides_weighing_the_same() -> None:
    rng = np.random.default_rng(1)
    is_member = np.arange(300) < 60
    rows = rng.normal(size=(300, 3)) + 0.4 * is_member[:, None]
    found = DatasetInference(ridge=1e-9).fit(rows, is_member, 0)(rows)
    weight = np.sqrt(np.where(is_member, 0.5 / 0.2, 0.5 / 0.8))
    design = np.column_stack((np.ones(300), rows))
    exact = design @ np.linalg.lstsq(design * weight[:, None], is_member * weight, rcond=None)[0]
    assert np.corrcoef(found, exact)[0, 1] > 1 - 1e-9
    constant = np.zeros((300, 2))
    assert np.isfinite(DatasetInference().fit(constant, is_member, 0)(constant)).all()


def test_what_one_record_does_not_show_a_set_does() -> None:
    attack = DatasetInference()
    evidence, labels = sides(0.03, 300, attack)
    values = score_set(attack, evidence, labels).values
    members, others = values[:300], values[300:]
    loss = np.array([attack_of("loss").score(each) for each in evidence])
    assert auc(loss[:300], loss[300:]) < 0.6 < auc(members, others)
    p = set_level_p_value(members, others).value
    assert p is not None and p < 1e-9


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [Ensemble(), DatasetInference()], ids=lambda attack: str(attack.name))
def test_noise_is_at_chance_at_the_nominal_rate(attack: Fitted) -> None:
    """200 splits of records whose features hang together, as those of texts do, and say nothing of membership."""
    evidence, _ = sides(0.0, 60, attack)
    width, rng = len(attack.features(evidence[0])), np.random.default_rng(2)
    rows: dict[str, np.ndarray] = {}

    class Remembered(type(attack)):  # type: ignore[misc]
        def features(self, evidence: Evidence) -> np.ndarray:
            return rows[evidence.record.id]

    quick, inside, splits, p_values = Remembered(), 0, 200, []
    for _ in range(splits):
        drawn = rng.normal(size=(120, 3)) @ rng.normal(size=(3, width)) + 0.1 * rng.normal(size=(120, width))
        rows |= {one.record.id: row for one, row in zip(evidence, drawn, strict=True)}
        labels = rng.permutation(120) < 60
        scores = score_set(quick, evidence, labels.tolist())
        assert not any(scores.reasons)
        estimate = auc_estimate(scores.values[labels], scores.values[~labels])
        assert estimate.low is not None and estimate.high is not None
        inside += estimate.low <= 0.5 <= estimate.high
        p_values.append(set_level_p_value(scores.values[labels], scores.values[~labels]).value)
    assert kstest(p_values, "uniform").pvalue > 1e-3  # and the p-value of the set is one
    assert inside > 0.95 * splits - 3.5 * math.sqrt(splits * 0.95 * 0.05)


@pytest.mark.parametrize("attack", [Ensemble(), DatasetInference()], ids=lambda attack: str(attack.name))
def test_a_record_that_cannot_be_read_has_its_reason(attack: Fitted) -> None:
    evidence, labels = sides(0.5, 30, attack)
    evidence[3] = Evidence(evidence[3].record, stats([]), base=stats([]))
    evidence[7] = Evidence(evidence[7].record, evidence[7].target)
    reasons = score_set(attack, evidence, labels).reasons
    assert {at: said for at, said in enumerate(reasons) if said} == {
        3: "no target token: the text is shorter than two tokens",
        7: "the base model did not score this text",
    }
