"""Writes docs/results/index.md from studies/*.yaml and the pages of docs/results/.

python tools/study_table.py
"""

from __future__ import annotations

import re
from pathlib import Path

from byrote.study import load

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
PAGE = RESULTS / "index.md"
WIDTH = 118

INTRODUCTION = """# Studies and their results

`tools/study_table.py` writes this page: do not edit it by hand.

Each study is one file that `byrote run NAME` runs as it stands; what it takes is said in the file. A page of results
gives the commit that made it, what it shows, and what it falls short of. Where a study repeats a paper, claims are
named as in its checklist (Hou-C1, Ma-C2, ...).

| study | asks | results |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    studies = {path.stem: path for path in sorted((ROOT / "studies").glob("*.yaml"))}
    return INTRODUCTION + "".join(_row(name, path, list(studies)) for name, path in studies.items())


def _row(name: str, path: Path, names: list[str]) -> str:
    study, _ = load(path)
    comment = re.match(r"(?:# .*\n)+", path.read_text(encoding="utf-8"))
    about = joined([line.removeprefix("# ") for line in comment[0].splitlines()]) if comment else ""
    found = [f"[{title(one)}]({one.name})" for one in results_of(name, names)]
    results = "<br>".join(found) or "not run yet"
    return f"| [{name}](../../studies/{path.name}) | {study.question} *{about}* | {results} |\n"


def joined(lines: list[str]) -> str:
    """A comment as one paragraph, with a full stop where a line ends that the next word would still have fitted in."""
    text = ""
    for line in lines:
        last = text.rsplit("\n", 1)[-1]
        ends = last and last[-1] not in ".,:;?" and len(last) + len(line.split()[0]) < WIDTH
        text += f"{'.' if ends else ''}\n{line}"
    return " ".join(text.split())


def results_of(name: str, names: list[str]) -> list[Path]:
    """The pages of a study: those whose name begins with its own, and with no longer one."""
    pages = sorted(one for one in RESULTS.glob("*.md") if one != PAGE)
    return [one for one in pages if max((n for n in names if one.stem.startswith(n)), key=len, default="") == name]


def title(page: Path) -> str:
    """Its heading."""
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removeprefix("Results: ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
