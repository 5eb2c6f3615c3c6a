"""Curves that come by themselves: over what differs among the methods, levels and tiers of one study."""

from __future__ import annotations

import json
from pathlib import Path

from byrote.report.html import report_html
from byrote.report.inner_curves import APART, curves_of
from byrote.report.results import Results
from byrote.store import MANIFEST
from report_folder import build, pick


def test_a_study_without_such_a_thing_has_no_curves(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "lora"), attacks=("loss",), members=40, test=20)
    results = Results.read(tmp_path)
    assert curves_of(results).pictures == [] and 'id="curves"' not in report_html(results)


def test_privacy_levels_stand_in_order_of_epsilon_and_none_last(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "lora"), attacks=("loss",), members=60, test=20, levels=("none", "8", "1"))
    results = Results.read(tmp_path)
    (picture,) = curves_of(results).pictures
    figure = picture.figures[0]
    assert picture.title == "By privacy" and picture.measures[0] == "AUC of loss" and figure is not None
    assert figure["layout"]["xaxis"]["ticktext"] == ["ε 1", "ε 8", "none"]
    lines = {trace["name"]: trace["y"] for trace in figure["data"]}
    for method in ("full", "lora"):
        rows = [pick(results, "auc", method=method, privacy=level, epoch=4, seed=0) for level in ("1", "8", "none")]
        assert lines[method] == [row.value for row in rows]
    page = report_html(results)
    assert 'id="curves"' in page and f'data-key="{APART + 1}"' in page


def test_a_field_that_differs_alone_is_a_line_and_one_that_never_does_is_not(tmp_path: Path) -> None:
    # What is called lora of other settings here was head tuning, and prefix tuning.
    build(tmp_path, methods=("head", "lora", "prefix-tuning"), attacks=("loss",), members=60, test=20)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    for cell in manifest["cells"]:
        if cell["method"] == "head":
            cell |= {"method": "lora", "settings": '{"r":128}'}
        if cell["method"] == "prefix-tuning":
            cell |= {"method": "lora", "family": "parameter", "settings": '{"lora_alpha":99,"placement":"mlp"}'}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    results = Results.read(tmp_path)
    (picture,) = curves_of(results).pictures
    assert picture.title == "By r", "placement and alpha differ together only"
    figure = picture.figures[0]
    assert figure is not None
    line = next(trace for trace in figure["data"] if len(trace["x"]) == 2)
    rows = [pick(results, "auc", settings=of, epoch=4, seed=0) for of in ("", '{"r":128}')]
    assert line["y"] == [row.value for row in rows] and figure["layout"]["xaxis"]["type"] == "log"


def test_tiers_of_copies_are_a_curve(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    build(tmp_path, methods=("full", "lora"), attacks=("loss",), members=60, test=20)
    table = parquet.read_table(tmp_path / "splits.parquet").to_pylist()
    members = [row for row in table if row["split"] == "member"]
    for at, row in enumerate(members):
        row["slice"], row["copies"] = f"copies={(1, 4, 16)[at % 3]}", (1, 4, 16)[at % 3]
    import pyarrow as pa

    parquet.write_table(pa.Table.from_pylist(table), tmp_path / "splits.parquet")
    results = Results.read(tmp_path)
    (picture,) = curves_of(results).pictures
    figure = picture.figures[0]
    assert picture.title == "By copies" and figure is not None
    line = next(trace for trace in figure["data"] if trace["name"] == "full")
    rows = [pick(results, "auc", method="full", slice=f"copies={n}", epoch=4, seed=0) for n in (1, 4, 16)]
    assert line["y"] == [row.value for row in rows] and len(set(line["y"])) == 3


def test_ranks_whose_alpha_rises_with_them_are_a_line_at_their_ratio(tmp_path: Path) -> None:
    build(tmp_path, methods=("head", "lora"), attacks=("loss",), members=60, test=20)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    for cell in manifest["cells"]:
        if cell["method"] == "head":
            cell |= {"method": "lora", "settings": '{"lora_alpha":256,"r":128}'}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    results = Results.read(tmp_path)
    (picture,) = curves_of(results).pictures
    figure = picture.figures[0]
    assert picture.title == "By r" and figure is not None
    line = next(trace for trace in figure["data"] if len(trace["x"]) == 2)
    rows = [pick(results, "auc", settings=of, epoch=4, seed=0) for of in ("", '{"lora_alpha":256,"r":128}')]
    assert line["name"] == "lora, lora_alpha/r 2" and line["y"] == [row.value for row in rows]


def test_levels_without_a_run_that_is_not_private_have_no_place_for_one(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=60, test=20, levels=("8", "1"))
    (picture,) = curves_of(Results.read(tmp_path)).pictures
    assert picture.figures[0] is not None
    assert picture.figures[0]["layout"]["xaxis"]["ticktext"] == ["ε 1", "ε 8"]
