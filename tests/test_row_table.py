"""The rows of the page: what is held is what results.csv says, and there are never more than it can hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from byrote.report import row_table as rows_module
from byrote.report.results import Results
from byrote.report.row_table import Rows, row_table
from byrote.report.rows import Row
from report_folder import build


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("rows")
    build(folder, methods=("full", "lora"), attacks=("loss", "reference"), seeds=(0, 1), epochs=2, members=40, test=10,
          settings={"lora": '{"r":16}'}, levels=("none", "8"))  # fmt: skip
    return Results.read(folder).rows


def cells(held: dict[str, Any], at: int) -> dict[str, Any]:
    """One row as the browser shows it."""
    words, columns = held["words"], held["rows"]
    return {name: words[name][columns[name][at]] if name in words else columns[name][at] for name in held["columns"]}


def test_every_row_is_held_as_it_is(rows: list[Row]) -> None:
    held = json.loads(json.dumps(row_table(rows), allow_nan=False))
    assert all(len(column) == len(rows) for column in held["rows"].values())
    for at, row in enumerate(rows):
        shown = cells(held, at)
        assert (shown["metric"], shown["kind"], shown["run"]) == (row.metric, row.kind, row.run_id)
        assert shown["method"] == {"none": "untuned model", "lora": "lora, r 16"}.get(row.method, row.method)
        assert shown["privacy"] == ("ε 8" if row.privacy == "8" else "")
        assert shown["seed"] == ("all seeds" if row.seed is None else str(row.seed))
        for name, value in (("value", row.value), ("low", row.low), ("null", row.null_value)):
            assert shown[name] == (None if value is None else pytest.approx(value, rel=1e-3))
        assert (shown["n"], shown["reason"]) == (row.n, row.reason)
    assert held["filters"] == ["method", "privacy", "seed", "kind", "measure", "metric"]
    assert "slice" not in held["columns"], "nothing was planted"


def test_a_measure_s_own_settings_are_its_own(rows: list[Row]) -> None:
    row = replace(rows[0], method="lora", settings='{"min-k":{"k":0.1},"privacy.clip_norm":1,"r":16}', name="min-k")
    shown = cells(row_table([row]), 0)
    assert (shown["method"], shown["measure"]) == ("lora, r 16", "min-k, k 0.1")


def test_what_a_page_has_no_room_for_is_left_out_in_order_and_said(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Rows.of(rows)
    assert whole is not None and (whole.size, whole.left_out) == (len(rows), "")
    last = [row for row in rows if row.epoch in (None, 2) or (row.method == "none" and row.epoch == 0)]
    monkeypatch.setattr(rows_module, "MOST", len(rows) - 1)
    fewer = Rows.of(rows)
    assert fewer is not None and fewer.left_out == "epochs before the last" and fewer.size == len(rows)
    assert len(fewer.held["rows"]["value"]) == len(last)
    monkeypatch.setattr(rows_module, "MOST", len(last) - 1)
    pooled = Rows.of(rows)
    assert pooled is not None and pooled.left_out == "epochs before the last, single seeds", "there are no slices"
    each = [cells(pooled.held, at) for at in range(len(pooled.held["rows"]["n"]))]
    assert {shown["kind"] for shown in each if shown["seed"] != "all seeds"} == {"cost", "privacy"}
    alone = [replace(row, seed=0) for row in last if row.seed == 0]
    monkeypatch.setattr(rows_module, "MOST", len(alone) - 1)
    single = Rows.of(alone)
    assert single is not None and single.left_out == "what has no value", "a study of one seed keeps its numbers"
    monkeypatch.setattr(rows_module, "MOST", 3)
    least = Rows.of(rows)
    assert least is not None and len(least.held["rows"]["value"]) == 3 and "all but the first 3" in least.left_out
    assert Rows.of([]) is None


def test_a_page_can_hold_what_it_is_said_to(rows: list[Row]) -> None:
    """The rows of thousands of runs are some megabytes, and no more."""
    many = (rows * (rows_module.MOST // len(rows) + 1))[: rows_module.MOST]
    assert len(json.dumps(row_table(many), separators=(",", ":"))) < 8_000_000


def test_reasons_and_slices_come_along(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), members=30, test=10, epochs=1)
    held = row_table(Results.read(tmp_path).rows)
    reasons = {cells(held, at)["reason"] for at in range(len(held["rows"]["n"]))}
    assert any("nonmembers" in reason for reason in reasons)
