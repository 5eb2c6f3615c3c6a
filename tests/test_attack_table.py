"""The page about attacks says what the registry says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from byrote.registry import discover, names

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


def test_every_access_has_its_place_among_the_threat_models() -> None:
    """The words before the first comma, or all of them, stand in the third column of the table."""
    page = (ROOT / "docs/threat-models.md").read_text(encoding="utf-8")
    rows = [line.split("|")[3] for line in page.splitlines() if line.startswith("| ") and line.count("|") == 5]
    known = {word for row in rows[1:] for word in re.findall(r"`([^`]+)`", row)}
    for name, kind in discover("attack").items():
        access = kind().access  # type: ignore[attr-defined]
        if name != "ensemble":  # what its attacks need
            assert any(access.startswith(one) for one in known), f"{name}: {access}"
        for part in re.split(r", and |, ", access)[1:]:
            assert any(part.removeprefix("and ") == one for one in known) or access in known, f"{name}: {part}"
