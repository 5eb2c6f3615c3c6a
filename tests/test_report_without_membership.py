"""Reports of studies that make no membership attack, and of those that know no untuned model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from byrote.report.answer import answer
from byrote.report.decision import Decision
from byrote.report.frontier import frontier_of
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.palette import styles
from byrote.report.recommendation import recommendation
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.tables import leakage_columns
from byrote.runner.study import run
from report_folder import build
from small_study import leave_out_what_is_slow, make_folder, write_study


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two measures of what comes out, one of them with three numbers."""
    folder = tmp_path_factory.mktemp("out")
    settings = {"prefix_tokens": 4, "max_new_tokens": 12, "min_plaglen": 10, "verbatim_minlen": 12}
    attacks = ["extraction-strength", {"name": "plagiarism"} | settings]
    data = {"members": 20, "nonmembers": 20}
    with pytest.MonkeyPatch.context() as patched:
        leave_out_what_is_slow(patched)
        found = run(write_study(folder / "s.yaml", make_folder(folder), attacks=attacks, data=data), folder / "out")
    assert isinstance(found, Results)
    return found


def test_no_verdict_is_shown_and_no_tpr_is_missed(results: Results) -> None:
    summary, page, text = Summary(results), report_html(results), report_markdown(results)
    assert summary.headline is None and not any("TPR" in line for line in results.warnings)
    for told in (page, text):
        assert "TPR" not in told and "AUC" not in told.split('id="figures"')[0].split('id="rows-title"')[0]
    table = page[page.index('id="table-title"') :].split("</table>")[0]
    assert "verdict" not in table and "whisker" not in table and "| method | extraction-strength" in text
    heads = [column.title for column in leakage_columns(summary)]
    assert heads[0] == "extraction-strength" and heads[1].startswith("plagiarism") and heads[1].endswith("verbatim")


def test_methods_are_chosen_by_what_comes_out(results: Results) -> None:
    decision = Decision(Summary(results))
    assert decision.contest.leakage is not None and decision.contest.utility is not None
    assert decision.contest.leakage.label == "extraction-strength, members less nonmembers"
    assert recommendation(decision) and "AUC" not in " ".join(recommendation(decision))
    frontier = frontier_of(decision, styles(decision.summary.configurations))
    assert frontier is not None and frontier.labels[0] == decision.contest.leakage.label and frontier.start == 0
    assert len(frontier.labels) >= 2 and 'id="plot-frontier"' in report_html(results)


def test_every_number_of_a_measure_may_be_what_leaks(results: Results) -> None:
    """Not the first alone: where paraphrases come out and nothing verbatim does, that is said."""
    changed = Results(results.evidence)
    high = {"value": 0.5, "low": 0.3, "high": 0.7, "reason": ""}
    name = "paraphrase-excess-vs-nonmembers"
    rows = [replace(row, **high) if row.metric == name and not row.slice else row for row in results.rows]  # type: ignore[arg-type]
    assert any(row.metric == name for row in rows)
    changed.__dict__["rows"] = rows
    summary = Summary(changed)
    said = next(line for line in answer(summary) if line.startswith("More of members") and "plagiarism" in line)
    assert "paraphrase by +0.500 [+0.300, +0.700]" in said and "**full**" in said
    assert all(Decision(summary).state(one) == "leaks" for one in summary.tuned)


def test_little_more_is_called_more_and_not_as_much(results: Results) -> None:
    """An interval above 0 and within the margin says both: it is told once, as more, but by less than the margin."""
    changed = Results(results.evidence)
    near = {"value": 0.007, "low": 0.004, "high": 0.01, "reason": ""}
    metric = "strength-excess-vs-nonmembers"
    changed.__dict__["rows"] = [
        replace(row, **near) if row.metric == metric and not row.slice and row.method == "full" else row  # type: ignore[arg-type]
        for row in results.rows
    ]
    text = report_markdown(changed)
    assert "extraction-strength: more than of nonmembers, but by less than 0.05, comes out with full +0.007" in text
    lines = [line for line in text.splitlines() if "as much as of nonmembers" in line and "extraction-strength" in line]
    assert not any("full" in line for line in lines)


def test_without_an_untuned_model_none_is_spoken_of(tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("full", "lora"), attacks=("loss",), members=60, test=20, epochs=1)
    cells = [cell.model_copy(update={"base_run_id": ""}) for cell in manifest.cells if cell.method != "none"]
    manifest.model_copy(update={"cells": cells}).write(tmp_path)
    results = Results.read(tmp_path)
    page = report_html(results)
    body = page[page.index("<main>") : page.index("</main>")]
    assert "untuned" not in body.replace("no untuned model is part of this study", "")
    assert "no untuned model is part of this study" in body
