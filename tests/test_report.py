"""The rows and tables of a report, against plain recomputations from the stored scores."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.metrics import roc_auc_score

from byrote.report.answer import answer
from byrote.report.markdown import report_markdown
from byrote.report.results import SCORE_COLUMNS, Results
from byrote.report.rows import COLUMNS
from byrote.report.summary import Summary
from byrote.store import RunFolder
from report_folder import BASE, build, build_damaged, pick, stored

# The results table of the design, word for word.
DESIGN = [
    "study",
    "model",
    "data",
    "method",
    "family",
    "settings",
    "privacy",
    "delta",
    "seed",
    "epoch",
    "kind",
    "name",
    "metric",
    "slice",
    "value",
    "low",
    "high",
    "n",
    "interval",
    "null_value",
    "access",
    "run_id",
    "reason",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_damaged(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder)


def naive_auc(members: list[float], nonmembers: list[float]) -> float:
    wins = sum((m > n) + 0.5 * (m == n) for m in members for n in nonmembers)
    return wins / (len(members) * len(nonmembers))


def test_columns_are_those_of_the_design(results: Results) -> None:
    assert list(COLUMNS) == DESIGN
    assert results.csv().splitlines()[0] == ",".join(DESIGN)
    assert list(json.loads(results.json())[0]) == DESIGN
    assert list(results.table().columns) == DESIGN
    assert ",".join(results.scores().columns) == ",".join(SCORE_COLUMNS)


@pytest.mark.parametrize(("method", "epoch"), [("full", 1), ("prompt-tuning", 5)])
def test_auc_null_and_lift_equal_a_plain_count(folder: Path, results: Results, method: str, epoch: int) -> None:
    row = pick(results, "auc", method=method, name="loss", epoch=epoch, seed=1)
    ours, theirs = (naive_auc(*stored(folder, run, "loss", at, 1)) for run, at in ((row.run_id, epoch), (BASE, 0)))
    assert row.value == pytest.approx(ours, abs=1e-12)
    assert row.null_value == pytest.approx(theirs, abs=1e-12)
    assert row.n == 240
    assert row.low is not None and row.high is not None and row.low < ours < row.high
    base = pick(results, "auc", method="none", name="loss", seed=1)
    assert (base.value, base.null_value, base.epoch, base.family) == (row.null_value, 0.5, 0, "none")
    lift = pick(results, "auc-lift", method=method, name="loss", epoch=epoch, seed=1)
    assert lift.value == pytest.approx(ours - theirs, abs=1e-12)
    assert lift.null_value == 0.0


def test_tpr_lets_no_more_nonmembers_through_than_it_says(folder: Path, results: Results) -> None:
    row = pick(results, "tpr@fpr=0.1", method="lora", name="loss", epoch=5, seed=0)
    members, nonmembers = stored(folder, row.run_id, "loss", 5, 0)
    thresholds = [t for t in sorted(members + nonmembers) if sum(n > t for n in nonmembers) <= 12]
    assert row.value == pytest.approx(sum(m > thresholds[0] for m in members) / len(members))
    assert row.null_value == pick(results, "tpr@fpr=0.1", method="none", name="loss", seed=0).value


def test_partial_auc_and_balanced_accuracy_are_rows_of_every_attack(folder: Path, results: Results) -> None:
    for name in ("loss", "reference"):
        rows = {
            metric: pick(results, metric, method="lora", name=name, epoch=5, seed=0)
            for metric in ("partial-auc@fpr=0.1", "balanced-accuracy")
        }
        members, nonmembers = stored(folder, rows["balanced-accuracy"].run_id, name, 5, 0)
        labels = [1] * len(members) + [0] * len(nonmembers)
        truth = roc_auc_score(labels, members + nonmembers, max_fpr=0.1)
        assert rows["partial-auc@fpr=0.1"].value == pytest.approx(truth)
        best = max((1 + np.mean(np.array(members) > cut) - np.mean(np.array(nonmembers) > cut)) / 2 for cut in members)
        found = rows["balanced-accuracy"]
        assert found.value is not None and 0.5 < found.value <= best, "no better than the best threshold afterwards"
        for metric, row in rows.items():
            base = [x.value for x in results.rows if (x.metric, x.method, x.name, x.seed) == (metric, "none", name, 0)]
            assert row.null_value == (base[0] if name == "loss" else 0.5)
            assert pick(results, metric, method="lora", name=name, epoch=5, seed=None).n == 2
    text = report_markdown(results)
    assert (
        "## The same attack by other measures" in text
        and "Not resolved: TPR at 1% FPR needs 1000 nonmembers, has 120; " in text
    )


def test_an_attack_that_compares_with_the_base_has_a_stated_null_and_no_lift(results: Results) -> None:
    rows = [row for row in results.rows if row.name == "reference"]
    assert {row.null_value for row in rows if row.metric == "auc" and row.value is not None} == {0.5}
    assert {row.null_value for row in rows if row.metric == "tpr@fpr=0.1" and row.value is not None} == {0.1}
    assert not [row for row in rows if row.metric == "auc-lift" or row.method == "none"]
    assert {row.access for row in rows} == {"log-probs and base model"}


def test_what_the_sample_cannot_resolve_has_a_reason_and_is_empty_everywhere(results: Results) -> None:
    row = pick(results, "tpr@fpr=0.01", method="full", name="loss", epoch=5, seed=0)
    assert (row.value, row.low, row.high) == (None, None, None)
    assert row.reason == "needs 1000 nonmembers, has 120"
    at = results.rows.index(row)
    cells = list(csv.DictReader(io.StringIO(results.csv())))[at]
    assert (cells["value"], cells["low"], cells["reason"]) == ("", "", row.reason)
    assert json.loads(results.json())[at]["value"] is None
    import pandas as pd

    assert results.table()["value"][at] is pd.NA
    assert "nan" not in results.csv().casefold() and "NaN" not in results.json()


def test_csv_json_and_table_hold_the_same_numbers(results: Results) -> None:
    table = results.table()
    from_csv = list(csv.DictReader(io.StringIO(results.csv())))
    from_json = json.loads(results.json())
    assert len(table) == len(from_csv) == len(from_json) == len(results.rows)
    for column in ("value", "low", "null_value", "seed", "epoch", "n"):
        expected = [getattr(row, column) for row in results.rows]
        assert [None if row[column] == "" else float(row[column]) for row in from_csv] == expected
        assert [row[column] for row in from_json] == expected
        assert [None if absent else number for absent, number in zip(table[column].isna(), table[column],
                                                                     strict=True)] == expected  # fmt: skip


def test_reading_twice_gives_the_same_bytes(folder: Path, results: Results) -> None:
    again = Results.read(folder)
    assert again.csv() == results.csv() and again.json() == results.json() and again.warnings == results.warnings


def test_utility_is_the_weighted_mean_and_its_null_that_of_the_base_on_the_same_records(
    folder: Path, results: Results
) -> None:
    row = pick(results, "perplexity", method="lora", epoch=3, seed=1)

    def naive(run: str, epoch: int) -> float:
        table = pyarrow.parquet.read_table(folder / "runs" / run / "utility.parquet").to_pylist()
        rows = [row for row in table if row["epoch"] == epoch and row["record_id"].startswith("test-1-")]
        return math.exp(sum(r["statistics"][0] for r in rows) / sum(r["statistics"][1] for r in rows))

    assert row.value == pytest.approx(naive(row.run_id, 3), rel=1e-12)
    assert row.null_value == pytest.approx(naive(BASE, 0), rel=1e-12)
    assert row.settings == '{"r":16}' and row.kind == "utility" and row.n == 60


def test_pooled_rows_are_means_over_seeds_with_a_t_interval(results: Results) -> None:
    alone = [pick(results, "auc", method="lora", name="loss", epoch=5, seed=seed) for seed in (0, 1)]
    pooled = pick(results, "auc", method="lora", name="loss", epoch=5, seed=None)
    values = [row.value for row in alone if row.value is not None]
    assert pooled.value == pytest.approx(np.mean(values))
    assert pooled.null_value == pytest.approx(np.mean([row.null_value for row in alone if row.null_value is not None]))
    assert pooled.n == 2 and pooled.run_id == "" and pooled.interval == "t-over-seeds"
    half = 12.706204736 * abs(values[0] - values[1]) / 2  # t at 97.5% with one degree of freedom; sd / sqrt(2)
    assert pooled.high == pytest.approx(min(np.mean(values) + half, 1.0), abs=1e-8)


def test_cost_rows_are_the_runs_own_counts_at_the_last_epoch(results: Results) -> None:
    row = pick(results, "stored_bytes", method="prompt-tuning", seed=0)
    assert (row.kind, row.name, row.value, row.epoch, row.n, row.interval) == ("cost", "storage", 5120, 5, 1, "")
    assert {(row.name, row.metric) for row in results.rows if row.kind == "cost" and row.method == "none"} == {
        ("scoring", "seconds")
    }


def test_a_failed_cell_has_no_rows_and_is_named_with_its_reason(results: Results) -> None:
    assert not [row for row in results.rows if row.method == "p-tuning"]
    assert any("p-tuning failed with seeds 0, 1" in line and "micro-batch" in line for line in results.warnings)
    assert "**p-tuning** failed and has no numbers." in " ".join(answer(Summary(results)))


def test_a_damaged_file_costs_its_own_numbers_and_no_others(results: Results) -> None:
    row = pick(results, "auc", method="head", name="loss", epoch=5, seed=1)
    assert row.value is None and "scores.parquet" in row.reason and "damaged" in row.reason
    assert pick(results, "auc", method="head", name="loss", epoch=5, seed=0).value is not None
    assert pick(results, "perplexity", method="head", epoch=5, seed=1).value is not None
    pooled = pick(results, "auc", method="head", name="loss", epoch=5, seed=None)
    assert pooled.value is None and pooled.reason.startswith("needs 2 seeds with a value, has 1")
    assert any("scores.parquet of run" in line and "head" in line for line in results.warnings)
    scores = results.scores()
    assert scores[(scores.method == "head") & (scores.seed == 1)].empty


def test_scores_join_the_rows_and_give_their_aucs(results: Results) -> None:
    row = pick(results, "auc", method="lora", name="min-k", epoch=2, seed=0)
    scores = results.scores()
    mine = scores[(scores.run_id == row.run_id) & (scores.epoch == 2) & (scores.attack == "min-k") & (scores.seed == 0)
                  & (scores.settings == row.settings)]  # fmt: skip
    sides = [list(mine[mine.split == side].score) for side in ("member", "nonmember")]
    assert [len(side) for side in sides] == [120, 120]
    assert naive_auc(*sides) == pytest.approx(row.value)


def test_records_without_a_score_are_left_out_counted_and_explained(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), members=30, test=10, epochs=1, unscorable=3)
    results = Results.read(tmp_path)
    assert pick(results, "auc", method="full").n == 57
    assert any("could not score 3 of 60 records" in line and "no target token" in line for line in results.warnings)
    absent = results.scores()[results.scores().reason != ""]
    assert len(absent) and absent.score.isna().all()


def test_copies_widen_intervals_through_the_bootstrap_over_groups(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=100, test=20, epochs=1, copies=True)
    row = pick(Results.read(tmp_path), "auc", method="lora")
    assert row.interval == "group-bootstrap"


def test_scores_of_other_studies_in_the_same_store_are_left_out(folder: Path, tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("full",), attacks=("loss", "zlib"), members=20, test=10, epochs=1)
    manifest.model_copy(update={"attacks": [{"name": "loss"}]}).write(tmp_path)
    results = Results.read(tmp_path)
    assert {row.name for row in results.rows if row.kind == "membership"} == {"loss"}
    assert set(results.scores().attack) == {"loss"}


def test_settings_of_method_and_attack_keep_rows_apart(tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("lora",), attacks=("loss",), members=20, test=10, epochs=1,
                     settings={"lora": '{"r":16}'})  # fmt: skip
    run = RunFolder(tmp_path / "runs" / manifest.cells[1].run_id)
    table = run.read_table("scores.parquet")
    assert table is not None
    values = table.to_pydict()
    more = values | {"attack": ["min-k"] * len(table), "settings": ['{"k":0.5}'] * len(table)}
    run.write_table("scores.parquet", pa.concat_tables([table, pa.table(more, schema=table.schema)]))
    manifest.model_copy(update={"attacks": [{"name": "loss"}, {"name": "min-k", "k": 0.5}]}).write(tmp_path)
    row = pick(Results.read(tmp_path), "auc", method="lora", name="min-k")
    assert json.loads(row.settings) == {"r": 16, "min-k": {"k": 0.5}}
    assert row.value is not None and row.null_value is None  # the base run was never scored with it
