"""The page about attacks says what the registry says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from byrote.registry import names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attack_table", ROOT / "tools/attack_table.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh(tool: ModuleType) -> None:
    assert (ROOT / "docs/attacks.md").read_text(encoding="utf-8") == tool.page(), "run tools/attack_table.py"


def test_every_attack_has_a_row_and_a_section_with_formula_and_paper(tool: ModuleType) -> None:
    page = tool.page()
    for name in names("attack"):
        assert f"| [{name}](#" in page and f"\n### {name}\n" in page
    for name, attack in tool.attacks().items():
        assert attack.paper()[:20] in page, name
        assert attack.kind != "membership" or "Score:" in (attack.__doc__ or "") or "learned" in attack.summary(), name


def test_links_lead_to_their_own_sections(tool: ModuleType) -> None:
    assert [tool.anchor(name) for name in ("min-k", "min-k++")] == ["min-k", "min-k-plus-plus"]
    page = tool.page()
    for name in names("attack"):
        assert page.count(f'<a id="{tool.anchor(name)}">') == (tool.anchor(name) != name)
    assert len({tool.anchor(name) for name in names("attack")}) == len(names("attack"))


def test_ids_of_papers_become_links(tool: ModuleType) -> None:
    assert tool.linked("x, arXiv 2012.07805; y") == "x, arXiv [2012.07805](https://arxiv.org/abs/2012.07805); y"
