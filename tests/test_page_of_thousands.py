"""The page of a study of 5,000 runs: as many rows, and still a document that a browser opens at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from browsing import Opened, chromium, opened
from byrote.report.formats import MOST_LISTED
from byrote.report.html import MOST_TABLED, report_html
from byrote.report.pair_rows import MOST
from byrote.report.results import Results
from byrote.report.run_facts import MOST_RUNS
from byrote.report.summary import MOST_DRAWN
from report_folder import build

METHODS = ("full", "head", "lora", "prefix-tuning", "prompt-tuning")
EACH = 1000


def thousands(folder: Path) -> Results:
    """The results of five methods, each at a thousand ranks: their cells and rows are those of five runs."""
    build(folder, methods=METHODS, attacks=("loss", "reference"), epochs=1, members=40, test=10)
    evidence = Results.read(folder).evidence
    few = Results(evidence)
    runs = {cell.run_id: cell for cell in evidence.manifest.cells if cell.method != "none"}
    base = [cell for cell in evidence.manifest.cells if cell.method == "none"]
    cells, rows, pieces = list(base), [row for row in few.rows if row.method == "none"], dict(evidence.pieces)
    tuned = [row for row in few.rows if row.method != "none" and "-vs-" not in row.metric]
    for rank in range(EACH):
        settings = {"settings": f'{{"r":{rank}}}'}
        for run_id, cell in runs.items():
            cells.append(cell.model_copy(update=settings | {"run_id": f"{run_id[:10]}{rank:06d}"}))
            pieces[cells[-1].run_id] = pieces[run_id]
        rows += [replace(row, run_id=f"{row.run_id[:10]}{rank:06d}", **settings) for row in tuned]
    manifest = evidence.manifest.model_copy(update={"cells": cells})
    found = Results(replace(evidence, manifest=manifest, pieces=pieces, nulls={}, parts={}))
    found.__dict__["rows"] = rows
    found.__dict__["warnings"] = ["left out here: it reads the scores of every run"]
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thousands")
    results = thousands(folder)
    assert len({row.run_id for row in results.rows}) > 5000 and len(results.rows) > 100_000
    (folder / "report.html").write_text(report_html(results), encoding="utf-8")
    return folder / "report.html"


def test_it_stays_small_and_says_what_is_left_out(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < 14_000_000 and len(re.findall(r"\* plotly\.js v\d", text)) == 1
    held = json.loads(re.findall(r'id="rows">(.*?)</script>', text, re.S)[0])
    assert len(held["rows"]["value"]) <= 100_000 and "less what has no value, which are in that file" in text
    assert f"The first {MOST_TABLED} of {5 * EACH:,} methods stand in the tables" in text
    assert f"The first {MOST_DRAWN} of {5 * EACH:,} methods are drawn" in text
    assert f"The first {MOST_RUNS} runs; {5 * EACH + 1 - MOST_RUNS:,} more are in study.json" in text
    assert f"since more than {MOST} are too many: {5 * EACH:,} methods without privacy" in text
    assert "too many to set each against each: no method is chosen here" in text
    sentences = re.findall(r"<p>(.*?)</p>", text, re.S)
    assert max(sentence.count("<strong>") for sentence in sentences) <= 2 * (MOST_LISTED + 1)


@pytest.fixture(scope="module")
def shown(page: Path) -> Iterator[Opened]:
    with chromium() as browser:
        yield opened(browser, page.as_uri(), 1366)


@pytest.mark.browser
def test_the_document_holds_one_page_of_rows_and_pictures_that_can_be_read(shown: Opened) -> None:
    count = shown.page.evaluate
    assert count("document.querySelectorAll('.rows tbody tr').length") == 50
    assert count("document.querySelectorAll('tr').length") < 1500
    assert count("document.querySelectorAll('*').length") < 40_000
    for picture in ("frontier", "epochs", "roc"):
        traces = count(f"document.querySelectorAll('#plot-{picture} .scatterlayer .trace').length")
        assert 1 < traces <= 4 * (MOST_DRAWN + 1), picture
    assert shown.complaints == [] and len(shown.requests) == 1


@pytest.mark.browser
def test_filters_answer_over_all_rows(shown: Opened) -> None:
    from playwright.sync_api import expect

    page, status = shown.page, shown.page.locator(".rows [role=status]")
    page.locator("[data-filter=metric]").select_option(label="auc-lift")
    expect(status).to_contain_text(f"Rows 1 to 50 of {5 * EACH:,}, of ")
    page.get_by_label("search").fill("lora r 999")
    expect(status).to_contain_text("Rows 1 to 1 of 1, of ")
    assert page.locator(".rows tbody tr").count() == 1
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Last").click()
    assert 1 <= page.locator(".rows tbody tr").count() <= 50
    assert shown.complaints == []
