"""Everything that stands in the tables of real results is documented, and nothing else is."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from byrote.report import claims_section
from byrote.report.axes import PointRow
from byrote.report.results import SCORE_COLUMNS
from byrote.report.rows import COLUMNS, COSTS
from byrote.runner.study import run
from byrote.statistics.epsilon import ESTIMATORS
from small_study import labelled_study, leave_out_what_is_slow, make_folder, study_of

ROOT = Path(__file__).parents[1]
SCHEMA = (ROOT / "docs/results-schema.md").read_text(encoding="utf-8")
IDENTITY = (
    "study",
    "model",
    "data",
    "method",
    "settings",
    "privacy",
    "delta",
    "seed",
    "epoch",
    "kind",
    "name",
    "metric",
    "slice",
)
Cells = Mapping[str, str]


def _kept() -> list[Path]:
    """The tables of results in the documentation; those of claims have columns of their own."""
    found = sorted((ROOT / "docs/results").glob("*.csv"))
    return [path for path in found if not path.stem.endswith("-claims")]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metric_table", ROOT / "tools/metric_table.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(path: Path) -> list[Cells]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def documented(heading: str) -> list[str]:
    """What the first column of the table under a heading names."""
    section = SCHEMA.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][1:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[list[Cells]]:
    """The kept results of the shipped studies, and what this very code makes of two small ones."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_what_is_slow(patch)
        folder = make_folder(tmp_path_factory.mktemp("schema"))
        texts = study_of(
            folder,
            methods=["full", "lora"],
            privacy=["none", {"noise_multiplier": 1.0, "expected_batch_size": 8}],
            attacks=["loss", "reference", "dataset-inference", "extraction-strength", "field-recall"],
            plants=[
                {"name": "duplicates", "copies": [1, 2], "members": 3},
                {
                    "name": "canaries",
                    "families": ["random-token"],
                    "copies": [1, 2],
                    "canaries": 2,
                    "controls": 6,
                    "tokens": 6,
                },
                {"name": "coin-flips", "family": "random-token", "canaries": 20, "tokens": 6},
            ],
            epochs=1,
            seeds=[0, 1],
        )
        labels = labelled_study(
            folder, methods=["full"], plants=[{"name": "mislabel", "members": 4}], epochs=1, seeds=[0, 1]
        )
        made = [
            list(csv.DictReader(run(study, folder / name).csv().splitlines()))
            for name, study in (("a", texts), ("b", labels))
        ]
    return [*made, *(rows_of(path) for path in _kept())]


def test_the_columns_are_those_of_the_tables() -> None:
    assert documented("Columns of `results.csv` and `results.json`") == [field.name for field in fields(PointRow)]
    assert documented("Columns of `scores.parquet`") == [*SCORE_COLUMNS, "point"]
    assert documented("Columns of `claims.csv`") == [*claims_section.COLUMNS]


def test_every_kind_name_metric_interval_and_slice_is_documented(tables: list[list[Cells]], tool: ModuleType) -> None:
    kinds, intervals = documented("Kinds"), documented("Intervals")
    slices = [re.sub("[A-Z]+", ".+", re.escape(one)) for one in documented("Slices")]
    assert len(tables) >= 9
    for row in (row for table in tables for row in table):
        assert set(COLUMNS) <= set(row) <= {*COLUMNS, "point"}
        what = {column: row[column] for column in ("kind", "name", "metric", "slice", "interval", "low", "reason")}
        assert row["kind"] in kinds and tool.known(row["kind"], row["metric"]), what
        assert (row["interval"] in intervals) if row["interval"] else not row["low"] and not row["high"], what
        plain = row["slice"].removesuffix(" nonmembers")
        assert not plain or any(re.fullmatch(one, plain) for one in slices), what


def test_no_metric_of_no_row_would_pass(tool: ModuleType) -> None:
    for kind, metric in [
        ("membership", "auk"),
        ("membership", "tpr@fpr=F"),
        ("privacy", "share"),
        ("utility", "perplexity-vs-x"),
    ]:
        assert not tool.known(kind, metric)


def test_what_is_documented_occurs(tables: list[list[Cells]]) -> None:
    """But what no study here makes: few records in groups, and measures of generated text."""
    rows = [row for table in tables for row in table]
    absent = {"group-linearised", "group-jackknife", "jackknife"}
    assert set(documented("Intervals")) - {row["interval"] for row in rows} <= absent
    assert set(documented("Kinds")) == {row["kind"] for row in rows}
    assert {row["name"] for row in rows if row["kind"] == "cost"} <= {name for name, _ in COSTS.values()}
    section = SCHEMA.split("\n## Kinds\n")[1].split("\n## ")[0]
    for name in (
        *(name for name, _ in COSTS.values()),
        *ESTIMATORS,
        *(r["name"] for r in rows if r["kind"] == "privacy"),
    ):
        assert f"`{name}`" in section


def test_a_row_is_identified_by_what_the_page_says(tables: list[list[Cells]]) -> None:
    assert all(f"`{column}`" in SCHEMA.split("**What identifies a row**")[1].split("\n\n")[0] for column in IDENTITY)
    for table in tables:
        keys = [(*(row[column] for column in IDENTITY), row.get("point", "")) for row in table]
        assert len(set(keys)) == len(keys)


def test_a_value_or_a_reason_and_numbers_in_their_order(tables: list[list[Cells]]) -> None:
    for row in (row for table in tables for row in table):
        assert bool(row["value"]) != bool(row["reason"]), row
        assert bool(row["low"]) == bool(row["high"]), row
        if row["low"]:
            assert (
                float(row["low"]) <= float(row["value"]) + 1e-9 and float(row["value"]) <= float(row["high"]) + 1e-9
            ), row
        assert not row["settings"] or isinstance(json.loads(row["settings"]), dict)


def test_the_page_of_metrics_is_fresh(tool: ModuleType) -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert page == tool.page(), "run tools/metric_table.py"
    for metrics in tool.METRICS.values():
        assert all(f"| `{metric.name}` |" in page for metric in metrics)
