"""Every command, study and line of Python in the documentation works. `snippets.py` says how they are run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from snippets import ROOT, Page, Snippet, Wrong, snippets

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_SKIPPED = 4


def blocks(page: Path) -> list[Snippet]:
    return snippets(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("byrote.store._flush", lambda path: None)
    return tmp_path


def read(page: Path, folder: Path) -> None:
    reader = Page(folder)
    for snippet in blocks(page):
        reader.run(snippet)


SHOWING = [page for page in PAGES if "\n```" in page.read_text(encoding="utf-8")]
EXTEND = ROOT / "docs/extend.md"


@pytest.mark.parametrize("page", [page for page in SHOWING if page != EXTEND], ids=lambda page: page.stem)
def test_what_the_page_shows_works(page: Path, folder: Path) -> None:
    read(page, folder)


def test_components_of_a_package_of_ones_own_are_found_run_and_reported(folder: Path) -> None:
    read(EXTEND, folder)
    with (folder / "byrote-results/extras/results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "surprise" and row["metric"] == "auc"]
    assert {row["method"] for row in rows} == {"none", "last-norm"}
    for row in rows:
        assert "sqlite" in row["data"] and '"surprise":{"tokens":3}' in row["settings"]
        assert 0 < float(row["low"]) < float(row["value"]) < float(row["high"]) < 1 and row["access"] == "log-probs"


def test_few_are_skipped_and_each_with_a_reason() -> None:
    skipped = [snippet for page in PAGES for snippet in blocks(page) if snippet.skip]
    assert len(skipped) <= MOST_SKIPPED, [f"{snippet.where}: {snippet.skip}" for snippet in skipped]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "byrote run demo --dry-runn"),
        ("sh", "byrote run demoo --dry-run"),
        ("sh", "byrote run demo --dry-run --set epocs=1"),
        ("sh", "byrote audit --modell x --members a.jsonl --nonmembers b.jsonl"),
        ("sh", "byrote list attackss"),
        ("sh", "make demoo"),
        ("sh", "python tools/build_tinny.py 4m"),
        ("sh", "byroted run demo"),
        ("yaml", "epocs: 3"),
        ("yaml", "methods: [loora]"),
        ("yaml", "attacks: [{name: min-k, kk: 0.1}]"),
        ("yaml", "name: whole\nmodel: builtin:tiny\ndata: {source: builtin:aws-docs, membres: 5}\nmethods: [full]"),
        ("python", "import byrote\nbyrote.runn('demo')"),
        ("json", "{"),
    ],
)
def test_a_slip_of_the_pen_is_seen(folder: Path, language: str, text: str) -> None:
    (snippet,) = snippets(f"# Page\n\n```{language}\n{text}\n```\n", "page.md")
    with pytest.raises((Wrong, AttributeError, ValueError)):
        Page(folder).run(snippet)


@pytest.mark.parametrize(
    "text",
    [
        "```\nbyrote run demo\n```",
        "```bash\nbyrote run demo\n```",
        "<!-- test: skip: no -->\n```sh\nbyrote run demo\n```",
        "<!-- test: wiht --set epochs=1 -->\n```sh\nbyrote run demo\n```",
        "<!-- test skip: it needs a GPU -->\n```sh\nbyrote run demo\n```",
        "<!-- test: with --set epochs=1 -->\n```text\nbyrote run demo\n```",
    ],
)
def test_a_block_that_would_silently_not_be_run_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        snippets(f"# Page\n\n{text}\n", "page.md")


def test_what_is_said_of_a_block_counts_for_it_alone() -> None:
    page = "<!-- test: with --set epochs=1 -->\n```sh\nbyrote run a.yaml\n```\n\n```sh\nbyrote run b.yaml\n```\n"
    assert [snippet.added for snippet in snippets(page, "page.md")] == [("--set", "epochs=1"), ()]
