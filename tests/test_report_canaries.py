"""What a report says of canaries: exposure by tier, and the audited epsilon beside the ledger's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from byrote.report.audited_epsilon import audited_epsilon_of
from byrote.report.canary_exposure import canary_exposure_of
from byrote.report.canary_rows import MAXIMUM
from byrote.report.epsilon_rows import CEILING, ESTIMATED, GROUP, LOWER_BOUND, NO_COINS, P_VALUE
from byrote.report.formats import measure
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.statistics.epsilon import ESTIMATORS, Audit
from byrote.statistics.exposure import UNSEEN, exposure_by_rank, exposure_estimate, left_out_exposure, unseen_exposure
from byrote.store import Manifest, RunFolder
from gaussian_privacy import delta_at, epsilon_at, mu_for
from report_folder import BASE, SPLIT_COLUMNS, build, pick, rewrite_ledgers

COINS, CONTROLS, EACH, TIERS = 400, 120, 12, (1, 16)
GAIN = {1: 0.3, 16: 6.0}
"""By how much training raises the score of a canary of a tier, in deviations of its law."""
FLIP, FORMAT = "coin-flip:random-token", "canary:format"


def planted(
    folder: Path,
    leak: Mapping[str, float],
    *,
    seeds: tuple[int, ...] = (0,),
    attacks: tuple[str, ...] = ("loss",),
    copies: int = 1,
    groups: bool = False,
) -> Path:
    """A results folder with canaries: `leak` is by how many deviations a coin-flip member scores higher, by level."""
    levels = tuple(leak)
    build(folder, methods=("lora",), attacks=attacks, epochs=2, members=120, test=20, levels=levels, seeds=seeds)
    manifest = Manifest.read(folder)
    records: dict[int, dict[str, tuple[str, str, int]]] = {}  # by seed and id: split, slice and copies
    for seed in seeds:
        heads = np.random.default_rng([5, seed]).random(COINS) < 0.5
        of = {f"{FLIP}:{at:04d}": ("member" if head else "nonmember", FLIP, copies) for at, head in enumerate(heads)}
        for tier, times in enumerate(TIERS):
            of |= {f"{FORMAT}:{at + tier * EACH:04d}": ("member", f"{FORMAT} copies={times}", times)
                   for at in range(EACH)}  # fmt: skip
        first = EACH * len(TIERS)
        of |= {f"{FORMAT}:{at:04d}": ("nonmember", FORMAT, 1) for at in range(first, first + CONTROLS)}
        records[seed] = {f"{seed}:{record}": known for record, known in of.items()}
    table = pyarrow.parquet.read_table(folder / "splits.parquet").to_pydict()
    for seed, of in records.items():
        for record, (split, slice_, times) in of.items():
            group = f"group {int(record[-4:]) // 2}" if groups else record
            for column, value in zip(SPLIT_COLUMNS, (seed, record, split, group, record, slice_, record, times),
                                     strict=True):  # fmt: skip
                table[column].append(value)
    pyarrow.parquet.write_table(pa.table(table), folder / "splits.parquet")
    for cell in manifest.cells:
        rises = leak[cell.privacy] if cell.method != "none" else None
        _score(RunFolder(folder / "runs" / cell.run_id), records[cell.seed], rises, attacks, cell.seed)
    return folder


def _score(
    run: RunFolder,
    records: Mapping[str, tuple[str, str, int]],
    rises: float | None,
    attacks: tuple[str, ...],
    seed: int,
) -> None:
    """Scores of all canaries at every epoch; the untuned model, of which `rises` is None, knows none of them."""
    table = pyarrow.parquet.read_table(run.path / "scores.parquet")
    rows = table.to_pydict()
    own = int(run.id[:4], 16) if rises is not None else 999
    for epoch in sorted(set(rows["epoch"])):
        for attack in attacks:
            if attack == "reference" and rises is None:
                continue
            rng = np.random.default_rng([own, seed, epoch, len(attack)])
            for record, (split, slice_, copies) in records.items():
                gain = 0.0
                if rises is not None and split == "member":
                    gain = rises if slice_ == FLIP else GAIN[copies]
                values = (epoch, attack, "", record, -8.0 + 0.2 * (rng.normal() + gain), "")
                for column, value in zip(("epoch", "attack", "settings", "record_id", "score", "reason"), values,
                                         strict=True):  # fmt: skip
                    rows[column].append(value)
    run.write_table("scores.parquet", pa.table(rows, schema=table.schema))


def scores_of(folder: Path, row: Row, slice_: str, split: str) -> tuple[list[str], list[float]]:
    """Ids and scores of one slice, read with nothing of the report."""
    held = pyarrow.parquet.read_table(folder / "splits.parquet").to_pylist()
    ids = [one["record_id"] for one in held
           if (one["slice"], one["split"], one["seed"]) == (slice_, split, row.seed)]  # fmt: skip
    table = pyarrow.parquet.read_table(folder / "runs" / row.run_id / "scores.parquet").to_pylist()
    score = {one["record_id"]: one["score"] for one in table if (one["epoch"], one["attack"]) == (row.epoch, "loss")}
    return ids, [score[one] for one in ids]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without privacy coins are plain to see; at epsilon 8 they are what a mechanism with epsilon 8 shows, or less."""
    return planted(tmp_path_factory.mktemp("canaries"), {"none": 9.0, "8": 1.0})


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder)


# --- exposure


@pytest.mark.parametrize("copies", TIERS)
def test_a_tier_is_ranked_among_its_controls(folder: Path, results: Results, copies: int) -> None:
    slice_ = f"{FORMAT} copies={copies}"
    row = pick(results, "exposure", slice=slice_, privacy="none", epoch=2, method="lora")
    _, ours = scores_of(folder, row, slice_, "member")
    _, controls = scores_of(folder, row, FORMAT, "nonmember")
    base = pick(results, "exposure", slice=slice_, method="none")
    due = exposure_estimate(ours, controls, null_value=base.value)
    assert row.estimate == due
    assert (row.kind, row.name, row.n, row.settings) == (
        "extraction",
        "exposure",
        EACH,
        '{"exposure":{"scores":"loss"}}',
    )
    assert base.value == pytest.approx(UNSEEN, abs=1.5) and base.null_value == unseen_exposure(CONTROLS)
    beyond = pick(results, "exposure-extrapolated", slice=slice_, privacy="none", epoch=2, method="lora")
    assert beyond.value is not None and row.value is not None and math.isfinite(beyond.value)
    if copies == 16:
        assert row.value > 0.97 * math.log2(CONTROLS + 1) and beyond.value > row.value + 5


def test_controls_have_the_exposure_of_what_was_never_seen(folder: Path, results: Results) -> None:
    row = pick(results, "exposure", slice=FORMAT, privacy="none", epoch=2, method="lora")
    assert row.value == pytest.approx(unseen_exposure(CONTROLS - 1)) == pytest.approx(row.null_value)
    beyond = pick(results, "exposure-extrapolated", slice=FORMAT, privacy="none", epoch=2, method="lora")
    assert beyond.low is not None and beyond.high is not None and beyond.low < UNSEEN < beyond.high
    assert (row.n, beyond.null_value) == (CONTROLS, UNSEEN)
    _, controls = scores_of(folder, row, FORMAT, "nonmember")
    assert row.value == pytest.approx(left_out_exposure(controls, exposure_by_rank).mean())
    most = pick(results, MAXIMUM, slice=FORMAT, privacy="none", epoch=2, method="lora")
    assert (most.value, most.n, most.low) == (math.log2(CONTROLS + 1), CONTROLS, None)


def test_what_was_planted_is_no_part_of_the_other_numbers(folder: Path, results: Results) -> None:
    row = pick(results, "auc", slice="", privacy="none", epoch=2, method="lora")
    assert row.n == 240
    assert pick(results, "auc", slice=FLIP, privacy="none", epoch=2, method="lora").n == COINS
    assert (
        pick(results, "auc", slice=f"{FORMAT} copies=16", privacy="none", epoch=2, method="lora").n == EACH + CONTROLS
    )


def test_without_the_loss_attack_the_headline_ranks_them(tmp_path: Path) -> None:
    found = Results.read(planted(tmp_path, {"none": 1.0}, attacks=("reference",)))
    row = pick(found, "exposure", slice=f"{FORMAT} copies=16", epoch=2, method="lora")
    assert row.settings == '{"exposure":{"scores":"reference"}}'
    assert row.null_value == unseen_exposure(CONTROLS)  # it ties on the untuned model
    assert not [one for one in found.rows if one.metric == "exposure" and one.method == "none"]


def test_exposures_are_pooled_over_seeds_in_bits(tmp_path: Path) -> None:
    found = Results.read(planted(tmp_path, {"none": 1.0}, seeds=(0, 1)))
    pooled = pick(found, "exposure", slice=f"{FORMAT} copies=16", method="lora", seed=None, epoch=2)
    alone = [pick(found, "exposure", slice=f"{FORMAT} copies=16", method="lora", seed=seed, epoch=2) for seed in (0, 1)]
    assert pooled.value == pytest.approx(np.mean([row.value for row in alone])) and pooled.value > 6.0
    section = canary_exposure_of(Summary(found))
    assert section is not None
    tier = next(line for line in section.lines if line.label == "format, copies 16")
    assert tier.values[1].main == f"{pooled.value:.2f}"
    assert not [row for row in found.rows if row.metric == LOWER_BOUND and row.seed is None]


# --- audited epsilon


@pytest.mark.parametrize("level", ["none", "8"])
def test_a_bound_is_that_of_the_coins(folder: Path, results: Results, level: str) -> None:
    for name in ESTIMATORS:
        row = pick(results, LOWER_BOUND, name=name, privacy=level, slice=FLIP)
        sides = [scores_of(folder, row, FLIP, side) for side in ("member", "nonmember")]
        known = sorted([(record, score, side == 0) for side, of in enumerate(sides)
                        for record, score in zip(*of, strict=True)])  # fmt: skip
        assert row.delta is not None
        audit = Audit.of([score for _, score, _ in known], [was_in for *_, was_in in known], row.delta, seed=0)
        assert (row.value, row.n, row.null_value) == (audit.bounds()[name].epsilon, COINS // 2, 0.0)
        assert pick(results, CEILING, name=name, privacy=level, slice=FLIP).value == audit.bounds()[name].ceiling
        assert (row.kind, row.epoch, row.settings) == ("privacy", 2, f'{{"{name}":{{"scores":"loss"}}}}')
        assert row.delta == pick(results, LOWER_BOUND, name="one-run", privacy="8", slice=FLIP).delta


def test_without_privacy_the_bound_is_at_its_ceiling_and_with_it_below_the_ledger(results: Results) -> None:
    for name in ESTIMATORS:
        bound, most = (pick(results, metric, name=name, privacy="none", slice=FLIP).value for metric in ESTIMATED)
        assert bound is not None and most is not None and bound > 0.8 * most > 1.0
        private = pick(results, LOWER_BOUND, name=name, privacy="8", slice=FLIP).value
        assert private is not None and private < 8.0
    assert not [row for row in results.rows if row.metric == P_VALUE and row.privacy == "none"]
    p = pick(results, P_VALUE, privacy="8").value
    assert p is not None and p > 0.5
    assert results.contradictions == [] and "contradicts the ledger" not in report_markdown(results)


def test_a_training_that_leaks_more_than_its_ledger_allows_is_red(tmp_path: Path) -> None:
    folder = planted(tmp_path, {"none": 1.0, "1": 4.0})
    results = Results.read(folder)
    (banner,) = results.contradictions
    assert "contradicts the ledger of lora, ε 1, seed 0" in banner and FLIP in banner and "of ε 1 at" in banner
    assert results.warnings[0] == results.banners[0] == banner
    bound = pick(results, LOWER_BOUND, name="one-run-f-dp", privacy="1", slice=FLIP).value
    assert bound is not None and bound > 2.0 and f"one-run-f-dp {bound:.3g}" in banner
    text, page = report_markdown(results), report_html(results)
    assert text.index("contradicts the ledger") < text.index("## Methods side by side")
    assert page.index("contradicts the ledger") < page.index('id="table-title"')
    p = pick(results, P_VALUE, privacy="1").value
    assert p is not None and p < 1e-3
    rewrite_ledgers(folder, "1", epsilon=40.0, profile=())  # a ledger that claims so little is not refuted
    assert Results.read(folder).contradictions == []


def test_many_ledgers_are_not_refuted_by_chance(tmp_path: Path) -> None:
    """Each p-value is corrected for how many there are: here one of 0.03 among four."""
    results = Results.read(planted(tmp_path, {"8": 0.5, "3": 0.5, "2": 0.5, "1": 0.5}))
    rows = [row for row in results.rows if row.metric == P_VALUE]
    assert len(rows) == 4 and results.contradictions == []


def test_repeated_canaries_are_held_against_a_group(tmp_path: Path) -> None:
    folder = planted(tmp_path, {"1": 4.0}, copies=4)
    rewrite_ledgers(folder, "1", epsilon=1.0, profile=())
    results = Results.read(folder)
    group = pick(results, GROUP, privacy="1")
    assert group.value is None and "group of 4 records" in group.reason
    rewrite_ledgers(folder, "1", epsilon=1.0, profile=((2.0, 1e-12),))
    group = pick(Results.read(folder), GROUP, privacy="1")
    assert (group.value, group.n) == (8.0, 4)
    p = pick(Results.read(folder), P_VALUE, privacy="1").value
    rewrite_ledgers(folder, "1", epsilon=1.0, profile=((2.0, 1e-12),), unit="group")
    alone = pick(Results.read(folder), P_VALUE, privacy="1").value
    assert p is not None and alone is not None and p > 0.1 > 1e-3 > alone  # four of a group are one unit


def test_copies_of_a_gaussian_mechanism_show_no_more_than_a_group_and_more_than_one_record(tmp_path: Path) -> None:
    """Each record moves the released sum by mu deviations, and k copies of it by k mu: that is what coins can show."""
    delta, copies = 0.01, 4
    mu = mu_for(0.5, delta)
    profile = tuple((epsilon, delta_at(mu, epsilon)) for epsilon in np.linspace(0.01, 3.0, 60).tolist())

    def audited(copies: int, place: str) -> Results:
        folder = planted(tmp_path / place, {"0.5": 4 * mu}, copies=copies)
        rewrite_ledgers(folder, "0.5", epsilon=0.5, delta=delta, profile=profile)
        return Results.read(folder)

    results = audited(copies, "copied")
    group = pick(results, GROUP, privacy="0.5")
    assert group.value is not None and group.n == copies
    assert group.value >= epsilon_at(copies * mu, delta), "what is promised to a group holds for its copies"
    bounds = [pick(results, LOWER_BOUND, name=name, privacy="0.5", slice=FLIP).value or 0.0 for name in ESTIMATORS]
    assert 0.5 < max(bounds) <= epsilon_at(copies * mu, delta)
    p = pick(results, P_VALUE, privacy="0.5").value
    assert p is not None and p > 0.05 and results.contradictions == []
    # The same scores of canaries that stood there once are more than one record may show.
    assert audited(1, "once").contradictions != []


def test_what_cannot_be_audited_says_why(tmp_path: Path) -> None:
    alone = Results.read(planted(tmp_path / "groups", {"8": 1.0}, groups=True))
    assert "share groups" in pick(alone, LOWER_BOUND, slice=FLIP).reason
    assert pick(alone, LOWER_BOUND, slice="").reason == NO_COINS
    build(tmp_path / "plain", methods=("lora",), attacks=("loss",), epochs=2, members=60, test=20, levels=("none", "8"))
    plain = Results.read(tmp_path / "plain")
    (row,) = [row for row in plain.rows if row.metric == LOWER_BOUND]
    assert (row.privacy, row.value, row.reason) == ("8", None, NO_COINS)
    assert audited_epsilon_of(Summary(plain)) is None and canary_exposure_of(Summary(plain)) is None
    for word in ("## Canaries", "## Audited epsilon"):
        assert word not in report_markdown(plain)


def test_repeatable_noise_has_no_ledger_to_test(tmp_path: Path) -> None:
    folder = planted(tmp_path, {"8": 4.0})
    rewrite_ledgers(folder, "8", private=False)
    row = pick(Results.read(folder), P_VALUE, privacy="8")
    assert row.value is None and "nothing is guaranteed" in row.reason


# --- sections


def test_the_sections_show_bounds_ceilings_and_maxima(results: Results) -> None:
    section = audited_epsilon_of(Summary(results))
    assert section is not None and [line.label for line in section.lines] == ["lora, seed 0", "lora, ε 8, seed 0"]
    row, most = (pick(results, metric, name="one-run", privacy="8", slice=FLIP) for metric in ESTIMATED)
    cell = section.lines[1].values[0]
    assert cell.main == f"≥ {measure(row.value)}" and cell.small == (f"ceiling {measure(most.value)}", "200 canaries")
    assert section.lines[1].values[4].main == "8.00" and section.lines[0].values[4].small == ("not private",)
    canaries = canary_exposure_of(Summary(results))
    assert canaries is not None
    assert [line.label for line in canaries.lines] == [
        "format, copies 1", "format, copies 16", "format, never trained on"
    ]  # fmt: skip
    assert {line.most.main for line in canaries.lines} == {f"{math.log2(CONTROLS + 1):.2f}"}
    assert canaries.methods == ["untuned model", "lora", "lora, ε 8"]
    page, text = report_html(results), report_markdown(results)
    for title in ("Audited epsilon", "Canaries"):
        assert title in page and f"## {title}" in text
    assert "format 12 a tier and 120 controls" in text and BASE not in text


@pytest.mark.parametrize(("factor", "is_red"), [(1.0, False), (3.0, True)])
def test_what_leaks_as_much_as_its_ledger_says_is_not_red(tmp_path: Path, factor: float, is_red: bool) -> None:
    folder = planted(tmp_path, {"3": factor * mu_for(3.0, 120**-1.1)})
    assert bool(Results.read(folder).contradictions) == is_red
