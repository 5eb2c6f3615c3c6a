"""The controls of every study: the split without a model, and members that were over-fitted on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from byrote.attacks.base import Evidence
from byrote.attacks.fitted import score_set
from byrote.attacks.membership.blind_baseline import BlindBaseline
from byrote.runner.queries import NO_ANSWER
from byrote.runner.study import run
from byrote.statistics.delong import auc_estimate
from byrote.types import Record
from conftest import make_texts
from small_study import study_of

BLIND = BlindBaseline(words=256)


def split_of(seed: int, count: int, shift: float = 0.0) -> list[Evidence]:
    """Members first. `shift` is the share of the members in which a word stands that no nonmember has."""
    rng, texts = np.random.default_rng(seed), make_texts(2 * count, seed, 8, 20)
    marked = [at < count and rng.random() < shift for at in range(2 * count)]
    return [
        Evidence(Record(str(at), f"{text} lately" if mark else text), NO_ANSWER)
        for at, (text, mark) in enumerate(zip(texts, marked, strict=True))
    ]


def auc_of(evidence: list[Evidence]) -> tuple[float, float, float]:
    count = len(evidence) // 2
    scores = score_set(BLIND, evidence, [at < count for at in range(2 * count)])
    found = auc_estimate(scores.values[:count], scores.values[count:])
    assert found.value is not None and found.low is not None and found.high is not None
    return found.value, found.low, found.high


def test_blind_baseline_takes_a_random_split_for_one() -> None:
    found = [auc_of(split_of(seed, 80)) for seed in range(40)]
    covered = sum(low <= 0.5 <= high for _, low, high in found)
    assert covered >= 35, "95% intervals: 35 of 40 or fewer happen once in 30 runs of a right one"
    assert abs(np.mean([value for value, _, _ in found]) - 0.5) < 0.025


def test_blind_baseline_sees_words_that_tell_the_sides_apart() -> None:
    value, low, _ = auc_of(split_of(3, 150, shift=0.5))
    assert low > 0.5 and value > 0.65  # half of the members can be told, the best possible AUC is .75


def test_each_seed_has_a_blind_baseline_of_its_own(folder: Path, tmp_path: Path) -> None:
    data = {"members": 20, "nonmembers": 20}
    results = run(study_of(folder, epochs=1, seeds=[0, 1], data=data), tmp_path)
    rows = [row for row in results.rows if row.name == "blind-baseline" and row.metric == "auc"]
    assert [(row.seed, row.n, row.null_value, row.method) for row in rows] == [
        (0, 40, 0.5, "none"), (1, 40, 0.5, "none"), (None, 2, 0.5, "none"),
    ]  # fmt: skip
    said = results.controls[0]
    assert said.startswith("blind-baseline, which reads the records and no model") and "a random split has 0.5" in said
    assert run(study_of(folder, epochs=1, seeds=[0, 1], data=data), tmp_path).csv() == results.csv()


def test_a_split_that_is_not_random_has_a_banner_over_everything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from byrote.runner.context import Context
    from byrote.types import Splits

    drawn = Context.drawn

    def shifted(self: Context, seed: int) -> Splits:
        splits = drawn(self, seed)
        both = sorted(splits.members + splits.nonmembers, key=lambda record: len(record.text))
        half = len(splits.members)
        return Splits(tuple(both[:half]), tuple(both[half:]), splits.validation, splits.test)

    monkeypatch.setattr(Context, "drawn", shifted)
    results = run(study_of(folder, epochs=1, data={"members": 30, "nonmembers": 30}), tmp_path)
    (banner,) = results.broken_splits
    assert "can be told apart without any model" in banner and "seed 0" in banner
    assert results.warnings[0] == banner
    page = (tmp_path / "report.html").read_text()
    assert page.index("can be told apart without any model") < page.index("Methods side by side")
    assert "can be told apart without any model" in (tmp_path / "report.md").read_text()


def test_over_fitted_members_are_seen_or_the_attack_is_said_to_see_nothing(folder: Path, tmp_path: Path) -> None:
    seen = run(study_of(folder, epochs=1, learning_rate=1e-2, positive_control=True), tmp_path / "seen")
    (said,) = [line for line in seen.controls if line.startswith("Positive control")]
    assert "full trained on 10 members for 20 epochs" in said and "reference" in said
    assert not [line for line in seen.warnings if "over-fitted" in line]
    asleep = run(study_of(folder, epochs=1, learning_rate=1e-7, positive_control=True), tmp_path / "asleep")
    assert any("loss does not see even over-fitted members" in line for line in asleep.warnings)


def test_no_control_where_no_membership_attack_is_asked_for(folder: Path, tmp_path: Path) -> None:
    results = run(study_of(folder, epochs=1, attacks=[], positive_control=True), tmp_path)
    assert results.manifest.controls == [] and results.manifest.positive_control is None


def test_no_control_that_undoes_the_privacy_of_a_study(folder: Path, tmp_path: Path) -> None:
    private = {"noise_multiplier": 1.0, "expected_batch_size": 4}
    study = study_of(folder, epochs=1, privacy=[private], positive_control=True)
    assert study.control() is None
    assert study_of(folder, privacy=["none", private], positive_control=True).control() is not None
    assert any(line.startswith("No positive control") for line in run(study, tmp_path).controls)


def test_shadow_models_of_copied_members_are_refused(folder: Path) -> None:
    plants = [{"name": "duplicates", "copies": [1, 4], "members": 2}]
    with pytest.raises(ValueError, match=r"null is not 0\.5 where members are repeated"):
        study_of(folder, plants=plants, attacks=["loss", {"name": "lira", "shadows": 2}])
    assert study_of(folder, plants=plants, attacks=["loss"]).plants
