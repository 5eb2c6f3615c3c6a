"""The HTML report as text: offline, escaped, small, readable by machines that read pages aloud."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from byrote.report.decision import Decision
from byrote.report.figures import pictures
from byrote.report.frontier import frontier_of
from byrote.report.html import report_html
from byrote.report.palette import DARK, LIGHT, styles
from byrote.report.results import Results
from byrote.store import RunFolder
from report_folder import build

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Every tag with its attributes, the scripts' text, and the headings' levels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """A report in which every name and message of the study tries to break out."""
    path = tmp_path_factory.mktemp("hostile")
    manifest = build(path, methods=("full", "lora", "p-tuning"), failed=("p-tuning",), members=40, test=10, epochs=2,
                     name=HOSTILE, settings={"lora": json.dumps({"target_modules": HOSTILE})})  # fmt: skip
    cells = [
        cell.model_copy(update={"error": HOSTILE if cell.status == "failed" else "", "notes": [HOSTILE]})
        for cell in manifest.cells
    ]
    spoiled = dict.fromkeys(("question", "model", "model_description", "data", "data_description", "byrote"), HOSTILE)
    manifest.model_copy(
        update=spoiled | {"cells": cells, "warnings": [HOSTILE], "study": {HOSTILE: HOSTILE},
                          "environment": {}}
    ).write(path)  # fmt: skip
    for cell in manifest.cells[:2]:
        RunFolder(path / "runs" / cell.run_id).write_json("environment.json", {HOSTILE: HOSTILE, "device": HOSTILE})
    text = report_html(Results.read(path))
    return text, Page(text)


def test_nothing_of_the_study_becomes_markup(hostile: tuple[str, Page]) -> None:
    _, page = hostile
    assert not page.named("img")
    plotly, figures, drawing, rows, paging, contents = page.scripts
    assert not any("alert(1)" in script for script in (plotly, drawing, paging, contents))
    held = json.loads(figures)
    assert "alert(1" in json.dumps(held), "the name is in the data of the pictures"
    assert "<script>" not in figures + rows and "<img" not in json.dumps(held["pictures"])
    assert HOSTILE[:15] in json.dumps(json.loads(rows)), "and in the rows, which are shown as text"
    assert HOSTILE in "".join(page.words), "and is shown as what it is"


def test_the_page_asks_for_nothing_from_outside(hostile: tuple[str, Page]) -> None:
    text, page = hostile
    assert not page.named("link") and not page.named("iframe") and not page.named("base")
    assert not [attributes for _, attributes in page.tags if attributes.get("src")]
    assert all((attributes["href"] or "").startswith("#") for attributes in page.named("a"))
    styles_only = re.search(r"<style>(.*?)</style>", text, re.S)
    assert styles_only and not re.search(r"@import|url\(|//", styles_only[1])
    assert not any("http" in page.scripts[at] for at in (2, 4, 5))
    policy = next(meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy


def test_plotly_is_inside_once_and_the_page_stays_small(hostile: tuple[str, Page]) -> None:
    text, page = hostile
    assert len(re.findall(r"\* plotly\.js v\d", text)) == 1
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1
    assert len(text.encode()) < 8_000_000


def test_headings_go_down_one_at_a_time_and_tables_have_heads(hostile: tuple[str, Page]) -> None:
    _, page = hostile
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(head.get("scope") in ("col", "row") for head in page.named("th"))
    assert [attributes.get("lang") for attributes in page.named("html")] == ["en"]
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {tag for tag, _ in page.tags} >= {"main", "header", "footer", "figure", "figcaption"}
    wanted = [a.get("aria-labelledby") for _, a in page.tags if a.get("aria-labelledby")]
    assert set(wanted) <= set(ids)
    assert all(plot.get("aria-label") for plot in page.named("div") if plot.get("role") == "img")
    assert len(page.named("caption")) == len(page.named("table")), "every table says what it is of"
    links = [(attributes["href"] or "")[1:] for attributes in page.named("a")]
    assert set(links) <= set(ids) and {"decision-title", "exposed-title", "run-title"} <= set(links)
    assert [section.get("aria-labelledby") for section in page.named("section")] == links[1:], "all, in their order"


def test_every_colour_of_a_figure_is_in_both_palettes(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "lora", "prompt-tuning"), attacks=("loss", "reference"), members=60, epochs=2)
    from byrote.report.summary import Summary

    summary = Summary(Results.read(tmp_path))
    figures = pictures(summary)
    frontier = frontier_of(Decision(summary), styles(summary.configurations))
    assert frontier is not None
    figures["frontier"] = frontier.figures
    named = set(re.findall(r'"\$([a-z]+(?:-\d)?)(?:/[\d.]+)?"', json.dumps(figures)))
    assert named and named <= set(LIGHT) == set(DARK)
    assert not re.search(r'"#[0-9a-f]{6}"', json.dumps(figures)), "a fixed colour would not follow light and dark"
    assert all(len(of_attack) == 2 for of_attack in figures.values())
    assert {name for name, of_attack in figures.items() if not all(of_attack)} == {"shadows"}  # none were trained
    looks = styles(summary.configurations)
    for family, ending in (("parameter", False), ("prompt", True)):
        assert {look.symbol.endswith("-open") for one, look in looks.items() if one.family == family} == {ending}
    for figure in figures["epochs"]:
        assert figure is not None and figure["layout"]["shapes"][0]["line"]["dash"] == "dash", "the null line"


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_the_page(palette: dict[str, str]) -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for marks."""
    for name in ("fg", "muted", "accent", "bad", "good", "unsure"):
        for ground in ("bg", "panel"):
            assert contrast(palette[name], palette[ground]) >= 4.5, f"{name} on {ground}"
    for name in palette:
        if re.fullmatch(r"[a-z]+-\d", name):
            assert contrast(palette[name], palette["bg"]) >= 3.0, name
