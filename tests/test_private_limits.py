"""What private training must be at its ends: noise without end, hardly any, several trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from byrote.objectives.batching import Example
from byrote.report.results import Results
from byrote.runner.private_runs import model_card, rehearsed
from byrote.runner.study import run
from byrote.training.self_test import probes
from byrote.types import Ledger
from conftest import make_texts
from private_checks import guarantee
from small_study import leave_out_what_is_slow, make_folder, study_of

LEDGER = Ledger(
    epsilon=7.99341, delta=0.00501, unit="record", units=100, expected_batch_size=10, noise_multiplier=0.8,
    clip_norm=0.1, clipping="flat", steps=20, planned_steps=20, accountant="prv", accountant_version="opacus 1.6.0",
    engine="loop",
)  # fmt: skip


def auc_of(results: Results, privacy: str) -> float:
    """Of the reference attack at the end."""
    rows = [r for r in results.rows if (r.name, r.metric, r.privacy, r.epoch) == ("reference", "auc", privacy, 6)]
    assert rows[0].value is not None
    return rows[0].value


def test_noise_without_end_leaves_the_attack_at_its_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 members and nonmembers: a standard error of 0.041. Without privacy the same training is plain to see."""
    leave_out_what_is_slow(monkeypatch)
    make_folder(tmp_path, make_texts(260, 1, 6, 16))
    data = {"members": 100, "nonmembers": 100, "validation": 20, "test": 20, "near_duplicates": 1.0}
    levels = ["none", {"noise_multiplier": 1000.0}]
    study = study_of(tmp_path, data=data, privacy=levels, epochs=6, batch_size=20, learning_rate=5e-3)
    results = run(study, tmp_path / "out")
    assert not results.failed
    assert auc_of(results, "none") > 0.9
    assert abs(auc_of(results, "noise 1000") - 0.5) < 5.5 * 0.041  # false once in ten million runs


@pytest.mark.parametrize("noise", [1e-200, 1e-5, 0.02])
def test_hardly_any_noise_is_refused_and_not_called_private(tmp_path: Path, noise: float) -> None:
    make_folder(tmp_path)
    error = run(study_of(tmp_path, privacy={"noise_multiplier": noise}), tmp_path / "out").failed[0].error
    assert error.startswith(f"privacy: a noise_multiplier of {noise:g} spends an epsilon of")
    assert "promises nothing" in error


def test_a_model_card_never_states_a_better_guarantee_than_there_is() -> None:
    said = model_card(LEDGER)
    assert "(7.994, 0.005010)-differentially private" in said and "trainings" not in said
    assert "| trainings | 3: whoever saw" in model_card(replace(LEDGER, trainings=3))
    assert "| epsilon spent | 10.00 |" in model_card(replace(LEDGER, epsilon=9.99991))


def test_probes_are_of_three_lengths_whatever_the_validation_records_are() -> None:
    for lengths in ((90, 30, 30), (4, 4, 4), (9,), (50, 5, 4, 2), (8, 8)):
        found = [len(one.ids) for one in probes([Example(tuple(range(n))) for n in lengths])]
        assert len(set(found)) == 3 and max(found) == max(lengths), (lengths, found)


def test_levels_of_equal_epsilon_are_told_apart_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    make_folder(tmp_path)
    levels = ["none", {"epsilon": 8}, {"epsilon": 8, "clipping": "automatic"}]
    run(study_of(tmp_path, privacy=levels, epochs=1), tmp_path / "out")
    report = (tmp_path / "out" / "report.md").read_text()
    assert "With ε 8 (clipping automatic) the AUC" in report and "With ε 8 the AUC" in report
    assert json.loads((tmp_path / "out" / "results.json").read_text())


def test_a_rehearsal_on_fewer_units_has_as_much_noise_beside_as_much_signal() -> None:
    whole = guarantee(noise_multiplier=1.2, expected_batch_size=8, units=100, claimed=True)
    small, enough = rehearsed(whole, 4), rehearsed(whole, 60)
    assert (small.expected_batch_size, small.units, small.noise_multiplier) == (4, 4, 0.6)
    assert (enough.expected_batch_size, enough.units, enough.noise_multiplier) == (8, 60, 1.2)
    for one in (small, enough):
        assert not one.claimed and one.noise_multiplier / one.expected_batch_size == pytest.approx(0.15)
        assert (one.steps, one.clipping, one.sampling_rate <= 1) == (whole.steps, whole.clipping, True)
