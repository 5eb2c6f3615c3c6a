"""Attacks that learn, where somebody told the split: whatever else differs between the sides is learned too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import byrote
from audit_cases import audit_folder, base_of
from byrote.report.results import Results
from conftest import make_texts, make_tokenizer

FITTED = ("dataset-inference", "ensemble")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audit_folder(tmp_path_factory.mktemp("fitted"))


pytestmark = pytest.mark.usefixtures("quick")


def moved(folder: Path, members: list[str], epochs: int) -> Any:
    """A model beside the base: with other numbers that know nothing, or trained on the members."""
    model = base_of(folder)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 1e-4)
    optimiser, tokenizer = torch.optim.AdamW(model.parameters(), lr=1e-3), make_tokenizer()
    for text in members * epochs:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def row_of(results: Results, name: str, metric: str, method: str = "tuned") -> Any:
    return next(
        row for row in results.rows if (row.name, row.metric, row.method, row.slice) == (name, metric, method, "")
    )


def test_a_shift_between_the_sides_is_no_learning(folder: Path) -> None:
    members, nonmembers = make_texts(60, 5, 4, 12), make_texts(60, 6, 9, 20)
    some: Any = {"tokenizer": make_tokenizer(), "attacks": FITTED}
    model = moved(folder, members, 0)
    found = byrote.audit(model, members, nonmembers, base=folder / "model", **some)
    for name in FITTED:
        auc, lift = row_of(found, name, "auc"), row_of(found, name, "auc-lift")
        assert auc.low > 0.6  # the sides differ
        assert auc.null_value == row_of(found, name, "auc", "none").value > 0.6
        assert lift.low <= 0 <= lift.high
    assert row_of(found, "dataset-inference", "p-value", "none").value < 1e-3
    p_value = row_of(found, "dataset-inference", "p-value")
    assert p_value.value is None and "on the untuned model" in p_value.reason
    assert any("dataset-inference 0." in said for said in found.warnings if "baseline of its own" in said)

    alone = byrote.audit(model, members, nonmembers, base=None, **some | {"attacks": [ENSEMBLE]})
    assert row_of(alone, "ensemble", "auc").null_value == 0.5
    assert any("The null 0.5 of ensemble is an assumption" in said for said in alone.warnings)


ENSEMBLE = {"name": "ensemble", "attacks": ["loss", "zlib"]}


def test_what_was_learned_is_seen_beside_the_untuned_model(folder: Path) -> None:
    members, nonmembers = make_texts(60, 5, 6, 20), make_texts(60, 6, 6, 20)
    model = moved(folder, members, 6)
    some: Any = {"tokenizer": make_tokenizer(), "attacks": FITTED[:1]}
    found = byrote.audit(model, members, nonmembers, base=folder / "model", **some)
    p_value, before = (row_of(found, FITTED[0], "p-value", method) for method in ("tuned", "none"))
    assert p_value.value < 1e-6 < 0.05 < before.value == p_value.null_value
    assert row_of(found, FITTED[0], "auc-lift").low > 0
