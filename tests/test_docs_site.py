"""The documentation builds strictly, asks nobody for anything, and every link of every page leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in PAGES:
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), page
    assert "learned by rote" in (site / "index.html").read_text(encoding="utf-8")


def test_no_page_fetches_anything(site: Path) -> None:
    """No fonts, scripts, pictures or frames of others: whoever reads the documentation is seen by nobody."""
    fetched = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//([^\"\s>]+)")
    for page in site.rglob("*.html"):
        found = [where for where in fetched.findall(page.read_text(encoding="utf-8")) if "canonical" not in where]
        assert found == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gone](nowhere.md)", "nowhere.md"),
        ("[gone](#nowhere)", "#nowhere"),
        ("[gone](../src/nowhere.py)", "nowhere.py"),
    ],
)
def test_a_dead_link_fails_the_build(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Page\n\n{text}\n")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    plain = re.sub(r"^(?:hooks|docs_dir|site_dir): .*\n|^nav:\n(?: .*\n)*", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(plain)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0 and told in done.stderr, done.stderr


@pytest.mark.parametrize("page", [ROOT / name for name in TOP] + PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_in_the_repository_too(page: Path) -> None:
    """As a code host shows the pages: relative to where they lie, with headings as anchors."""
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        if ":" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.is_file(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}#{anchor}, which is not there"


def anchors(page: Path) -> set[str]:
    """Of the headings, without those that repeat another, and what is named by hand."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    plain = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return plain | set(re.findall(r'<a id="([^"]+)">', text))


def test_a_page_that_names_a_test_names_one_that_is_there() -> None:
    named = 0
    for page in PAGES:
        for name, path in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            code = (page.parent / path).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", code, re.MULTILINE), f"{page.name} names {name}, which {path} has not"
            named += 1
    assert named > 30
