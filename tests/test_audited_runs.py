"""Coin-flip canaries in real runs: without privacy a bound near its ceiling, with it one below the ledger's epsilon."""

from __future__ import annotations

from pathlib import Path

import pytest

from byrote.report.epsilon_rows import CEILING, LOWER_BOUND, P_VALUE
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.statistics.epsilon import ESTIMATORS
from byrote.study import Study
from report_folder import pick
from test_private_faults import noise_of

PRIVATE = {"epsilon": 3, "delta": 1e-4}
COINS = "coin-flip:random-token"


def study(*levels: object) -> Study:
    return Study.model_validate({
        "name": "coins", "model": "builtin:tiny", "methods": ["head"], "privacy": list(levels), "learning_rate": 0.01,
        "data": {"source": "builtin:aws-docs", "members": 30, "nonmembers": 30, "validation": 10, "test": 10},
        "epochs": 6, "batch_size": 8, "max_length": 32, "attacks": ["reference"], "positive_control": False,
        "plants": [{"name": "coin-flips", "canaries": 120, "tokens": 8}],
    })  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("coins")
    run(study("none", PRIVATE), folder)
    return Results.read(folder)


def test_an_over_fitted_run_has_a_bound_near_its_ceiling(results: Results) -> None:
    for name in ESTIMATORS:
        bound, most = (pick(results, metric, name=name, privacy="none", slice=COINS).value for metric in
                       (LOWER_BOUND, CEILING))  # fmt: skip
        assert bound is not None and most is not None and bound > 0.8 * most > 1.0, name


def test_a_private_run_stays_below_its_ledger(results: Results) -> None:
    spent = pick(results, "epsilon", privacy="3", epoch=6).value
    for name in ESTIMATORS:
        bound = pick(results, LOWER_BOUND, name=name, privacy="3", slice=COINS).value
        assert bound is not None and spent is not None and bound < spent <= 3.0
    p = pick(results, P_VALUE, privacy="3").value
    assert p is not None and p > 0.05 and results.contradictions == []


def test_a_run_without_its_noise_contradicts_its_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise_of(0.0)(monkeypatch)
    run(study(PRIVATE), tmp_path)
    results = Results.read(tmp_path)
    assert len(results.contradictions) == 1 and "head, ε 3, seed 0" in results.contradictions[0]
    assert "contradicts the ledger" in (tmp_path / "report.md").read_text()
