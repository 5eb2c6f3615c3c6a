"""The shipped facts and the page about methods say what a fresh measurement says."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from byrote.methods.facts import Facts, facts_of
from byrote.registry import names

REFUSED = ("adalora", "bitfit", "in-context", "qlora", "tuned")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("method_table", ROOT / "tools/method_table.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tool: ModuleType) -> dict[str, Facts]:
    measured: dict[str, Facts] = tool.measure()
    return measured


def test_facts_are_fresh(found: dict[str, Facts]) -> None:
    assert list(found) == names("method")
    for name, one in found.items():
        assert facts_of(name) == one, "run tools/method_table.py"


def test_the_page_is_fresh(tool: ModuleType, found: dict[str, Facts]) -> None:
    assert (ROOT / "docs/methods.md").read_text(encoding="utf-8") == tool.page(found), "run tools/method_table.py"


def test_every_method_can_be_trained_privately_or_says_why_not(found: dict[str, Facts]) -> None:
    assert {name for name, one in found.items() if one.engine is None} == set(REFUSED)
    assert all(one.reason for one in found.values() if one.engine is None)


def test_shares_are_of_the_untuned_model(found: dict[str, Facts]) -> None:
    """builtin:tiny: 4 layers, width 128, 4,096 tokens, 1,377,408 parameters."""
    assert found["full"].share == 1.0 and found["full"].trainable == 1_377_408
    assert found["head"].trainable == 4096 * 128
    assert found["lora"].trainable == 4 * 8 * 2 * (128 + 128)
    lora = found["lora"].share
    assert lora is not None and math.isclose(lora, 16384 / 1_377_408)


def test_methods_of_other_packages_are_not_measured() -> None:
    assert facts_of("somebody-elses") == Facts(reason="not measured")
    assert facts_of("somebody-elses").share_in_words() == "-"
