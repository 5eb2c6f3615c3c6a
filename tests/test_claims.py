"""Claims: verdicts on planted truths, what is compared with what, and how often they err."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byrote.claims import Claim
from byrote.report.axes import VariedResults
from byrote.report.axes_page import axes_html, axes_markdown
from byrote.report.claim_contrasts import Contrast
from byrote.report.claim_sides import Pair, Side, Studied, pairs_of
from byrote.report.claims import JudgedClaim, conditions, judged, judged_claims
from byrote.report.claims_section import claims_csv, claims_section
from byrote.report.console import answer_text
from byrote.report.html import report_html
from byrote.report.results import Results
from byrote.report.utility_rows import utility_difference
from byrote.report.write import write_report
from byrote.statistics.comparison import size_beyond
from byrote.statistics.delong import auc_lift
from byrote.statistics.interval import pool_logs_over_seeds, pool_over_seeds
from byrote.store import MANIFEST, Manifest
from byrote.types import Estimate
from report_folder import build, build_private, stored
from test_axes_report import make_overview

LOSS = "membership.loss.auc"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims")
    build(folder, methods=("full", "head", "lora", "prefix-tuning", "prompt-tuning"), attacks=("loss", "reference"),
          seeds=(0, 1, 2), members=150, test=80)  # fmt: skip
    return folder


def with_claims(folder: Path, *claims: dict[str, Any]) -> Results:
    manifest = Manifest.read(folder)
    manifest.study["claims"] = [
        {"id": f"c{number}", "says": "It is so."} | claim for number, claim in enumerate(claims)
    ]
    manifest.write(folder)
    return Results.read(folder)


def of(folder: Path, **claim: Any) -> JudgedClaim:
    return judged_claims(with_claims(folder, {"measure": LOSS} | claim))[0]


def test_planted_differences_get_their_verdicts(folder: Path) -> None:
    full, prompt = {"method": "full"}, {"method": "prompt-tuning"}
    assert of(folder, of=full, than=prompt).verdict == "supported"
    assert of(folder, of=prompt, than=full, direction="lower").verdict == "supported"
    assert of(folder, of=prompt, than=full).verdict == "contradicted"
    assert of(folder, of=prompt, than=full, direction="equal").verdict == "contradicted"
    assert of(folder, of=prompt, than=full, direction="not higher").verdict == "supported"
    assert of(folder, of=prompt, than="untuned", direction="equal").verdict == "supported"
    assert of(folder, of=full, than=0.5).verdict == "supported"
    assert of(folder, of=full, than=0.9999, direction="not lower", margin=0.001).verdict != "supported"
    assert of(folder, of={"family": "parameter"}, than={"family": "prompt"}).verdict == "supported"
    assert of(folder, rising=[prompt, {"method": "lora"}, full]).verdict == "supported"
    assert of(folder, rising=[full, {"method": "lora"}, prompt]).verdict == "contradicted"
    assert (
        of(folder, of={"method": "lora", "epoch": "last"}, than={"method": "lora", "epoch": 1}).verdict == "supported"
    )


def test_what_a_claim_is_about_is_every_pair_and_the_weakest_stands_first(folder: Path) -> None:
    found = of(folder, of={"family": "parameter"}, than={"family": "prompt"})
    pairs = {(one.contrast.pair.one.configuration.method, one.contrast.pair.other.configuration.method)  # type: ignore[union-attr]
             for one in found.contrasts}  # fmt: skip
    assert pairs == {(a, b) for a in ("full", "head", "lora") for b in ("prefix-tuning", "prompt-tuning")}
    lows = [one.contrast.estimate.low for one in found.contrasts]
    assert lows == sorted(lows, key=lambda low: low or 0.0) and found.about == "6 of 6 comparisons support it"
    assert found.weakest is not None and found.weakest.one.startswith("lora")
    grown = of(folder, of={"family": "parameter", "epoch": "last"}, than={"family": "parameter", "epoch": 1})
    assert [one.one.split(",")[0] == one.other.split(",")[0] for one in grown.contrasts] == [True] * 3, (
        "each with itself"
    )


def test_epochs_that_both_sides_share_only_narrow(folder: Path) -> None:
    found = of(folder, of={"method": "full"}, than={"method": "lora"}, where={"epoch": [1, 2]})
    assert sorted(one.contrast.epochs for one in found.contrasts) == [("1", "1"), ("2", "2")]
    studied = Studied.of(Results.read(folder))
    sliced = {"id": "c", "says": "It is so.", "measure": LOSS, "where": {"slice": ["copies=1", "copies=8"]}}
    pairs = pairs_of(Claim(**sliced, of={"method": "full"}, than={"method": "lora"}), studied)
    assert [(one.one.slice, one.other.slice) for one in pairs] == [("copies=1",) * 2, ("copies=8",) * 2]  # type: ignore[union-attr]


def test_the_difference_is_delong_s_on_the_same_records_pooled_over_seeds(folder: Path) -> None:
    found = of(folder, of={"method": "lora"}, than={"method": "prefix-tuning"}).contrasts[0].contrast
    cells = {(cell.method, cell.seed): cell.run_id for cell in Manifest.read(folder).cells}
    alone = []
    for seed in (0, 1, 2):
        scores = [stored(folder, cells[method, seed], "loss", 4, seed) for method in ("lora", "prefix-tuning")]
        alone.append(auc_lift(*scores[0], *scores[1]))
    wanted = pool_over_seeds(alone)
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == pytest.approx(
        (wanted.value, wanted.low, wanted.high), abs=1e-12
    )
    assert found.seeds == 3 and found.estimate.n == 3 and found.ends[0] > found.ends[1]  # type: ignore[operator]


def test_perplexities_are_compared_by_their_ratio_and_counts_are_known(folder: Path) -> None:
    worse = of(folder, measure="utility.perplexity.perplexity", of={"method": "head"}, than={"method": "lora"})
    ends = worse.contrasts[0].contrast.ends
    value = worse.contrasts[0].contrast.estimate.value
    assert worse.verdict == "supported" and worse.contrasts[0].difference.startswith("×1.")
    assert value == pytest.approx(np.log(ends[0] / ends[1]), rel=0.02)  # type: ignore[operator]
    same = of(
        folder, measure="utility.perplexity.perplexity", of={"method": "head"}, than={"method": "lora"},
        direction="equal", margin=0.5,
    )  # fmt: skip
    assert conditions(same).endswith("equal within a factor of 1.65")
    fewer = of(folder, measure="cost.training.trainable_parameters", of={"family": "prompt"}, than={"method": "lora"},
               direction="lower")  # fmt: skip
    assert fewer.verdict == "supported" and "[" not in fewer.contrasts[0].difference
    seconds = of(
        folder, measure="cost.training.seconds", of={"method": "lora"}, than={"method": "full"}, direction="lower"
    )
    assert seconds.verdict == "not resolved" and "no interval" in seconds.contrasts[0].difference


def test_what_the_ledger_states_is_known(tmp_path: Path) -> None:
    build_private(tmp_path, levels=("none", "2", "8"), seeds=(0, 1, 2))
    spent = {"measure": "privacy.epsilon.epsilon"}
    lora = {"method": "lora"}
    assert of(tmp_path, **spent, of={**lora, "privacy": 8}, than={**lora, "privacy": 2}).verdict == "supported"
    assert of(tmp_path, **spent, of={**lora, "privacy": 8}, than=9, direction="lower").verdict == "supported"
    assert of(tmp_path, **spent, of={**lora, "privacy": 8}, than=7, direction="lower").verdict == "contradicted"
    seconds = of(tmp_path, measure="cost.training.seconds", of={**lora, "privacy": 8}, than={**lora, "privacy": 2})
    assert seconds.needed == "the 3 seeds came to the same, and none has an interval of its own"


def test_matched_utility_takes_the_best_epochs_that_both_reach(folder: Path) -> None:
    # Full tuning is best at its first epoch and lora at its first two: both have gained .04 to .05 nats there.
    found = of(folder, of={"method": "full"}, than={"method": "lora"}, at="matched").contrasts[0].contrast
    assert found.epochs[0] in ("1", "1 to 2") and found.seeds == 3
    # Head tuning is worse than the untuned model from the first epoch on; nothing matches it.
    never = of(folder, of={"method": "head"}, than={"method": "lora"}, at="matched")
    assert never.verdict == "not resolved" and "equally useful" in never.needed
    assert of(folder, of={"method": "full"}, than={"method": "lora"}, at="best").contrasts[0].contrast.epochs[0] == "1"


def test_what_is_not_resolved_says_what_would_resolve_it(tmp_path: Path) -> None:
    build(tmp_path, methods=("prefix-tuning", "prompt-tuning"), attacks=("loss",), members=40, test=20)
    found = of(tmp_path, of={"method": "prefix-tuning", "epoch": 1}, than={"method": "prompt-tuning", "epoch": 1},
               direction="equal", margin=0.0005)  # fmt: skip
    assert found.verdict == "not resolved" and found.needed
    nothing = of(tmp_path, of={"method": "prefix-tuning", "epoch": 9}, than="untuned")
    assert nothing.verdict == "not resolved" and "not measured" in nothing.needed


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    results = with_claims(folder)
    claim = Claim(id="x", says="x", measure=LOSS, of={"method": "full"}, than={"method": "lora"})
    return pairs_of(claim, Studied.of(results))[0]


def simulated(pair: Pair, truths: list[float], rng: np.random.Generator, seeds: int = 4) -> list[Contrast]:
    """Contrasts whose seeds are draws around known differences."""
    found = []
    for truth in truths:
        draws = [Estimate(float(value), null_value=0.0) for value in rng.normal(truth, 0.02, seeds)]
        found.append(
            Contrast(pair, replace(pool_over_seeds(draws), null_value=0.0), seeds, False, (None, None), ("", ""))
        )
    return found


@pytest.mark.parametrize(
    ("direction", "truths", "verdict"),
    [
        ("higher", [0.0, 0.3, 0.3, 0.3], "supported"),  # one of four is not so
        ("higher", [0.0] * 4, "contradicted"),
        ("equal", [0.05, 0.0, 0.0], "supported"),  # at the margin, and so not within it
        ("equal", [0.05] * 4, "contradicted"),
        ("not higher", [0.05, 0.0], "supported"),
        ("not higher", [0.05] * 4, "contradicted"),
    ],
)
def test_verdicts_err_no_more_often_than_they_say(
    pair: Pair, direction: str, truths: list[float], verdict: str
) -> None:
    claim = Claim(id="x", says="x", measure=LOSS, of={"method": "full"}, than=0.0, direction=direction)  # type: ignore[arg-type]
    rng = np.random.default_rng(7)
    wrong = sum(judged(claim, simulated(pair, truths, rng), 0.05).verdict == verdict for _ in range(400))
    assert wrong <= 30, f"{wrong} of 400 at a level of 5%, at most"  # 20 expected at worst; 30 has p .02
    sure = [abs(truth) + 0.5 for truth in truths] if direction == "higher" else [0.0] * len(truths)
    assert judged(claim, simulated(pair, sure, rng, 12), 0.05).verdict == "supported"


def test_so_many_more_would_take_the_interval_clear_of_the_null() -> None:
    records = Estimate(0.02, -0.02, 0.06, 400, "delong-paired", 0.0)
    assert size_beyond(records) == 1601  # twice as narrow, and a record more
    assert size_beyond(replace(records, value=0.0, low=-0.04, high=0.04)) is None
    rng = np.random.default_rng(3)
    draws = rng.normal(0.05, 0.06, 4)
    pooled = replace(pool_over_seeds([Estimate(float(x), null_value=0.0) for x in draws]), null_value=0.0)
    assert pooled.low is not None and pooled.low < 0 < (pooled.value or 0.0)
    size = size_beyond(pooled)
    assert size is not None and size > 4

    def low(seeds: int) -> float:  # seeds with the same mean and spread
        spread = (draws - draws.mean()) / draws.std(ddof=1)
        values = np.resize(spread, seeds)
        values = (values - values.mean()) / values.std(ddof=1) * draws.std(ddof=1) + draws.mean()
        found = pool_over_seeds([Estimate(float(x), null_value=0.0) for x in values]).low
        assert found is not None
        return found

    assert low(size) > 0.0 >= low(size - 1)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {"methods": ("full", "prompt-tuning"), "attacks": ("loss",), "members": 120, "test": 40}
    points = [
        {"values": {"model": model, "epochs": epochs}, "options": {"epochs": epochs, "shift": 0.3 * (model == "b")}}
        for model in ("a", "b")
        for epochs in (1, 4)
    ]
    axes: dict[str, list[Any]] = {"model": ["a", "b"], "epochs": [1, 4]}
    return make_overview(tmp_path_factory.mktemp("varied"), points, axes, **options)


def judged_of(varied: Path, **claim: Any) -> JudgedClaim:
    raw = json.loads((varied / "axes.json").read_text())
    raw["claims"] = [{"id": "v", "says": "It is so.", "measure": LOSS} | claim]
    (varied / "axes.json").write_text(json.dumps(raw))
    return judged_claims(VariedResults.read(varied))[0]


def test_points_are_compared_where_they_agree_in_the_other_axes(varied: Path) -> None:
    found = judged_of(varied, of={"model": "b"}, than={"model": "a"})
    sides = [one.contrast.pair for one in found.contrasts]
    assert len(sides) == 4 and all(
        pair.one.entry.words["epochs"] == pair.other.entry.words["epochs"]  # type: ignore[union-attr]
        and pair.one.configuration.method == pair.other.configuration.method  # type: ignore[union-attr]
        for pair in sides
        if isinstance(pair.other, Side)
    )
    assert {one.where for one in found.contrasts} == {"epochs 1", "epochs 4"}
    assert found.contrasts[0].contrast.estimate.interval == "delong-paired", "both have the records of one split"
    assert (
        judged_of(varied, of={"method": "full", "epochs": 4}, than={"method": "full", "epochs": 1}).verdict
        == "supported"
    )
    one = judged_of(varied, where={"model": "a", "epochs": 4}, of={"method": "full"}, than={"method": "prompt-tuning"})
    assert (one.verdict, len(one.contrasts)) == ("supported", 1)


def test_the_untuned_model_is_a_run_of_its_own_and_not_a_known_number(folder: Path) -> None:
    against = of(folder, measure="utility.perplexity.perplexity", of={"method": "lora"}, than="untuned")
    found = against.contrasts[0].contrast
    results = Results.read(folder)
    cells = {(cell.method, cell.seed): cell for cell in results.manifest.cells}
    (utility,) = results.evidence.utilities
    alone = [
        utility_difference(results.evidence, (cells["lora", seed], 4), (cells["none", seed], 0), utility)
        for seed in (0, 1, 2)
    ]
    pooled = pool_logs_over_seeds(alone)
    assert found.estimate.value == pytest.approx(np.log(pooled.value or 0.0)), "record by record"
    assert (found.estimate.low, found.estimate.high) == pytest.approx(
        (np.log(pooled.low or 0), np.log(pooled.high or 0))
    )
    rate = of(folder, measure="membership.loss.tpr@fpr=0.1", of={"method": "full", "epoch": 1}, than="untuned")
    assert rate.contrasts[0].contrast.ends[1] is not None
    nothing = of(folder, measure="cost.training.seconds", of={"method": "full"}, than=0)
    assert nothing.verdict == "not resolved" and nothing.needed == "to 0 there is no ratio"


def test_what_failed_is_missed_and_not_left_out(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "prefix-tuning", "prompt-tuning"), attacks=("loss",), failed=("prefix-tuning",))
    found = of(tmp_path, of={"method": "full"}, than={"family": "prompt"})
    assert found.verdict == "not resolved" and found.about == "1 of 2 comparisons support it"
    assert found.needed == "every run of prefix-tuning failed"
    assert of(tmp_path, of={"method": "full"}, than={"method": "prompt-tuning"}).verdict == "supported"


def test_a_contradicted_claim_shows_what_contradicts_it_first(folder: Path) -> None:
    # The wide interval reaches furthest to the wrong side, and shows nothing.
    claim = Claim(id="x", says="x", measure=LOSS, of={"method": "full"}, than={"method": "lora"})
    pair = pairs_of(claim, Studied.of(Results.read(folder)))[0]
    wide, sure = (
        Contrast(pair, Estimate(value, value - half, value + half, 400, "mover", 0.0), 1, False, (None, None), ("", ""))
        for value, half in ((-0.1, 0.4), (-0.1, 0.01))
    )
    assert [one.verdict for one in judged(claim, [wide, sure]).contrasts] == ["contradicted", "not resolved"]


def test_two_points_that_differ_in_what_no_claim_names_are_no_comparison(tmp_path: Path) -> None:
    points = [
        {"values": {"model": "a"}},
        {"values": {"model": "a", "epochs": 2}, "options": {"epochs": 2}},
        {"values": {"model": "b", "epochs": 2}, "options": {"epochs": 2}},
        {"values": {"model": "c"}, "later": True},
    ]
    options: dict[str, Any] = {"methods": ("full", "prompt-tuning"), "attacks": ("loss",), "members": 60, "test": 20}
    overview = make_overview(tmp_path, points, {"model": ["a", "b", "c"]}, **options)
    within = judged_of(overview, of={"method": "full"}, than={"method": "prompt-tuning"})
    sides = [one.contrast.pair for one in within.contrasts]
    assert len(sides) == 3 and all(pair.one.entry is pair.other.entry for pair in sides)  # type: ignore[union-attr]
    assert within.verdict == "not resolved" and within.about.endswith("; model c has no results")
    between = judged_of(overview, where={"method": "full"}, of={"model": "a"}, than={"model": "b"}, direction="equal")
    assert sorted(one.where for one in between.contrasts) == ["", "epochs 2"], "a without epochs of its own, and with"
    assert between.about.count("no results") == 0, "it names other models"
    steps = judged_of(overview, where={"method": "full"}, rising=[{"model": "a"}, {"model": "b"}, {"model": "c"}])
    assert "no two runs of model b and model c" in steps.about and steps.verdict != "supported"


def test_a_model_without_validation_loss_has_no_best_epoch(folder: Path, tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "lora"), attacks=("loss",), members=40, test=20)
    results = with_claims(tmp_path, *({"measure": LOSS, "of": {"method": "full"}, "than": {"method": "lora"}, "at": at}
                                      for at in ("best", "matched")))  # fmt: skip
    for pieces in results.evidence.pieces.values():
        losses = pieces.training.get("validation") or []
        losses[:] = [one | {"loss": float("nan")} for one in losses]
    best, matched = judged_claims(results)
    assert best.needed == "no validation loss, or not measured at that epoch"
    assert matched.needed == "no validation loss was measured"


def test_claims_stand_in_every_form_of_the_report(folder: Path, varied: Path, tmp_path: Path) -> None:
    results = with_claims(
        folder,
        {"id": "<b>A1", "says": "Full <i>leaks</i> | most.", "measure": LOSS, "of": {"method": "full"},
         "than": {"family": "prompt"}, "published": "+.2"},
        {"id": "A2", "says": "LoRA does not.", "measure": LOSS, "of": {"method": "lora"}, "than": "untuned",
         "direction": "equal"},
    )  # fmt: skip
    section = claims_section(results)
    assert section is not None
    assert section.summary == "Of 2 claims 1 is supported and 1 is contradicted."
    page = report_html(results)
    assert section.summary in answer_text(results)
    assert "Full &lt;i&gt;leaks&lt;/i&gt; | most." in page and "<b>A1" not in page and "Published: +.2" in page
    rows = list(csv.DictReader(io.StringIO(claims_csv(results))))
    assert [(row["claim"], row["verdict"]) for row in rows] == [("<b>A1", "supported")] * 2 + [("A2", "contradicted")]
    assert all(float(row["low"]) < float(row["difference"]) < float(row["high"]) for row in rows)
    judged_of(varied, of={"model": "b"}, than={"model": "a"})
    again = VariedResults.read(varied)
    assert "All comparisons of v" in axes_html(again) and "## Claims" in axes_markdown(again)
    write_report(again, tmp_path)
    assert (tmp_path / "claims.csv").read_text() == claims_csv(again)
    write_report(with_claims(folder), tmp_path)
    assert not (tmp_path / "claims.csv").exists() and "## Claims" not in (tmp_path / "report.md").read_text()
    assert (folder / MANIFEST).is_file()
