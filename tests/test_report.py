"""The rows, the tables and the words of a report, against plain recomputations from the stored scores."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from byrote.audit.roc import tpr_at_fpr
from byrote.report import checks
from byrote.report.answer import Summary, answer
from byrote.report.console import summary_table, summary_text
from byrote.report.curves import density, pooled_roc, spread_of_scores
from byrote.report.findings import Finding, Index, verdict_of
from byrote.report.markdown import report_markdown
from byrote.report.results import SCORE_COLUMNS, Results
from byrote.report.rows import COLUMNS, Row
from byrote.store import RunFolder
from byrote.types import ByroteError
from report_folder import BASE, build

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
    """Two seeds, five epochs, a method that failed, and one whose scores were damaged afterwards in seed 1."""
    path = tmp_path_factory.mktemp("study")
    manifest = build(
        path, seeds=(0, 1), epochs=5, members=120, test=60, failed=("p-tuning",), settings={"lora": '{"r":16}'},
        attacks=("loss", "reference", "min-k"),
    )  # fmt: skip
    damaged = next(cell.run_id for cell in manifest.cells if cell.method == "head" and cell.seed == 1)
    whole = path / "runs" / damaged / "scores.parquet"
    whole.write_bytes(whole.read_bytes()[:-200])
    return path


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder)


def pick(results: Results, metric: str, **wanted: object) -> Row:
    """The one row with this metric and these values."""
    found = [
        row for row in results.rows if row.metric == metric and all(getattr(row, k) == v for k, v in wanted.items())
    ]
    assert len(found) == 1, f"{len(found)} rows of {metric} {wanted}"
    return found[0]


def stored(folder: Path, run_id: str, attack: str, epoch: int, seed: int) -> tuple[list[float], list[float]]:
    """Scores of members and nonmembers, read with nothing of the report."""
    split = pyarrow.parquet.read_table(folder / "splits.parquet").to_pylist()
    side = {row["record_id"]: row["split"] for row in split if row["seed"] == seed}
    table = pyarrow.parquet.read_table(folder / "runs" / run_id / "scores.parquet").to_pylist()
    rows = [row for row in table if row["attack"] == attack and row["epoch"] == epoch]
    sides = {part: [row["score"] for row in rows if side.get(row["record_id"]) == part] for part in
             ("member", "nonmember")}  # fmt: skip
    return sides["member"], sides["nonmember"]


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
        return math.exp(sum(r["value"] * r["weight"] for r in rows) / sum(r["weight"] for r in rows))

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


@pytest.mark.parametrize(
    ("attacks", "chosen"), [(("loss", "zlib", "reference"), "reference"), (("zlib", "min-k++", "loss"), "zlib")]
)
def test_the_headline_attack_is_chosen_before_results_and_is_not_the_strongest(
    tmp_path: Path, attacks: tuple[str, ...], chosen: str
) -> None:
    build(tmp_path, methods=("prompt-tuning",), attacks=attacks, members=60, test=10, epochs=1, shift=0.8)
    summary = Summary(Results.read(tmp_path))
    assert summary.headline is not None and summary.headline.name == chosen
    aucs = {attack.name: row.value or 0.0 for attack, row in summary.tuned[0].auc.items()}
    assert max(aucs, key=lambda name: aucs[name]) != chosen


def test_a_baseline_of_the_split_is_warned_of_and_not_taken_for_leakage(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "prompt-tuning"), attacks=("loss",), members=150, test=20, epochs=3, shift=0.5)
    results = Results.read(tmp_path)
    row = pick(results, "auc", method="prompt-tuning", epoch=3)
    assert row.low is not None and row.low > 0.5, "the planted baseline must look like leakage"
    assert any("has a baseline of its own" in line and "loss 0." in line for line in results.warnings)
    summary = Summary(results)
    assert {one.configuration.method: summary.verdict(one) for one in summary.tuned} == {
        "full": "leaks", "prompt-tuning": "nothing shown",
    }  # fmt: skip


def test_warnings_of_size_and_seeds(tmp_path: Path, results: Results) -> None:
    assert any("Pooled over 2 seeds: fewer than five" in line for line in results.warnings)
    assert any("TPR at 1% FPR cannot be resolved" in line and "has 120" in line for line in results.warnings)
    assert not any("One seed" in line or "Only" in line for line in results.warnings)
    build(tmp_path, methods=("full",), attacks=("loss",), members=40, nonmembers=1000, test=10, epochs=1)
    small = Results.read(tmp_path).warnings
    assert any("Only 40 members" in line for line in small) and any("One seed" in line for line in small)
    assert not any("TPR at 1%" in line for line in small)
    assert any("near-duplicate 41" in line for line in small)


def test_the_stated_null_is_checked_by_permuted_labels(
    results: Results, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("permuted labels" in line for line in results.warnings)
    real = checks.permutation_null

    def broken(*args: object, **settings: object) -> object:
        return real(*args, **settings)._replace(low=0.55, high=0.65)  # type: ignore[arg-type]

    monkeypatch.setattr(checks, "permutation_null", broken)
    assert any("With permuted labels reference on" in line for line in Results.read(folder).warnings)


def test_copies_on_both_sides_are_named(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("reference",), members=20, test=10, epochs=1)
    path = tmp_path / "splits.parquet"
    columns = pyarrow.parquet.read_table(path).to_pydict()
    columns["group"] = ["same"] * len(columns["group"])
    pyarrow.parquet.write_table(pa.table(columns), path)
    assert any("on both sides of the split" in line for line in Results.read(tmp_path).warnings)


def test_the_answer_says_what_leaks_what_shows_nothing_and_how_far_that_reaches(tmp_path: Path) -> None:
    build(tmp_path, members=200, epochs=4, test=40, attacks=("loss", "reference"))
    results = Results.read(tmp_path)
    first, second, third, last = answer(Summary(results))
    full = pick(results, "auc", method="full", name="reference", epoch=4)
    assert first.startswith("After 4 epochs, the reference attack can tell training records")
    assert f"**full** (AUC {full.value:.3f} [{full.low:.3f}, {full.high:.3f}])" in first
    assert "**head**" in first and "**lora**" in first and "null of 0.500" in first
    assert "**prompt-tuning**" in second and "200 members and 200 nonmembers show nothing" in second
    highs = [pick(results, "auc", method=m, name="reference", epoch=4).high for m in ("p-tuning", "prompt-tuning")]
    assert f"{max(high for high in highs if high is not None):.3f} are not ruled out" in second
    assert "perplexity" in third and "untuned model" in third and "nothing shown is not nothing there" in last


@pytest.mark.parametrize(
    ("pooled", "alone", "expected"),
    [
        ((0.6, 0.8), [(0.6, 0.7), (0.65, 0.8)], "leaks"),
        ((0.3, 1.0), [(0.6, 0.7), (0.65, 0.8)], "not resolved"),  # too few seeds for what each of them shows
        ((0.51, 0.53), [(0.45, 0.58), (0.46, 0.59)], "not resolved"),  # narrow by luck: no seed shows it
        ((0.51, 0.53), [(0.45, 0.58)] * 5, "leaks"),  # five seeds may be believed
        ((0.4, 0.6), [(0.45, 0.58), (0.55, 0.6)], "nothing shown"),
        ((0.3, 0.4), [(0.3, 0.4), (0.35, 0.45)], "below null"),
    ],
)
def test_a_verdict_over_few_seeds_agrees_with_the_seeds(
    results: Results, pooled: tuple[float, float], alone: list[tuple[float, float]], expected: str
) -> None:
    blank = pick(results, "auc", method="lora", name="reference", epoch=5, seed=0)
    limits = dict(enumerate(alone)) | {None: pooled}
    rows = [replace(blank, seed=seed, low=low, high=high) for seed, (low, high) in limits.items()]
    attack = next(one for one in results.evidence.attacks if one.name == "reference")
    lora = next(one for one in Summary(results).configurations if one.method == "lora")
    cells = tuple(lora.cells[0].model_copy(update={"seed": seed}) for seed in range(len(alone)))
    index = Index(results.evidence, rows)
    assert verdict_of(index, replace(lora, cells=cells), 5, attack) == expected


def finding(results: Results, method: str) -> tuple[Summary, Finding]:
    summary = Summary(results)
    return summary, next(one for one in summary.findings if one.configuration.method == method)


def test_the_roc_picture_starts_where_ten_nonmembers_pass_and_agrees_with_tpr_at_fpr(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=150, test=10, epochs=2)
    summary, lora = finding(Results.read(tmp_path), "lora")
    curve = pooled_roc(summary, lora, summary.results.evidence.attacks[0])
    assert curve is not None and curve.fpr[0] == pytest.approx(10 / 150, rel=1e-3) and curve.fpr[-1] == 1.0
    members, nonmembers = stored(tmp_path, lora.configuration.done[0].run_id, "loss", 2, 0)
    for fpr, tpr in list(zip(curve.fpr, curve.tpr, strict=True))[1:-1:10]:
        assert tpr == pytest.approx(tpr_at_fpr(members, nonmembers, fpr).value, abs=2e-3)


def test_smoothed_scores_are_densities(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=300, test=10, epochs=1)
    summary, lora = finding(Results.read(tmp_path), "lora")
    spread = spread_of_scores(summary, lora, summary.results.evidence.attacks[0])
    assert spread is not None
    shapes = density(spread, float(spread.members.min()) - 1, float(spread.members.max()) + 1)
    for heights in (shapes.members, shapes.nonmembers):
        assert np.trapezoid(heights, shapes.at) == pytest.approx(1.0, abs=5e-3)
    top = shapes.at[int(np.argmax(shapes.members))]
    assert top == pytest.approx(float(np.median(spread.members)), abs=0.2)


@pytest.mark.parametrize("change", ["all failed", "no attacks", "no utility", "tiny"])
def test_a_report_is_made_from_whatever_there_is(tmp_path: Path, change: str) -> None:
    methods = ("full", "lora")
    failed = methods if change == "all failed" else ()
    members = 4 if change == "tiny" else 30
    manifest = build(tmp_path, methods=methods, members=members, test=8, epochs=1, failed=failed)
    cleared = {"no attacks": {"attacks": []}, "no utility": {"utility": []}}.get(change, {})
    manifest.model_copy(update=cleared).write(tmp_path)
    results = Results.read(tmp_path)
    results.write(tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"results.csv", "results.json", "scores.parquet", "report.md", "report.html"}
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert summary_text(results)
    if change == "all failed":
        assert "no answer" in report_markdown(results) and "out of memory" in report_markdown(results)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "study.json").unlink(), "study.json is missing"),
        (lambda path: (path / "splits.parquet").unlink(), "has no splits.parquet"),
        (lambda path: (path / "splits.parquet").write_bytes(b"PAR1"), "is damaged"),
    ],
)
def test_a_folder_that_cannot_be_reported_says_why(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), members=10, test=5, epochs=1)
    spoil(tmp_path)
    with pytest.raises(ByroteError, match=message):
        Results.read(tmp_path)


def test_the_terminal_table_shows_null_and_verdict_and_reads_no_markup(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "prompt-tuning"), attacks=("reference",), members=150, test=20, epochs=4,
          name="[red]not red[/red]")  # fmt: skip
    from rich.console import Console

    results = Results.read(tmp_path)
    console = Console(width=140, file=io.StringIO(), force_terminal=False)
    console.print(summary_table(results))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]not red[/red]" in shown
    lines = summary_text(results).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["untuned", "full", "prompt-tuning"]
    assert lines[2].endswith("leaks") and lines[3].endswith("nothing shown")
    assert "0.500" in lines[2] and "1.38 M" in lines[2] and "[" in lines[2]


def test_markdown_tables_survive_hostile_names(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=20, test=10, epochs=1,
          name="a | b <script>x</script>", settings={"lora": '{"target_modules":"q|v<img src=x>"}'})  # fmt: skip
    text = report_markdown(Results.read(tmp_path))
    assert "<script" not in text and "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    widths = [len(line.replace("\\|", "").split("|")) for line in rows]
    assert len(set(widths[:4])) == 1 and "q\\|v" in rows[3]


def test_reading_a_report_loads_no_model_library() -> None:
    code = (
        "import sys, byrote.report.html, byrote.report.console, byrote.report.markdown; "
        "print([name for name in ('torch', 'transformers', 'plotly', 'pandas', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
