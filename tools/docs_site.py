"""MkDocs hook: what of the repository is on the site besides docs/.

README.md is the front page and CONTRIBUTING.md and CHANGELOG.md are pages, so nothing is written twice. A page may
link to any file of the repository, as on a code host: the site then has that file too, as it was at the build. Every
page of docs/results/ stands in the contents by itself.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages that lie at the top of the repository, and where they stand on the site."""
LINK = re.compile(r"(?<=\]\()(?P<to>[^)\s#]+)(?=[)#])")
RESULTS = "Results"


def on_config(config: MkDocsConfig) -> None:
    """Puts the pages of docs/results/ into the contents, the overview first."""
    found = sorted((DOCS / "results").glob("*.md"), key=lambda page: (page.name != "index.md", page.name))
    assert config.nav is not None
    for part in config.nav:
        if RESULTS in part:
            part[RESULTS] = [page.relative_to(DOCS).as_posix() for page in found]


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Adds the pages from the top of the repository, and every file that some page links to."""
    from mkdocs.structure.files import File

    wanted: set[str] = set()
    for source in [*DOCS.rglob("*.md"), *(ROOT / name for name in PAGES)]:
        text, linked = rewritten(source.read_text(encoding="utf-8"), source.relative_to(ROOT).as_posix())
        wanted |= linked
        if source.parent == ROOT:
            files.append(File.generated(config, PAGES[source.name], content=text))
    for name in sorted(wanted):
        files.append(File.generated(config, place_of(name), abs_src_path=str(ROOT / name)))


def on_page_markdown(markdown: str, *, page: object, config: MkDocsConfig, files: Files) -> str:
    """Links of pages in docs/ as they are on the site."""
    source = page.file.src_uri  # type: ignore[attr-defined]
    return markdown if source in PAGES.values() else rewritten(markdown, f"docs/{source}")[0]


def place_of(name: str) -> str:
    """Where a file of the repository stands on the site."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return PAGES.get(name, f"files/{name}.txt")  # as text, so that a browser shows it


def rewritten(text: str, name: str) -> tuple[str, set[str]]:
    """A page of the repository with its links as they are on the site, and which files outside docs/ these lead to."""
    linked: set[str] = set()

    def to_site(match: re.Match[str]) -> str:
        to = match["to"]
        if ":" in to:
            return to
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), to))
        if not (ROOT / target).is_file():
            return to  # a strict build tells
        if not target.startswith("docs/") and target not in PAGES:
            linked.add(target)
        return os.path.relpath(place_of(target), posixpath.dirname(place_of(name)) or ".")

    return LINK.sub(to_site, text), linked
