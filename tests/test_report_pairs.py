"""Methods set against each other: rows, p-values, words and the table."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from byrote.report.answer import answer
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.pairwise import comparisons, pairwise_of
from byrote.report.quantities import gain, leakage_of
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.statistics.comparison import p_value
from byrote.statistics.delong import auc_lift
from byrote.statistics.interval import pool_over_seeds
from byrote.statistics.roc import auc
from report_folder import build, pick, stored

METHODS = ("full", "lora", "prompt-tuning", "p-tuning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    build(folder, methods=METHODS, attacks=("reference", "loss"), seeds=(0, 1, 2), epochs=3, members=150, test=20)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder)


def test_every_two_methods_are_compared_once_by_the_headline_attack_at_the_last_epoch(results: Results) -> None:
    rows = [row for row in results.rows if "-vs-" in row.metric]
    assert {row.name for row in rows} == {"reference"} and {row.epoch for row in rows} == {3}
    pooled = {(row.metric, row.method) for row in rows if row.seed is None}
    later = {(f"{what}-vs-{a}", b) for a, b in combinations(METHODS, 2) for what in ("auc", "holm-p")}
    assert pooled == later
    assert len(rows) == 6 * (3 + 2), "three seeds, all of them, and a p-value"


def test_the_difference_is_the_paired_one_and_pools_the_seeds(folder: Path, results: Results) -> None:
    alone = []
    for seed in (0, 1, 2):
        row = pick(results, "auc-vs-full", method="lora", seed=seed)
        runs = [cell.run_id for cell in results.manifest.cells if cell.seed == seed and cell.method in ("lora", "full")]
        full, lora = (stored(folder, run, "reference", 3, seed) for run in runs)
        assert row.value == pytest.approx(auc(*lora) - auc(*full), abs=1e-12)
        expected = auc_lift(*lora, *full)
        assert (row.low, row.high, row.null_value, row.n) == (expected.low, expected.high, 0.0, 300)
        alone.append(expected)
    pooled, row = pool_over_seeds(alone), pick(results, "auc-vs-full", method="lora", seed=None)
    assert (row.value, row.low, row.high, row.n, row.run_id) == (pooled.value, pooled.low, pooled.high, 3, "")


@pytest.mark.parametrize("methods", [("lora", "full"), ("full", "lora")])
def test_one_shared_seed_is_told_alike_whichever_stands_first(tmp_path: Path, methods: tuple[str, str]) -> None:
    manifest = build(tmp_path, methods=methods, attacks=("loss",), seeds=(0, 1, 2), epochs=2, members=80, test=40)
    for cell in manifest.cells:
        if cell.method == "lora" and cell.seed:
            cell.status = "failed"
    manifest.write(tmp_path)
    summary = Summary(Results.read(tmp_path))
    (pair,) = comparisons(summary)
    assert (pair.row.seed, pair.row.value, pair.verdict) == (None, None, "not resolved")
    quantity, (one, other) = leakage_of(summary), summary.tuned
    assert quantity is not None
    for estimate in (gain(quantity, one, other).estimate, gain(quantity, other, one).estimate, pair.row.estimate):
        assert estimate.value is None and estimate.reason == "needs 2 seeds with a value, has 1"


def test_p_values_are_adjusted_for_all_pairs(results: Results) -> None:
    summary = Summary(results)
    found = comparisons(summary)
    assert len(found) == 6
    adjusted = [one.p for one in found]
    smallest = min(p for p in adjusted if p is not None)
    row = next(one.row for one in found if one.p == smallest)
    assert smallest == pytest.approx(6 * p_value(row.estimate))
    assert {one.verdict for one in found if one.pair.other.method == "full"} == {"lower"}
    for one in found:
        if one.p is not None and one.p <= 0.05:
            assert one.row.low is not None and one.row.high is not None and one.row.low * one.row.high > 0


def test_the_answer_says_who_leaks_less_and_the_pages_show_every_pair(results: Results) -> None:
    summary = Summary(results)
    sentence = next(one for one in answer(summary) if "**lora** leaks less than **full**" in one)
    row = pick(results, "auc-vs-full", method="lora", seed=None)
    assert row.value is not None and row.low is not None and row.high is not None
    assert f"difference {-row.value:.3f} [{-row.high:.3f}, {-row.low:.3f}], Holm-adjusted p" in sentence
    assert sentence.startswith("On the same records, over 3 seeds, ")
    section = pairwise_of(summary)
    assert section is not None and "all 6 pairs (Holm)" in section.about
    (level,) = section.levels
    assert [len([value for value in line.values if value.main]) for line in level.lines] == [1, 2, 3]
    for page in (report_html(results), report_markdown(results)):
        assert "Methods against each other" in page
        for value in (value.main for line in level.lines for value in line.values):
            assert value in page


def test_two_methods_that_leak_alike_are_called_so_by_the_margin_of_the_study_only(tmp_path: Path) -> None:
    methods = ("prompt-tuning", "p-tuning")
    options = {"methods": methods, "attacks": ("reference",), "members": 400, "test": 10, "epochs": 1}
    for margin, verdict in ((0.12, "alike"), (0.01, "not resolved")):
        manifest = build(tmp_path, **options)  # type: ignore[arg-type]
        manifest.model_copy(update={"study": manifest.study | {"equivalence_margin": margin}}).write(tmp_path)
        summary = Summary(Results.read(tmp_path))
        (found,) = comparisons(summary)
        assert found.verdict == verdict
        section = pairwise_of(summary)
        assert section is not None and "another training may differ" in section.about
        said = " ".join((*answer(summary), *section.statements))
        if verdict == "alike":
            assert "Alike in AUC within ±0.12: **p-tuning** and **prompt-tuning** (difference" in said
        else:
            assert re.search(r"p-tuning against prompt-tuning \((about [\d,]+ members|at the margin or beyond)", said)


def test_methods_are_compared_at_the_same_privacy_level(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "lora"), attacks=("loss",), levels=("none", "8"), members=80, test=10, epochs=1,
          settings={"lora": '{"r":16}'})  # fmt: skip
    results = Results.read(tmp_path)
    rows = [row for row in results.rows if row.metric == "auc-vs-full"]
    assert [(row.method, row.privacy) for row in rows] == [("lora", "none"), ("lora", "8")]
    assert {row.metric for row in results.rows if "-vs-" in row.metric and row.kind == "membership"} == {
        "auc-vs-full", "auc-vs-none", "holm-p-vs-full",
    }  # fmt: skip
    section = pairwise_of(Summary(results))
    assert section is not None and [level.title for level in section.levels] == ["", "ε 8"]


def test_seeds_that_ended_at_different_epochs_are_compared_at_their_own_last_one(tmp_path: Path) -> None:
    ends = {0: 2, 1: 2, 2: 3}
    build(tmp_path, methods=("full", "lora"), attacks=("loss",), seeds=tuple(ends), ends=ends, members=60, test=10)
    results = Results.read(tmp_path)
    rows = [row for row in results.rows if row.metric == "auc-vs-full"]
    assert [(row.seed, row.epoch) for row in rows] == [(0, 2), (1, 2), (2, 3), (None, None)]
    (found,) = comparisons(Summary(results))
    assert found.row == rows[-1]


def test_one_shared_seed_of_several_never_stands_for_all(tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("full", "lora"), attacks=("loss",), seeds=(0, 1), members=60, test=10, epochs=1)
    cells = [
        cell.model_copy(update={"status": "failed"} if (cell.method, cell.seed) == ("full", 1) else {})
        for cell in manifest.cells
    ]
    manifest.model_copy(update={"cells": cells}).write(tmp_path)
    results = Results.read(tmp_path)
    row = pick(results, "auc-vs-full", method="lora", seed=None)
    assert row.value is None and row.reason == "needs 2 seeds with a value, has 1"
    (found,) = comparisons(Summary(results))
    assert (found.verdict, found.p) == ("not resolved", None)
