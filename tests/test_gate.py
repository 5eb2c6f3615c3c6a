"""The gate: what passes and what fails by intervals that are known, and what its keys mean."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from byrote.report.gate import Gate, Limit, Wanted, gate
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.selection import Key, Numbers
from byrote.statistics.interval import rate_estimate
from byrote.store import Manifest
from byrote.types import StudyError
from report_folder import build, build_damaged, build_private, pick, rewrite_ledgers
from small_study import caller
from test_axes_report import SMALL, make_overview


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gate")
    build(place, methods=("full", "prompt-tuning"), attacks=("loss", "reference"), epochs=2, members=120, test=40)
    return place


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("seeds")
    build(place, methods=("full",), attacks=("loss",), epochs=2, members=60, test=30, seeds=(0, 1, 2))
    return place


def judged(folder: Path, *limits: str, sense: str = "max", **wanted: object) -> Gate:
    read = [Limit.read(text, sense) for text in limits]  # type: ignore[arg-type]
    return gate(Results.read(folder), read, Wanted(**wanted))  # type: ignore[arg-type]


def row_of(folder: Path, **wanted: object) -> Row:
    return pick(Results.read(folder), **({"slice": "", "seed": 0} | wanted))  # type: ignore[arg-type]


def test_the_upper_end_of_the_interval_decides_and_not_the_number(folder: Path) -> None:
    row = row_of(folder, metric="auc", name="reference", method="prompt-tuning", epoch=2)
    assert row.value is not None and row.high is not None and row.low is not None and row.value < row.high
    only = {"methods": ["prompt-tuning"]}
    assert judged(folder, f"membership.reference={row.high}", **only).passed
    between = judged(folder, f"membership.reference={row.high - 1e-9!r}", **only)
    assert not between.passed and "the number keeps the limit, but its interval reaches" in between.checks[0].why
    below = judged(folder, f"membership.reference={row.value - 1e-9!r}", **only)
    assert below.checks[0].why == "the number itself is beyond the limit"
    assert judged(folder, f"membership.reference={row.value!r}", sense="max-observed", **only).passed
    assert judged(folder, f"membership.reference={row.low!r}", sense="min", **only).passed
    assert not judged(folder, f"membership.reference={row.low + 1e-9!r}", sense="min", **only).passed


def test_a_key_means_every_number_of_that_name_and_all_must_pass(folder: Path) -> None:
    found = judged(folder, "membership.auc=1")
    assert [(check.of, check.what) for check in found.checks] == [
        (method, f"{attack} auc") for method in ("full", "prompt-tuning") for attack in ("loss", "reference")
    ]
    tight = judged(folder, "membership.auc=0.7")
    assert {check.of for check in tight.checks if not check.passed} == {"full"} and not tight.passed
    assert [check.what for check in judged(folder, "membership.loss=1").checks] == ["loss auc"] * 2
    assert [check.what for check in judged(folder, "membership.loss.auc-lift=1").checks] == ["loss auc-lift"] * 2
    with_equals = judged(folder, "membership.loss.tpr@fpr=0.1=1")
    assert [check.what for check in with_equals.checks] == ["loss tpr@fpr=0.1"] * 2 and with_equals.passed


def test_epochs(folder: Path) -> None:
    for epoch, number in (("1", 1), ("2", 2), ("last", 2)):
        row = row_of(folder, metric="auc", name="loss", method="full", epoch=number)
        (check,) = judged(folder, "membership.loss=1", epoch=epoch, methods=["full"]).checks
        assert check.value == row.value
    losses = {e: row_of(folder, metric="perplexity", method="full", epoch=e).value for e in (1, 2)}
    best = min(losses, key=lambda epoch: losses[epoch] or math.inf)  # `build` validates on the test losses
    (check,) = judged(folder, "membership.loss=1", epoch="best", methods=["full"]).checks
    assert check.value == row_of(folder, metric="auc", name="loss", method="full", epoch=best).value
    (check,) = judged(folder, "membership.loss=1", epoch="9", methods=["full"]).checks
    assert not check.passed and check.why == "not measured at epoch 9"
    with pytest.raises(StudyError, match="--epoch: last, best, or a number from 1; got 'first'"):
        Wanted(epoch="first")


def test_several_seeds_are_judged_by_the_row_pooled_over_them(seeds: Path) -> None:
    row = pick(Results.read(seeds), "auc", name="loss", method="full", seed=None, epoch=2)
    (check,) = judged(seeds, "membership.auc=1").checks
    assert (check.value, check.high, check.n, check.seed) == (row.value, row.high, 3, None)


def test_nothing_seen_is_not_nothing_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 of 300: the limit is kept from the exact upper end on, 1 - 0.025 ** (1 / 300), and never at 0."""
    found = rate_estimate([0.0] * 300)
    base = row_of(folder, metric="auc", name="loss", method="full", epoch=2)
    row = replace(base, kind="extraction", name="k-extractable", metric="share", value=found.value, low=found.low,
                  high=found.high, n=found.n, interval=found.interval)  # fmt: skip
    controls = replace(row, slice="nonmembers", high=0.9)
    monkeypatch.setattr(Results, "rows", [row, controls])
    only, end = {"methods": ["full"]}, 1 - 0.025 ** (1 / 300)
    assert row.high == pytest.approx(end)
    (check,) = judged(folder, "extraction.k-extractable=0", **only).checks
    assert not check.passed
    assert check.why == (
        "0 of 300 came out, but the interval reaches 0.013: no number of records shows 0. Allow 0.013, or judge what "
        "was seen: --max-observed extraction.k-extractable=0"
    )
    assert judged(folder, "extraction.k-extractable=0.013", **only).passed
    assert judged(folder, "extraction.k-extractable=0", sense="max-observed", **only).passed
    (check,) = judged(folder, "extraction.k-extractable=0.01", **only).checks
    assert check.why.endswith("allow 0.013, or audit 368 records or more")
    assert 1 - 0.025 ** (1 / 368) <= 0.01 < 1 - 0.025 ** (1 / 367)


def test_a_number_that_is_missing_fails(folder: Path) -> None:
    (check, _) = judged(folder, "extraction.k-extractable=0.1").checks
    assert not check.passed and check.value is None and "the study did not ask for it" in check.why
    found = judged(folder, "membership.tpr@fpr=0.001=1")
    assert not found.passed and all("needs" in check.why for check in found.checks)


def test_a_run_that_failed_fails_the_gate_unless_it_is_not_asked_about(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "lora"), attacks=("loss",), epochs=1, members=40, test=20, failed=("lora",))
    found = judged(tmp_path, "membership.auc=1")
    assert all(check.passed for check in found.checks) and not found.passed
    assert found.problems[0].startswith("lora, seed 0, failed: ")
    assert judged(tmp_path, "membership.auc=1", methods=["full"]).passed
    assert not judged(tmp_path, "membership.auc=1", methods=["lora"]).passed


def test_a_seed_without_numbers_fails(tmp_path: Path) -> None:
    build_damaged(tmp_path)
    found = judged(tmp_path, "membership.auc=1", methods=["head"])
    assert not found.passed and any("needs 2 seeds with a value, has 1" in check.why for check in found.checks)


def test_a_seed_without_numbers_fails_though_the_others_are_pooled(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), epochs=1, members=40, test=20, seeds=(0, 1, 2))
    damaged = next(c.run_id for c in Manifest.read(tmp_path).cells if c.method == "full" and c.seed == 1)
    (tmp_path / "runs" / damaged / "scores.parquet").write_bytes(b"")
    pooled, absent = judged(tmp_path, "membership.auc=1").checks
    assert pooled.passed and pooled.n == 2 and not absent.passed and absent.why == "no such number of seed 1"


def test_epsilon(tmp_path: Path) -> None:
    build_private(tmp_path)
    ledger = rewrite_ledgers(tmp_path)
    every = judged(tmp_path, "privacy.epsilon=8")
    assert [check.passed for check in every.checks] == [False, True]
    assert "it was trained without privacy" in every.checks[0].why
    only = {"privacy": ["8.0"]}
    assert judged(tmp_path, f"privacy.epsilon={ledger.epsilon!r}", **only).passed
    assert not judged(tmp_path, f"privacy.epsilon={ledger.epsilon - 1e-9!r}", **only).passed
    rewrite_ledgers(tmp_path, private=False)
    repeatable = judged(tmp_path, "privacy.epsilon=100", **only)
    assert not repeatable.passed and "repeatable" in repeatable.checks[0].why and repeatable.problems
    run = next(cell.run_id for cell in Manifest.read(tmp_path).cells if cell.privacy == "8")
    (tmp_path / "runs" / run / "ledger.json").unlink()
    assert not judged(tmp_path, "privacy.epsilon=100", **only).passed


def test_a_ledger_that_the_audit_contradicts_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_private(tmp_path)
    assert judged(tmp_path, "privacy.epsilon=9", privacy=["8"]).passed
    monkeypatch.setattr(Results, "contradictions", ["The audit contradicts the ledger."])
    found = judged(tmp_path, "privacy.epsilon=9", privacy=["8"])
    assert not found.passed and found.problems == ("The audit contradicts the ledger.",)


def test_a_split_that_is_not_random_fails_membership_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Results, "broken_splits", ["Members can be told apart without any model."])
    assert not judged(folder, "membership.auc=1").passed
    assert judged(folder, "utility.perplexity=1e9").passed


def test_slices_are_judged_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = row_of(folder, metric="auc", name="loss", method="full", epoch=2)
    copies = [replace(row, slice=name) for name in ("", "copies=4", "copies=16", "nonmembers", "copies=4 nonmembers")]
    canary = replace(row, kind="extraction", name="exposure", metric="exposure", slice="canary:x copies=4")
    monkeypatch.setattr(Results, "rows", [*copies, canary])
    numbers, key = Numbers(Results.read(folder)), Key.read("membership.auc")
    assert [one.slice for one in numbers.identities(key)] == [""]
    assert [one.slice for one in numbers.identities(key, ["all"])] == ["", "copies=4", "copies=16"]
    assert [one.slice for one in numbers.identities(key, ["copies=16"])] == ["copies=16"]
    assert [one.slice for one in numbers.identities(Key.read("extraction.exposure"))] == ["canary:x copies=4"]
    with pytest.raises(StudyError, match=r"--slice: no slice 'copis=4' here. Did you mean 'copies=4'\?"):
        numbers.identities(key, ["copis=4"])


def test_every_point_of_a_study_that_varies_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = [{"values": {"model": "a"}}, {"values": {"model": "b"}, "error": "no room"}]
    make_overview(tmp_path, points, {"model": ["a", "b"]}, **SMALL)
    code, out, _ = caller(capsys)("gate", tmp_path, "--max", "membership.auc=1")
    assert code == 3 and "FAILED  model b: no room" in out and out.count("passed  membership.auc <= 1  model a, ") == 4


def test_exit_codes_and_what_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    byrote = caller(capsys)
    code, out, err = byrote("gate", folder, "--max", "membership.auc=1", "--max", "utility.perplexity=1e6")
    assert (code, err) == (0, "") and out.endswith("The gate is passed: 6 of 6 checks.\n")
    row = row_of(folder, metric="auc", name="loss", method="full", epoch=2)
    assert out.splitlines()[0] == (
        f"passed  membership.auc <= 1  full, seed 0: loss auc {row.value:.3f} [{row.low:.3f}, {row.high:.3f}], "
        f"n {row.n}"
    )
    code, out, _ = byrote("gate", folder, "--max", "membership.auc=0.5", "--format", "json")
    found = json.loads(out)
    assert code == 3 and found["passed"] is False and len(found["checks"]) == 4
    assert found["checks"][0]["value"] == row.value and found["checks"][0]["passed"] is False


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give at least one limit, for example --max membership.auc=0.6"),
        (["--max", "membership.auc"], "--max 'membership.auc': write KEY=NUMBER"),
        (["--max", "membership.auc=high"], "write KEY=NUMBER"),
        (["--max", "membership.auc=nan"], "write KEY=NUMBER"),
        (["--max", "member.auc=1"], "'member.auc' names no number. Did you mean 'membership'?"),
        (["--max", "membership.acu=1"], "membership.acu: no number is called so. Did you mean 'membership.auc'?"),
        (["--max", "cost.training=1"], "cost.training means several numbers of different units: give one of cost."),
        (["--max", "membership.auc=1", "--method", "ful"], "--method: 'ful' is not among these results. Did you mean"),
        (["--max", "membership.auc=1", "--privacy", "4"], "--privacy: '4' is not among these results. There are: none"),
        (["--max", "membership.auc=1", "--epoch", "0"], "--epoch: last, best, or a number from 1; got '0'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_usage_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    code, out, err = caller(capsys)("gate", folder, *words)
    assert (code, out) == (2, "") and told in err


def test_an_unfinished_study_cannot_pass(tmp_path: Path) -> None:
    manifest = build(tmp_path, methods=("full", "lora"), attacks=("loss",), epochs=1, members=40, test=20)
    manifest.model_copy(update={"cells": manifest.cells[:2]}).write(tmp_path)
    found = judged(tmp_path, "membership.auc=1")
    assert not found.passed
    assert found.problems == ("the study is not finished: 0 of 1 runs of lora have ended. Run it again",)
    assert judged(tmp_path, "membership.auc=1", methods=["full"]).passed
    manifest.model_copy(update={"cells": manifest.cells[:1]}).write(tmp_path)
    assert "no tuned model has numbers here" in judged(tmp_path, "membership.auc=1").problems
