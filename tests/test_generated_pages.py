"""The pages about Python and about the studies say what the code and the files say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import byrote

ROOT = Path(__file__).parents[1]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_about_python_is_fresh_and_names_all_that_is_public() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert page == tool("api_page").page(), "run tools/api_page.py"
    for name in byrote.__all__:
        assert name == "__version__" or f"\n## {name}\n" in page


def test_the_page_about_studies_is_fresh_and_names_every_study_and_every_result() -> None:
    page = (ROOT / "docs/results/index.md").read_text(encoding="utf-8")
    assert page == tool("study_table").page(), "run tools/study_table.py"
    for study in (ROOT / "studies").glob("*.yaml"):
        assert f"(../../studies/{study.name})" in page
    for result in (ROOT / "docs/results").glob("*.md"):
        assert result.name == "index.md" or page.count(f"({result.name})") == 1


def test_the_decision_guide_has_no_number_of_its_own() -> None:
    """Every estimate with its interval stands as it is in a page of results."""
    text = " ".join((ROOT / "docs/choose.md").read_text(encoding="utf-8").split())
    results = " ".join(
        " ".join(page.read_text(encoding="utf-8").split()) for page in (ROOT / "docs/results").glob("*.md")
    )
    found = re.findall(r"[+−]?\d*\.\d+ \[[^\]]+\]", text)
    assert len(found) > 25
    for number in found:
        assert number in results, number
