"""What no attack can cross: the lines of a report, their numbers, and what is said where a measurement does."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from byrote.report.accounts import accounts
from byrote.report.findings import configurations
from byrote.report.formats import rounded_up
from byrote.report.limits import limit_of
from byrote.report.markdown import report_markdown
from byrote.report.palette import styles
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.write import write_report
from byrote.statistics.tradeoff import group_bound, tpr_bound, tpr_bound_of_profile
from byrote.store import RunFolder
from gaussian_privacy import mu_for, tpr_at
from report_folder import account_of, build, build_private, limits_drawn, pick, rewrite_ledgers


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("limits")
    build(folder, methods=("lora", "prompt-tuning"), attacks=("reference", "loss"), members=150, test=20, epochs=1,
          levels=("none", "8", "1"))  # fmt: skip
    return Results.read(folder)


def test_the_lines_on_the_roc_are_the_trade_off_functions(results: Results) -> None:
    lines = limits_drawn(results)[:4]
    grid = np.array(lines[0]["x"])
    for dotted, dashed, level in ((lines[0], lines[1], "8"), (lines[2], lines[3], "1")):
        (account, _) = [one for one in accounts(results.evidence) if one.configuration.privacy == level]
        ledger = account.ledger
        assert ledger is not None
        whole = [*ledger.profile, (ledger.epsilon, ledger.delta)]
        assert dotted["y"] == pytest.approx(tpr_bound_of_profile(grid, whole), rel=1e-4)
        assert dashed["y"] == pytest.approx(tpr_bound(grid, ledger.epsilon, ledger.delta), rel=1e-4)
        exact = [tpr_at(mu_for(float(level), ledger.delta), fpr) for fpr in grid[:-1]]
        assert np.array(dotted["y"])[:-1] == pytest.approx(exact, rel=0.03)
        assert (np.array(dotted["y"])[:-1] >= np.array(exact) * 0.999).all(), "never below the truth"
        assert (np.array(dotted["y"]) <= np.array(dashed["y"]) * 1.0001).all()
        assert dotted["line"] != dashed["line"] and f"lora, ε {level}" in str(dotted["hovertemplate"])


def test_methods_with_the_same_account_share_a_line_that_goes_with_the_last_of_them(results: Results) -> None:
    summary = Summary(results)
    look = styles(summary.configurations)
    lines = limits_drawn(results)
    assert len(lines) == 2 * 2 * 2, "two levels, two lines each, two attacks"
    for line, level in zip(lines[::2], ("8", "1", "8", "1"), strict=True):
        of = [str(style.key) for one, style in look.items() if one.privacy == level]
        assert line["meta"] == of and "legendgroup" not in line and len(of) == 2


def test_the_area_under_the_limit_bounds_every_auc(results: Results) -> None:
    for account in accounts(results.evidence):
        limit, ledger = limit_of(account), account.ledger
        assert limit is not None and ledger is not None
        exact = NormalDist().cdf(mu_for(ledger.epsilon, ledger.delta) / 2**0.5)
        assert exact <= limit.auc() <= exact + 0.004


def test_copies_have_the_bound_of_group_privacy(tmp_path: Path) -> None:
    build_private(tmp_path, ("none", "1"), copies=True)
    results = Results.read(tmp_path)
    (account,) = accounts(results.evidence)
    limit, ledger = limit_of(account), account.ledger
    assert limit is not None and ledger is not None and limit.copies == 2
    grid = np.array([0.01, 0.1, 0.5])
    assert limit.by_pair(grid) == pytest.approx(tpr_bound(grid, *group_bound(ledger.epsilon, ledger.delta, 2)))
    twice = tpr_bound_of_profile(grid, ledger.profile, 2)
    assert (limit.by_profile(grid) <= twice + 1e-12).all()
    assert (limit.by_profile(grid) > tpr_bound_of_profile(grid, ledger.profile)).all()
    assert account_of(results, "lora, ε 1")["limit at 1% FPR"][-1] == "groups of 2"
    assert "to a group of 2 records" in str(limits_drawn(results)[0]["hovertemplate"])
    epsilon, _ = group_bound(ledger.epsilon, ledger.delta, 2)
    assert f"largest group of members here has 2 records, which together have ε {rounded_up(epsilon)} and δ " in (
        report_markdown(results)
    )
    rewrite_ledgers(tmp_path, "1", unit="group", units=60)
    (account,) = accounts(Results.read(tmp_path).evidence)
    limit = limit_of(account)
    assert limit is not None and limit.copies == 1, "the guarantee is the group's own"


def test_a_group_on_both_sides_has_no_limit(tmp_path: Path) -> None:
    build_private(tmp_path)
    path = tmp_path / "splits.parquet"
    columns = pyarrow.parquet.read_table(path).to_pydict()
    for side in ("member", "nonmember"):
        columns["group"][columns["split"].index(side)] = "same"
    pyarrow.parquet.write_table(pa.table(columns), path)
    results = Results.read(tmp_path)
    assert limits_drawn(results) == []
    assert "no limit is given" in report_markdown(results)


def test_a_measurement_above_its_limit_is_a_banner(tmp_path: Path) -> None:
    """The account claims far less than the attack finds, as when part of the noise was forgotten."""
    manifest = build_private(tmp_path)
    assert Results.read(tmp_path).banners == []
    (leaky, tight) = (cell for cell in manifest.cells if cell.method == "lora")
    scores = RunFolder(tmp_path / "runs" / leaky.run_id).read_table("scores.parquet")
    assert scores is not None
    RunFolder(tmp_path / "runs" / tight.run_id).write_table("scores.parquet", scores)
    assert Results.read(tmp_path).banners == [], "epsilon 8 allows that much"
    rewrite_ledgers(tmp_path, epsilon=0.01, target_epsilon=0.01, profile=((0.0, 0.0055), (0.01, 0.0052)))
    results = Results.read(tmp_path)
    row = pick(results, "auc", privacy="8", epoch=2)
    (banner,) = results.banners
    assert row.low is not None and row.low > 0.51
    assert f"loss attack has AUC {row.value:.3f} [{row.low:.3f}" in banner
    assert "where no attack can have more than 0.50" in banner and "lora, ε 8" in banner


def test_levels_of_a_method_stand_beside_each_other_and_share_its_colour(results: Results) -> None:
    found = configurations(results.evidence)
    assert [one.label for one in found] == [
        "untuned model", "lora", "lora, ε 8", "lora, ε 1", "prompt-tuning", "prompt-tuning, ε 8", "prompt-tuning, ε 1",
    ]  # fmt: skip
    look = styles(found)
    lora = [look[one] for one in found if one.method == "lora"]
    assert len({style.colour for style in lora}) == 1 and len({style.dash for style in lora}) == 1
    assert len({style.symbol for style in lora}) == 3 and len({style.width for style in lora}) == 3
    marks = [(style.colour, style.symbol) for style in look.values()]
    assert len(set(marks)) == len(marks)


def test_names_tell_apart_what_only_delta_or_clipping_tells_apart(tmp_path: Path) -> None:
    manifest = build_private(tmp_path, ("8", "1"))
    base, first, second = manifest.cells
    other = second.model_copy(update={"privacy": "8", "delta": 0.001})
    manifest.model_copy(update={"cells": [base, first, other]}).write(tmp_path)
    results = Results.read(tmp_path)
    assert [one.label for one in configurations(results.evidence)] == [
        "untuned model", "lora, ε 8, δ 0.0052", "lora, ε 8, δ 0.001",
    ]  # fmt: skip
    found = Summary(results).tuned
    values = [one.auc[results.evidence.attacks[0]].value for one in found]
    expected = [pick(results, "auc", run_id=cell.run_id, epoch=2).value for cell in (first, other)]
    assert values == expected and values[0] != values[1]
    clipped = first.model_copy(update={"settings": '{"privacy.clip_norm":1.0,"r":16}', "privacy": "noise 0.8"})
    plain = clipped.model_copy(update={"settings": '{"r":16}'})
    for cells, names in (
        ([base, clipped], ["lora, r 16, noise 0.8"]),
        ([base, plain, clipped], ["lora, r 16, noise 0.8", "lora, r 16, noise 0.8, clip_norm 1"]),
    ):
        manifest.model_copy(update={"cells": cells}).write(tmp_path)
        results = Results.read(tmp_path)
        assert [one.label for one in configurations(results.evidence)] == ["untuned model", *names]
    write_report(results, tmp_path / "out")
