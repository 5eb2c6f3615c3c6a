"""Two folders side by side: differences against what plain formulas give, and nothing claimed beyond intervals."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from byrote.report.compare import Asked, Compared, Comparison, compare
from byrote.report.results import Results
from byrote.report.selection import Key
from byrote.statistics.comparison import holm, p_value
from byrote.statistics.delong import auc_lift
from byrote.statistics.interval import pool_over_seeds
from byrote.store import Manifest, RunFolder
from byrote.types import Estimate
from report_folder import build, build_private, pick, stored
from small_study import caller
from test_axes_report import SMALL, make_overview

OPTIONS: dict[str, Any] = {"methods": ("full", "lora"), "attacks": ("loss", "reference"), "members": 100, "test": 60}
"""Two epochs of the one and four of the other: more of the members is known in the second."""


def new_runs(folder: Path, old: str, new: str) -> None:
    """Other run ids, as another study has them."""
    manifest = Manifest.read(folder)
    for cell in manifest.cells:
        if cell.method != "none":
            renamed = new + cell.run_id.removeprefix(old)
            (folder / "runs" / cell.run_id).rename(folder / "runs" / renamed)
            cell.run_id = renamed
    manifest.write(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    build(first, epochs=1, **OPTIONS)
    build(second, epochs=4, **{**OPTIONS, "methods": ("full", "lora", "prompt-tuning")})
    new_runs(second, "00", "99")
    return first, second


def row(compared: Compared, configuration: str, label: str) -> Comparison:
    (found,) = [one for one in compared.rows if (one.configuration, one.identity.label) == (configuration, label)]
    return found


def test_on_the_same_records_differences_are_paired(pair: tuple[Path, Path]) -> None:
    first, second = pair
    compared = compare(first, second)
    for number, method in enumerate(OPTIONS["methods"]):
        found = row(compared, method, "loss auc")
        runs = [next(c for c in Manifest.read(side).cells if c.method == method).run_id for side in pair]
        scores = [stored(side, run, "loss", epoch, 0) for side, run, epoch in zip(pair, runs, (1, 4), strict=True)]
        wanted = auc_lift(*scores[1], *scores[0])
        assert found.records == "paired" and found.seeds == (0,)
        assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx(
            (wanted.value, wanted.low, wanted.high)
        ), number
        assert found.first.value == pick(Results.read(first), "auc", name="loss", method=method, epoch=1).value


def test_a_perplexity_is_compared_by_its_ratio(pair: tuple[Path, Path]) -> None:
    first, second = pair
    found = row(compare(first, second), "full", "perplexity")
    before, after = (
        pick(Results.read(side), "perplexity", method="full", epoch=epoch).value
        for side, epoch in ((first, 1), (second, 4))
    )
    assert found.is_ratio and before and after and found.difference.value == pytest.approx(after / before)
    assert found.difference.null_value == 1.0 and found.records == "paired"
    low, high = found.difference.low, found.difference.high
    assert low is not None and high is not None and low < after / before < high
    independent = (found.first.high or 0) / (found.first.low or 1)
    assert math.log(high / low) < math.log(independent), "pairing takes away what the records have in common"


def test_other_texts_under_the_same_ids_are_not_paired(pair: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = pair
    build(tmp_path, epochs=4, **OPTIONS)
    new_runs(tmp_path, "00", "98")
    table = pyarrow.parquet.read_table(tmp_path / "splits.parquet")
    at = table.column_names.index("text_key")
    other = pyarrow.array([f"other {key}" for key in table["text_key"].to_pylist()])
    pyarrow.parquet.write_table(table.set_column(at, "text_key", other), tmp_path / "splits.parquet")
    found = row(compare(first, tmp_path), "full", "loss auc")
    assert found.records == "independent" and found.difference.interval == "mover"
    a, b = found.second, found.first
    assert None not in (a.value, a.low, a.high, b.value, b.low, b.high)
    low = (a.value - b.value) - math.hypot(a.value - a.low, b.high - b.value)  # type: ignore[operator]
    assert found.difference.low == pytest.approx(low)


def test_every_p_value_is_adjusted_for_all_that_were_compared(pair: tuple[Path, Path]) -> None:
    compared = compare(*pair)
    tested = compared.tested
    assert len(tested) == len(compared.rows) == 6
    for one in tested:
        if not one.is_ratio:
            assert one.p == pytest.approx(p_value(one.difference))
    assert [one.holm_p for one in tested] == holm([one.p or 0.0 for one in tested])
    for one in tested:
        apart = (one.holm_p or 0.0) <= 0.05
        assert apart == (one.verdict in ("higher", "lower"))
        if apart:
            null = one.difference.null_value or 0.0
            assert one.verdict == ("higher" if (one.difference.value or 0.0) > null else "lower")
    assert row(compared, "full", "loss auc").verdict == "higher"
    alone = compare(*pair, Asked([Key.read("membership.loss")]))
    assert {one.identity.label for one in alone.rows} == {"loss auc"} and len(alone.tested) == 2
    once, all_ = row(alone, "lora", "loss auc"), row(compared, "lora", "loss auc")
    assert once.p == all_.p and (once.holm_p or 0) <= (all_.holm_p or 0)


def test_a_run_that_both_show_is_not_compared(pair: tuple[Path, Path], tmp_path: Path) -> None:
    build(tmp_path, epochs=1, **OPTIONS)
    compared = compare(pair[0], tmp_path)
    assert {one.records for one in compared.rows} == {"same run"} and not compared.tested
    assert all(one.verdict == "" and one.difference.value == float(one.is_ratio) for one in compared.rows)


def test_several_seeds_are_pooled(tmp_path: Path) -> None:
    options = {**OPTIONS, "members": 60, "methods": ("full",), "seeds": (0, 1, 2)}
    build(tmp_path / "a", epochs=1, **options)
    build(tmp_path / "b", epochs=3, **{**options, "seeds": (0, 1, 2, 3)})
    new_runs(tmp_path / "b", "0", "9")
    compared = compare(tmp_path / "a", tmp_path / "b")
    found = row(compared, "full", "loss auc")
    alone = []
    for seed in (0, 1, 2):
        runs = [
            next(c for c in Manifest.read(tmp_path / side).cells if c.method == "full" and c.seed == seed).run_id
            for side in "ab"
        ]
        scores = [stored(tmp_path / side, run, "loss", epoch, seed)
                  for side, run, epoch in zip("ab", runs, (1, 3), strict=True)]  # fmt: skip
        alone.append(auc_lift(*scores[1], *scores[0]))
    wanted = pool_over_seeds(alone)
    assert found.seeds == (0, 1, 2) and found.difference.n == 3
    assert (found.difference.value, found.difference.low) == pytest.approx((wanted.value, wanted.low))
    assert any(line.startswith("model full, seed 3") for line in compared.only_second)


def test_what_is_counted_is_the_mean_over_the_seeds_too(tmp_path: Path) -> None:
    options = {**OPTIONS, "members": 40, "methods": ("full",), "seeds": (0, 1), "epochs": 1}
    build(tmp_path / "a", **options)
    build(tmp_path / "b", **options)
    new_runs(tmp_path / "b", "0", "9")
    for cell in Manifest.read(tmp_path / "b").cells:
        if cell.method == "full":
            run = RunFolder(tmp_path / "b" / "runs" / cell.run_id)
            cost = json.loads((run.path / "cost.json").read_text())
            run.write_json("cost.json", cost | {"train_seconds": cost["train_seconds"] + 1 + 100 * cell.seed})
    (found,) = compare(tmp_path / "a", tmp_path / "b", Asked([Key.read("cost.training.seconds")])).rows
    assert found.records == "counted" and found.difference.value == pytest.approx(51)
    assert (found.difference.low, found.difference.high, found.verdict) == (None, None, "")


def test_levels_that_differ_in_delta_alone_are_compared_by_it(tmp_path: Path) -> None:
    for side in "ab":
        manifest = build_private(tmp_path / side, levels=("4", "8"))
        for cell, delta in zip([c for c in manifest.cells if c.method != "none"], (1e-5, 1e-6), strict=True):
            cell.privacy, cell.delta = "8", delta
        manifest.write(tmp_path / side)
    compared = compare(tmp_path / "a", tmp_path / "b", Asked([Key.read("membership.loss")]))
    assert [one.records for one in compared.rows] == ["same run"] * 2, "each with itself, and not with the other delta"


def test_what_only_one_has_and_which_settings_differ(pair: tuple[Path, Path]) -> None:
    compared = compare(*pair)
    assert compared.only_first == () and compared.only_second == ("model prompt-tuning",)
    differ = {one.path: (one.first, one.second) for one in compared.settings}
    assert differ["epochs"] == ("1", "4") and "batch_size" not in differ and "name" not in differ


def test_another_model_is_compared_only_when_asked(pair: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = build(tmp_path, epochs=4, **OPTIONS)
    manifest.model_copy(update={"model": "other"}).write(tmp_path)
    new_runs(tmp_path, "00", "97")
    compared = compare(pair[0], tmp_path)
    assert not compared.rows and compared.only_second[0].startswith("model other (--across model")
    assert len(compare(pair[0], tmp_path, Asked(across=["model"])).rows) == 6


def test_points_are_compared_with_their_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [{"values": {"epochs": 1}, "options": {"epochs": 1}}, {"values": {"epochs": 2}, "options": {"epochs": 2}}]
    make_overview(tmp_path / "a", values, {"epochs": [1, 2]}, **SMALL)
    make_overview(tmp_path / "b", values[1:], {"epochs": [2]}, **SMALL)
    compared = compare(tmp_path / "a", tmp_path / "b")
    assert {one.point for one in compared.rows} == {"epochs 2"} and compared.only_first == ("point epochs 1",)
    code, _, err = caller(capsys)("compare", tmp_path / "a", tmp_path / "b" / "points" / "p 0")
    assert code == 2 and "varies something and the other folder does not: give one of its points" in err


def test_what_is_printed(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    byrote, compared = caller(capsys), compare(*pair)
    code, out, err = byrote("compare", *pair)
    assert (code, err) == (0, "")
    found = row(compared, "full", "loss auc")
    for number in (found.first.value, found.second.value, found.difference.value):
        assert f"{number:.3f}" in out
    apart = sum(one.verdict in ("higher", "lower") for one in compared.tested)
    assert "6 numbers stand in both; 6 differences were tested." in out
    assert f"{apart} differ at 0.05 after Holm's correction for all 6" in out
    assert "With one seed these are differences between the models trained here" in out
    assert ["epochs", "1", "4"] in [line.split() for line in out.splitlines()]
    assert "Only in the second:\n  model prompt-tuning" in out
    rows = list(csv.DictReader(io.StringIO(byrote("compare", *pair, "--format", "csv")[1])))
    assert len(rows) == 6 and float(rows[0]["difference"]) == compared.rows[0].difference.value
    asjson = json.loads(byrote("compare", *pair, "--format", "json")[1])
    assert asjson["tested"] == 6 and asjson["rows"][0]["holm_p"] == compared.rows[0].holm_p
    byrote("compare", *pair, "--format", "md", "--out", tmp_path / "c.md")
    assert "| full, seed 0 | loss auc | " in (tmp_path / "c.md").read_text()


def test_a_number_that_one_side_lacks_is_not_compared(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from byrote.report import estimates

    real = estimates.auc_estimate
    monkeypatch.setattr(
        estimates, "auc_estimate",
        lambda *given, **more: Estimate.absent("no scores") if len(given[0]) == 100 else real(*given, **more),
    )  # fmt: skip
    found = row(compare(*pair), "full", "loss auc")
    assert found.records == "missing" and found.p is None and found.difference.reason == "no scores"
