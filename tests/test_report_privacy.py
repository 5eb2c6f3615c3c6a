"""What a report says of private runs: accounts, limits, what privacy changed, and what nothing guarantees."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from byrote.report.answer import answer
from byrote.report.formats import rounded_up
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.privacy import bound_up, privacy_of
from byrote.report.privacy_rows import REPEATABLE, without_privacy
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.write import write_report
from byrote.store import RunFolder
from report_folder import account_of, build, build_private, ledger_of, limits_drawn, pick, rewrite_ledgers, stored

METHODS = ("lora", "prompt-tuning")
LEVELS = ("none", "8", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("private")
    build(path, methods=METHODS, attacks=("reference", "loss"), seeds=(0, 1), epochs=2, members=150, test=40,
          levels=LEVELS)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder)


# --- rows


def test_epsilon_has_a_row_for_every_epoch_of_every_private_run(folder: Path, results: Results) -> None:
    rows = [row for row in results.rows if row.metric == "epsilon"]
    assert {(row.privacy, row.method, row.seed, row.epoch) for row in rows} == {
        (level, method, seed, epoch)
        for level in ("8", "1") for method in METHODS for seed in (0, 1) for epoch in (1, 2)
    } and len(rows) == 16  # fmt: skip
    row = pick(results, "epsilon", method="lora", privacy="8", seed=1, epoch=1)
    raw = json.loads((folder / "runs" / row.run_id / "ledger.json").read_text())
    assert (row.value, row.n) == (raw["epochs"][0][2], raw["epochs"][0][1])
    assert (row.kind, row.name, row.delta) == ("privacy", "epsilon", raw["delta"])
    assert (row.low, row.high, row.interval, row.null_value, row.reason) == (None, None, "", None, "")
    last = pick(results, "epsilon", method="lora", privacy="8", seed=1, epoch=2)
    assert last.value == pytest.approx(8.0) and row.value is not None and row.value < last.value


def test_what_epsilon_came_from_stands_at_the_end_of_training(folder: Path, results: Results) -> None:
    row = pick(results, "noise_multiplier", method="lora", privacy="1", seed=0)
    raw = json.loads((folder / "runs" / row.run_id / "ledger.json").read_text())
    expected = {
        "noise_multiplier": raw["noise_multiplier"], "clip_norm": 0.1, "sampling_rate": 16 / 150, "steps": 20,
        "epsilon_rdp": raw["epsilon_rdp"],
    }  # fmt: skip
    found = {name: pick(results, name, method="lora", privacy="1", seed=0) for name in expected}
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)
    assert {(one.kind, one.epoch, one.interval) for one in found.values()} == {("privacy", 2, "")}


def test_privacy_rows_are_of_private_runs_only_and_are_not_pooled(results: Results) -> None:
    rows = [row for row in results.rows if row.kind == "privacy"]
    assert {row.privacy for row in rows} == {"8", "1"} and None not in {row.seed for row in rows}
    others = [row for row in results.rows if row.privacy == "8" and row.kind != "privacy"]
    assert others and {row.delta for row in others} == {150**-1.1}


# --- against the same method without privacy


def naive_difference(folder: Path, ours: str, theirs: str, seed: int) -> tuple[float, float]:
    """AUC of one run less that of another on the same records, and its standard error by the jackknife over records."""
    (m1, n1), (m2, n2) = (tuple(map(np.array, stored(folder, run, "reference", 2, seed))) for run in (ours, theirs))
    wins = [(m[:, None] > n) + 0.5 * (m[:, None] == n) for m, n in ((m1, n1), (m2, n2))]
    change = wins[0].astype(float) - wins[1]
    by_member, by_nonmember = change.mean(1), change.mean(0)
    error = (by_member.var(ddof=1) / len(m1) + by_nonmember.var(ddof=1) / len(n1)) ** 0.5
    return float(change.mean()), float(error)


@pytest.mark.parametrize("level", ["8", "1"])
def test_the_paired_difference_is_a_plain_count_over_the_same_records(
    folder: Path, results: Results, level: str
) -> None:
    for seed in (0, 1):
        row = pick(results, "auc-vs-none", method="lora", privacy=level, seed=seed, epoch=2, name="reference")
        twin = pick(results, "auc", method="lora", privacy="none", seed=seed, epoch=2, name="reference")
        value, error = naive_difference(folder, row.run_id, twin.run_id, seed)
        assert row.value == pytest.approx(value, abs=1e-12)
        assert row.low is not None and row.high is not None
        assert (row.high - row.low) / 3.92 == pytest.approx(error, rel=0.1)
        assert (row.interval, row.null_value, row.n, row.kind) == ("delong-paired", 0.0, 300, "membership")
    pooled = pick(results, "auc-vs-none", method="lora", privacy=level, seed=None, epoch=2, name="reference")
    alone = [pick(results, "auc-vs-none", method="lora", privacy=level, seed=seed, epoch=2, name="reference").value
             for seed in (0, 1)]  # fmt: skip
    assert pooled.value == pytest.approx(np.mean([value for value in alone if value is not None]))


def test_the_utility_ratio_is_over_the_same_test_records(folder: Path, results: Results) -> None:
    row = pick(results, "perplexity-vs-none", method="lora", privacy="8", seed=0, epoch=2)
    ours, theirs = (
        pick(results, "perplexity", method="lora", privacy=level, seed=0, epoch=2) for level in ("8", "none")
    )
    assert ours.value is not None and theirs.value is not None and row.value is not None
    assert row.value == pytest.approx(ours.value / theirs.value, rel=1e-12)
    assert (row.null_value, row.kind, row.n) == (1.0, "utility", 40)
    assert row.low is not None and row.high is not None and row.low < row.value < row.high
    assert row.high / row.low < (ours.high or 0) / (ours.low or 1), "pairing must narrow the interval"


def test_without_a_run_to_compare_with_there_is_no_difference(tmp_path: Path) -> None:
    build_private(tmp_path, ("8",))
    results = Results.read(tmp_path)
    assert not [row for row in results.rows if row.metric.endswith("-vs-none")]
    section = privacy_of(Summary(results))
    assert section is not None and section.versus == []
    assert "Against the same method" not in report_html(results)
    assert not any(sentence.startswith("With ε") for sentence in answer(Summary(results)))


def test_a_run_of_other_settings_is_no_twin(tmp_path: Path) -> None:
    manifest = build_private(tmp_path, settings={"lora": '{"r":16}'})
    clipped = [
        cell.model_copy(update={"settings": '{"privacy.clip_norm":1.0,"r":16}'}) if cell.privacy == "8" else cell
        for cell in manifest.cells
    ]
    manifest.model_copy(update={"cells": clipped}).write(tmp_path)
    assert pick(Results.read(tmp_path), "auc-vs-none", privacy="8", epoch=2).value is not None
    other = [cell.model_copy(update={"settings": '{"r":8}'}) if cell.privacy == "8" else cell for cell in clipped]
    manifest.model_copy(update={"cells": other}).write(tmp_path)
    assert not [row for row in Results.read(tmp_path).rows if row.metric == "auc-vs-none"]
    assert without_privacy('{"privacy.clip_norm":1.0,"r":16}') == '{"r":16}'
    assert without_privacy('{"privacy.clip_norm":1.0}') == without_privacy("") == ""


def test_the_answer_says_what_each_level_changed(results: Results) -> None:
    row = pick(results, "auc-vs-none", method="lora", privacy="1", seed=None, epoch=2, name="reference")
    (sentence,) = [line for line in answer(Summary(results)) if line.startswith("With ε 1")]
    assert row.value is not None and row.low is not None and row.high is not None and row.high < 0
    assert f"falls for **lora** by {-row.value:.3f} [{-row.high:.3f}, {-row.low:.3f}]" in sentence
    assert "shows no resolved change for **prompt-tuning** (difference " in sentence
    assert "perplexity on test records is " in sentence and sentence.endswith("times as high.")


# --- the section


def test_a_study_without_private_runs_has_no_section(tmp_path: Path) -> None:
    build_private(tmp_path, ("none",))
    results = Results.read(tmp_path)
    assert privacy_of(Summary(results)) is None and results.banners == []
    for page in (report_html(results), report_markdown(results)):
        assert ">Privacy<" not in page and "## Privacy" not in page and "outside the guarantee" not in page
    assert not [row for row in results.rows if row.kind == "privacy" or row.metric.endswith("-vs-none")]


def test_the_section_states_the_whole_account(tmp_path: Path) -> None:
    build_private(tmp_path)
    rewrite_ledgers(tmp_path, refused_engines=("vmap: LoHa's backward cannot be vectorised",), steps=9)
    results = Results.read(tmp_path)
    line = account_of(results, "lora, ε 8")
    assert line["epsilon spent"] == ("8.00", "δ 0.0052", "target 8")
    assert line["protects"] == ("one record", "add or remove one")
    assert line["steps"] == ("9", "of 16 planned", "Poisson, 13% each", "16 of 120 expected")
    assert line["accountant"] == ("PRV", "opacus 1.6.0", "by RDP: 8.64")
    assert line["noise"][1:] == ("clip norm 0.1", "flat clipping") and line["gradients by"] == ("bookkeeping",)
    for page in (report_html(results), report_markdown(results)):
        for words in ("passed over vmap: LoHa", "does not promise that attacks are at chance", "k times epsilon"):
            assert words in page.replace("&#39;", "'")


def test_what_lies_outside_the_guarantee_is_listed(results: Results, tmp_path: Path) -> None:
    section = privacy_of(Summary(results))
    assert section is not None
    text = " ".join(section.outside)
    assert "search for a learning rate used only records outside the private set" in text, "lora tried three rates"
    assert "early stopping" not in text.casefold()
    for words in ("training loss and its curve", "near-duplicates", "choice of the columns", "bad examples", "attacks"):
        assert words in text
    manifest = build_private(tmp_path)
    fixed = [cell.model_copy(update={"tried": []}) for cell in manifest.cells]
    manifest.model_copy(update={"cells": fixed, "study": manifest.study | {"early_stop": 2}}).write(tmp_path)
    section = privacy_of(Summary(Results.read(tmp_path)))
    assert section is not None and section.outside[0].startswith("Early stopping used only records outside")
    assert "learning rate" not in " ".join(section.outside)


def test_a_report_never_promises_chance(results: Results) -> None:
    for page in (report_html(results), report_markdown(results)):
        text = page.replace("does not promise that attacks are at chance", "").replace("attacks at chance do not", "")
        assert "at chance" not in text


def test_numbers_that_bound_are_rounded_up() -> None:
    assert [rounded_up(value) for value in (8.0, 7.9999999, 0.99999999, 1.001, 16.32, 0.01231, 123.4)] == [
        "8.00", "8.00", "1.00", "1.01", "16.4", "0.0124", "124",
    ]  # fmt: skip
    assert [bound_up(value) for value in (0.0251, 0.05, 0.3731, 0.9995, 1.0)] == [
        "2.6%", "5%", "37.4%", "no limit", "no limit",
    ]  # fmt: skip


# --- banners


def test_a_delta_of_one_over_the_records_or_more_is_said(tmp_path: Path) -> None:
    build_private(tmp_path)
    assert Results.read(tmp_path).banners == []
    rewrite_ledgers(tmp_path, delta=1 / 120)
    results = Results.read(tmp_path)
    (banner,) = results.banners
    assert banner.startswith(
        "delta is not smaller than one over the number of records: δ 0.0083 against 1/120 for lora"
    )
    assert banner in results.warnings and f'<p class="banner">{banner}</p>' in report_html(results)
    assert banner in report_markdown(results)
    rewrite_ledgers(tmp_path, delta=0.99 / 120)
    assert Results.read(tmp_path).banners == []


def test_repeatable_noise_is_not_private_and_has_no_epsilon(tmp_path: Path) -> None:
    build_private(tmp_path)
    rewrite_ledgers(tmp_path, private=False)
    results = Results.read(tmp_path)
    (banner,) = results.banners
    assert banner.startswith("The noise was repeatable: NOT private.")
    rows = [row for row in results.rows if row.name == "epsilon" and row.kind == "privacy"]
    assert rows and {(row.value, row.reason) for row in rows} == {(None, REPEATABLE)}
    assert account_of(results, "lora, ε 8")["epsilon spent"][0] == "NOT private"
    assert answer(Summary(results))[0].startswith("No guarantee holds for **lora, ε 8**")
    assert limits_drawn(results) == []


def remove(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.write_text(path.read_text().replace('"epsilon": ', '"epsilon": 0'))


def say_null(path: Path) -> None:
    RunFolder(path.parent).write_json("ledger.json", None)


def forget(path: Path) -> None:
    RunFolder(path.parent).write_json("ledger.json", {"epsilon": 1.0})


@pytest.mark.parametrize(
    ("damage", "why"),
    [(remove, "holds no ledger.json"), (spoil, "is damaged"), (say_null, "was not private"), (forget, "is damaged")],
)
def test_a_private_run_without_a_readable_account_is_said_and_never_taken_for_none(
    tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    manifest = build_private(tmp_path, seeds=(0, 1))
    (cell,) = [cell for cell in manifest.cells if cell.privacy == "8" and cell.seed == 1]
    damage(tmp_path / "runs" / cell.run_id / "ledger.json")
    results = Results.read(tmp_path)
    (banner,) = results.banners
    assert "lora, ε 8, seed 1, guarantees is not known" in banner and why in banner and "as not private" in banner
    (row,) = [row for row in results.rows if row.kind == "privacy" and row.seed == 1 and row.name == "epsilon"]
    assert (row.metric, row.value, row.privacy) == ("epsilon", None, "8") and why in row.reason
    assert account_of(results, "lora, ε 8")["epsilon spent"][-1] == "not known of seed 1"
    assert limits_drawn(results) == [], "no line is drawn for what is not known"
    assert pick(results, "auc", privacy="8", seed=1, epoch=2).value is not None, "its other numbers stand"
    write_report(results, tmp_path / "out")


def test_a_run_without_privacy_needs_no_account(tmp_path: Path) -> None:
    manifest = build_private(tmp_path)
    for cell in manifest.cells:
        if cell.method != "none" and cell.privacy == "none":
            (tmp_path / "runs" / cell.run_id / "ledger.json").unlink()
    results = Results.read(tmp_path)
    assert results.banners == [] and not any("ledger" in line for line in results.warnings)


def test_more_epsilon_than_the_target_is_said(tmp_path: Path) -> None:
    build_private(tmp_path)
    rewrite_ledgers(tmp_path, epsilon=8.4)
    assert any("spent ε 8.4, which is more than its target of 8" in line for line in Results.read(tmp_path).banners)


def test_a_step_without_a_loss_is_no_obstacle(folder: Path, results: Results) -> None:
    """A private step on an empty batch has none."""
    cell = next(cell for cell in results.manifest.cells if cell.privacy == "8")
    losses = json.loads((folder / "runs" / cell.run_id / "training.json").read_text())["losses"]
    assert None in [point["loss"] for point in losses]
    write_report(results, folder / "out")
    assert "NaN" not in (folder / "out" / "results.json").read_text()


def test_ledgers_of_seeds_that_differ_show_the_largest(tmp_path: Path) -> None:
    manifest = build_private(tmp_path, seeds=(0, 1))
    (cell,) = [cell for cell in manifest.cells if cell.privacy == "8" and cell.seed == 0]
    ledger = replace(ledger_of(cell, 120, 2), epsilon=6.5, steps=8)
    RunFolder(tmp_path / "runs" / cell.run_id).write_json("ledger.json", asdict(ledger))
    line = account_of(Results.read(tmp_path), "lora, ε 8")
    assert line["epsilon spent"] == ("8.00", "δ 0.0052", "target 8", "the least of a seed 6.50")
    assert line["steps"][:2] == ("8 to 16", "of 16 planned")


def test_one_private_seed_of_several_does_not_say_what_privacy_changed(tmp_path: Path) -> None:
    """Where the other seeds failed, a difference is of one training; the sentence would read as of all."""
    manifest = build(tmp_path, methods=("lora",), attacks=("loss",), seeds=(0, 1), epochs=1, members=60, test=20,
                     levels=("none", "8"))  # fmt: skip
    assert any("With ε 8" in line for line in answer(Summary(Results.read(tmp_path))))
    cells = [
        cell.model_copy(update={"status": "failed", "error": "out of memory"})
        if cell.privacy == "8" and cell.seed == 1 else cell
        for cell in manifest.cells
    ]  # fmt: skip
    manifest.model_copy(update={"cells": cells}).write(tmp_path)
    assert not any("With ε 8" in line for line in answer(Summary(Results.read(tmp_path))))
