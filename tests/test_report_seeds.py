"""What a report says where the seeds of a method ended at different epochs, or did not all end well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from byrote.report.answer import answer
from byrote.report.curves import pooled_roc, sides_of, spread_of_scores
from byrote.report.decision import Decision
from byrote.report.figures import pictures
from byrote.report.frontier import frontier_of
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.palette import styles
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.statistics.interval import pool_logs_over_seeds, pool_over_seeds
from byrote.store import Manifest, RunFolder
from byrote.types import Estimate
from report_folder import build, build_private, pick

ENDS = {0: 2, 1: 2, 2: 2, 3: 4}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("early")
    build(folder, methods=("lora",), attacks=("reference", "loss"), seeds=tuple(ENDS), ends=ENDS, members=100, test=20)
    return Results.read(folder)


@pytest.mark.parametrize(
    ("metric", "name"),
    [("auc", "reference"), ("auc-lift", "loss"), ("tpr@fpr=0.1", "loss"), ("perplexity", "perplexity")],
)
def test_each_seeds_own_last_epoch_is_pooled(results: Results, metric: str, name: str) -> None:
    alone = [pick(results, metric, method="lora", name=name, seed=seed, epoch=end) for seed, end in ENDS.items()]
    (row,) = [row for row in results.rows if (row.metric, row.name, row.seed, row.epoch) == (metric, name, None, None)]
    values = [one.value for one in alone if one.value is not None]
    assert row.value == pytest.approx(np.exp(np.log(values).mean()) if metric == "perplexity" else np.mean(values))
    assert row.n == 4 and row.run_id == ""
    (found,) = Summary(results).tuned
    assert found.epoch is None
    shown = {row.metric: row for rows in (found.auc, found.lift, found.utility) for row in rows.values()}
    shown |= {row.metric: row for rates in found.tpr.values() for row in rates.values()}
    assert row in (*shown.values(), *found.auc.values())


def test_rows_of_an_epoch_are_pooled_only_where_every_seed_reached_it(results: Results) -> None:
    pooled = [row for row in results.rows if row.seed is None and row.method == "lora"]
    assert {row.epoch for row in pooled} == {1, 2, None}
    assert {row.epoch for row in results.rows if row.seed == 3} >= {1, 2, 3, 4}, "no number is lost"


def test_words_say_that_runs_ended_at_different_epochs(results: Results) -> None:
    assert answer(Summary(results))[0].startswith("After training, ")
    assert any("2 with seed 0" in line and "4 with seed 3" in line and "own last" in line for line in results.warnings)
    for page in (report_html(results), report_markdown(results)):
        assert "At the last epoch of each run, pooled over 4 seeds" in page


def test_pictures_end_with_every_seeds_own_last_epoch(results: Results) -> None:
    summary = Summary(results)
    (found,), (attack, _) = summary.tuned, results.evidence.attacks
    assert len(sides_of(summary, found, attack)) == 4 and pooled_roc(summary, found, attack) is not None
    spread = spread_of_scores(summary, found, attack)
    assert spread is not None and len(spread.members) == 4 * 100
    epochs, drawn = pictures(summary)["epochs"][0], frontier_of(Decision(summary), styles(summary.configurations))
    assert epochs is not None and drawn is not None
    frontier = drawn.figures[drawn.start]
    assert frontier is not None
    assert epochs["data"][0]["x"] == [1, 2, 2.5] and epochs["layout"]["xaxis"]["tickvals"] == [1, 2]
    assert epochs["data"][0]["y"][-1] == frontier["data"][-2]["y"][0] == found.auc[attack].value


def test_one_seed_of_several_never_stands_for_all(tmp_path: Path) -> None:
    """Seed 1 has no scores: what is left is one seed, and that is said instead of shown."""
    manifest = build(tmp_path, methods=("lora",), attacks=("loss",), seeds=(0, 1), epochs=2, members=40, test=10)
    (tmp_path / "runs" / manifest.cells[-1].run_id / "scores.parquet").unlink()
    (found,) = Summary(Results.read(tmp_path)).tuned
    rows = [*found.auc.values(), *found.lift.values(), *(row for rates in found.tpr.values() for row in rates.values())]
    assert len(rows) >= 3 and {row.seed for row in rows} == {None} and {row.value for row in rows} == {None}
    assert all(row.reason for row in rows)


def test_seeds_that_failed_are_counted(tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("lora", "full"), attacks=("loss",), seeds=(0, 1), epochs=1, members=40, test=10)
    cells = [
        cell.model_copy(update={"status": "failed"} if (cell.method, cell.seed) == ("full", 1) else {})
        for cell in manifest.cells
    ]
    manifest.model_copy(update={"cells": cells}).write(tmp_path)
    results = Results.read(tmp_path)
    assert "full has numbers of 1 of 2 seeds." in results.warnings
    assert "pooled over 1 to 2 seeds" in report_markdown(results)


def test_perplexities_are_pooled_as_ratios_and_never_below_zero() -> None:
    seeds = [Estimate(value, value / 1.1, value * 1.1, 100, "normal", 50.0) for value in (60.0, 62.0, 640.0)]
    pooled = pool_logs_over_seeds(seeds)
    logs = np.log([60.0, 62.0, 640.0])
    half = 4.302653 * logs.std(ddof=1) / np.sqrt(3)
    assert pooled.value == pytest.approx(np.exp(logs.mean()))
    assert (pooled.low, pooled.high) == pytest.approx(
        (np.exp(logs.mean() - half), np.exp(logs.mean() + half)), rel=1e-5
    )
    assert pooled.null_value == pytest.approx(50.0) and (pool_over_seeds(seeds).low or 0) < 0


def test_a_seed_that_diverged_is_left_out_of_ratios(tmp_path: Path) -> None:
    """A perplexity of exp(900) is not known, and another's ratio to it is 0, which has no logarithm."""
    build_private(tmp_path, seeds=(0, 1, 2))
    cells = Manifest.read(tmp_path).cells
    astray = next(one.run_id for one in cells if one.seed == 1 and one.method == "lora" and one.privacy == "none")
    folder = RunFolder(tmp_path / "runs" / astray)
    table = folder.read_table("utility.parquet")
    rows = [[total + 900.0 * weight, weight] for total, weight in table["statistics"].to_pylist()]
    at = table.column_names.index("statistics")
    folder.write_table("utility.parquet", table.set_column(at, "statistics", pa.array(rows)))
    results = Results.read(tmp_path)
    ratios = {row.seed: row.value for row in results.rows if row.metric == "perplexity-vs-none" and row.epoch == 2}
    assert ratios[1] == 0.0 and ratios[None] == pytest.approx((ratios[0] * ratios[2]) ** 0.5)
    assert report_html(results) and report_markdown(results)


def test_limits_too_large_to_write_are_left_out() -> None:
    pooled = pool_logs_over_seeds([Estimate(value, value, value, 60) for value in (2.0, 1e300)])
    assert pooled.value == pytest.approx(2e300**0.5) and pooled.high is None
