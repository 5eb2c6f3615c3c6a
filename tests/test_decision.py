"""What to choose: planted leakage and utility, the rule of domination in closed form, and when nothing is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from byrote.report.contest import Contest, Duel, contest_of
from byrote.report.decision import Decision
from byrote.report.findings import Configuration, Finding
from byrote.report.frontier import LARGEST, SMALLEST, frontier_of
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.palette import styles
from byrote.report.privacy_rows import auc_difference
from byrote.report.quantities import Gain, Quantity, gain
from byrote.report.recommendation import recommendation, rule_of
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.utility_rows import utility_difference
from byrote.statistics.interval import pool_over_seeds
from byrote.store import RunFolder
from byrote.types import Estimate
from report_folder import build

METHODS = ("full", "lora", "prompt-tuning")


def decision_in(folder: Path, **options: Any) -> Decision:
    build(folder, **{"methods": METHODS, "attacks": ("loss", "reference"), "epochs": 2, **options})
    return Decision(Summary(Results.read(folder)))


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """Prompt-tuning learns and leaks nothing; the others learn more and leak."""
    return decision_in(tmp_path_factory.mktemp("clear"), members=1000, test=400, epochs=1)


def labels(found: Sequence[Finding]) -> list[str]:
    return [one.configuration.label for one in found]


def test_what_helps_and_leaks_nothing_is_chosen_and_the_price_of_more_is_told(clear: Decision) -> None:
    assert labels(clear.useful) == ["full", "lora", "prompt-tuning"]
    assert [clear.state(one) for one in clear.contest.tuned] == ["leaks", "leaks", "clean"]
    assert clear.outcome == "chosen" and labels(clear.chosen) == ["prompt-tuning"]
    first, *rest = recommendation(clear)
    row = clear.summary.tuned[2].auc[clear.summary.headline]  # type: ignore[index]
    assert first.startswith("Choose **prompt-tuning**: at perplexity ")
    assert "leaks nothing that 1,000 members and 1,000 nonmembers can show by the reference attack" in first
    assert f"AUC {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] lies within ±0.05 of its null" in first
    ahead = clear.contest.duel(clear.summary.tuned[0], clear.chosen[0])
    assert ahead is not None and ahead.is_more_useful
    better = f"{100 * math.expm1(ahead.utility.estimate.value):.2g}%"  # type: ignore[arg-type]
    assert rest[0].startswith(f"More utility has a price: **full** is better in perplexity by {better} [")
    assert "], but leaks: AUC " in rest[0]
    for page in (report_html(clear.summary.results), report_markdown(clear.summary.results)):
        assert "it leaks nothing that 1,000 members" in page and "More utility has a price" in page


def test_gains_are_the_paired_differences_of_the_same_records(clear: Decision) -> None:
    contest, evidence = clear.contest, clear.summary.results.evidence
    full, lora = contest.tuned[:2]
    duel = contest.duel(lora, full)
    assert duel is not None
    cells = [(one.configuration.done[0], 1) for one in (lora, full)]
    leaks = auc_difference(evidence, *cells, clear.summary.headline, "full")  # type: ignore[arg-type]
    ratio = utility_difference(evidence, *cells, clear.summary.chosen_by)  # type: ignore[arg-type]
    assert (duel.leakage.estimate.value, duel.leakage.estimate.low) == (-leaks.value, -leaks.high)  # type: ignore[operator]
    assert duel.utility.estimate.value == pytest.approx(-math.log(ratio.value))  # type: ignore[arg-type]
    assert duel.utility.estimate.low == pytest.approx(-math.log(ratio.high))  # type: ignore[arg-type]
    back = contest.duel(full, lora)
    assert back is not None and back.leakage.estimate.high == -duel.leakage.estimate.low  # type: ignore[operator]
    base = contest.duel(lora, clear.summary.base)  # type: ignore[arg-type]
    auc = lora.auc[clear.summary.headline]  # type: ignore[index]
    assert base is not None and base.leakage.estimate.value == pytest.approx(0.5 - auc.value)  # type: ignore[operator]
    assert contest.comparisons == 2 * 6, "four entrants, two quantities"


SHOWN, SAME = Estimate(0.2, 0.1, 0.3, 9, "x", 0.0), Estimate(0.01, -0.02, 0.04, 9, "x", 0.0)
WIDE, LOST = Estimate(0.0, -0.08, 0.08, 9, "x", 0.0), Estimate(-0.02, -0.03, -0.01, 9, "x", 0.0)


@pytest.mark.parametrize(
    ("leakage", "utility", "expected"),
    [
        (SHOWN, SAME, True),  # leaks less, no less useful within the margin
        (SHOWN, SHOWN, True),
        (SAME, SHOWN, True),
        (SAME, SAME, False),  # alike in both: neither dominates
        (SHOWN, WIDE, False),  # may be less useful by more than the margin
        (SHOWN, LOST, False),  # is shown to be less useful, though by less than the margin
        (LOST, SHOWN, False),
        (Estimate.absent("not scored"), SHOWN, False),
    ],
)
def test_the_rule_of_domination(clear: Decision, leakage: Estimate, utility: Estimate, expected: bool) -> None:
    one, other = clear.contest.tuned[:2]
    key = (one.configuration, other.configuration)
    duel = Duel(Gain(leakage, True), Gain(utility, True), leakage is SHOWN, utility is SHOWN)
    margins: list[Quantity] = [replace(clear.contest.utility, margin=0.05) for _ in range(2)]  # type: ignore[type-var]
    found = Contest(margins[0], margins[1], (one, other), {key: duel}, 2)
    assert (found.dominators(other) == [one]) is expected
    assert found.dominators(one) == []


def test_no_two_methods_dominate_each_other_and_something_always_stands(tmp_path: Path) -> None:
    for seed, epochs in ((0, 1), (3, 4), (5, 5)):
        folder = tmp_path / str(seed)
        found = decision_in(folder, methods=("full", "head", "lora", "prefix-tuning", "prompt-tuning"), seeds=(seed,),
                            epochs=epochs, members=150, test=60).contest  # fmt: skip
        both = [
            (a, b) for a, b in permutations(found.entrants, 2) if a in found.dominators(b) and b in found.dominators(a)
        ]
        assert both == []
        assert any(not found.dominators(one) for one in found.entrants)


def test_seeds_are_pooled_and_few_must_agree(tmp_path: Path) -> None:
    found = decision_in(tmp_path, seeds=(0, 1, 2), members=150, test=60)
    quantity = found.contest.leakage
    assert quantity is not None
    full, lora = found.contest.tuned[:2]
    cells = zip(lora.configuration.done, full.configuration.done, strict=True)
    alone = [quantity.difference(*pair) for pair in cells]
    pooled = pool_over_seeds([Estimate(-e.value, -e.high, -e.low, e.n, e.interval, 0.0) for e in alone])  # type: ignore[operator]
    measured = gain(quantity, lora, full)
    assert measured.agreed and (measured.estimate.value, measured.estimate.low) == (pooled.value, pooled.low)
    # Three seeds that agree by luck, though none of them shows anything alone; five may be believed.
    lucky = replace(quantity, difference=lambda one, other: _around(0.03 + 0.001 * one.seed))
    few = gain(lucky, full, lora)
    assert few.estimate.high is not None and few.estimate.high < 0.0 and not few.agreed and not few.is_better


def _around(value: float) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05, 300, "delong-paired", 0.0)


def test_nothing_is_chosen_where_nothing_helps(tmp_path: Path) -> None:
    found = decision_in(tmp_path, methods=("full", "head"), epochs=5, members=150)
    assert (found.outcome, found.useful) == ("useless", [])
    first, second, third = recommendation(found)
    assert first.startswith("None is recommended: no method is shown to improve perplexity over the untuned model")
    assert "The best is **full** with" in first and second.startswith("All are shown to be worse than untuned")
    assert third == "Dominated: **full** and **head** (by the untuned model)."


def test_nothing_is_chosen_where_nothing_is_shown_clean_and_what_would_show_it_is_said(tmp_path: Path) -> None:
    found = decision_in(tmp_path, methods=("lora", "prompt-tuning"), members=120, test=300, epochs=3)
    assert [found.state(one) for one in found.contest.tuned] == ["leaks", "open"] and found.outcome == "unclean"
    first, second, *_ = recommendation(found)
    assert first == "None is recommended as safe: no method that is shown to improve perplexity is shown not to leak."
    assert second.startswith("Not resolved: **prompt-tuning** (AUC 0.") and "would show it, it has 240" in second
    alone = decision_in(tmp_path / "lora", methods=("lora",), members=400, test=300, epochs=3)
    assert recommendation(alone)[0] == (
        "None is recommended as safe: every method that is shown to improve perplexity also leaks."
    )


def test_a_spoilt_split_and_a_missing_measure_recommend_nothing(clear: Decision, tmp_path: Path) -> None:
    spoilt = Decision(Summary(Results.read(_built(tmp_path / "a"))))
    spoilt.summary.results.__dict__["broken_splits"] = ["told apart"]
    assert recommendation(spoilt) == [
        "Nothing is recommended: members and nonmembers can be told apart without any model, so no membership "
        "number says what was learned."
    ]
    assert spoilt.chosen == [] and spoilt.outcome == "nothing"
    manifest = build(_built(tmp_path / "b"), methods=METHODS, attacks=("loss",), members=60, test=20, epochs=1)
    for cleared, said in (({"utility": []}, "measures no utility"), ({"attacks": []}, "measures no leakage")):
        manifest.model_copy(update=cleared).write(tmp_path / "b")
        of = Decision(Summary(Results.read(tmp_path / "b")))
        assert said in recommendation(of)[0] and rule_of(of) == "" and of.contest.undominated() == []


def _built(folder: Path) -> Path:
    build(folder, methods=METHODS, attacks=("loss", "reference"), members=60, test=20, epochs=1)
    return folder


def test_a_private_method_whose_account_does_not_hold_is_never_chosen(tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": ("prompt-tuning",), "members": 1000, "test": 400, "levels": ("none", "8")}
    found = decision_in(tmp_path, **options)
    assert labels(found.chosen)[0] == "prompt-tuning" and "prompt-tuning, ε 8" in labels(found.useful)
    private = next(one for one in found.contest.tuned if one.configuration.private)
    assert found.guaranteed(private) and found.state(private) == "clean"
    cell = private.configuration.done[0]
    RunFolder(tmp_path / "runs" / cell.run_id).remove("ledger.json")
    again = Decision(Summary(Results.read(tmp_path)))
    assert not again.guaranteed(next(one for one in again.contest.tuned if one.configuration.private))


def test_the_price_of_privacy_is_told_in_percent_of_perplexity(tmp_path: Path) -> None:
    found = decision_in(tmp_path, methods=("lora",), members=300, test=3000, levels=("none", "8"), epochs=1)
    row = found.summary.tuned[1].utility_versus[found.summary.chosen_by]  # type: ignore[index]
    assert row.value is not None and row.low is not None and row.high is not None and row.low > 1.0
    said = " ".join(recommendation(found))
    shown = [f"{100 * (x - 1):.2g}%" for x in (row.value, row.low, row.high)]
    assert "**lora, ε 8** (perplexity" in said or "Choose **lora, ε 8**: at perplexity" in said
    assert f", {shown[0]} [{shown[1]}, {shown[2]}] worse than without privacy" in said


def test_the_picture_marks_what_is_not_dominated_and_its_sizes_say_the_cost(clear: Decision) -> None:
    look = styles(clear.summary.configurations)
    frontier = frontier_of(clear, look)
    assert frontier is not None and frontier.labels == ["AUC of loss", "AUC of reference"]
    assert (frontier.start, frontier.judged) == (1, "AUC of reference")
    assert frontier.size == "The larger a mark, the more trainable parameters: 1.28 k to 1.38 M, by the logarithm."
    figure = frontier.figures[1]
    assert figure is not None
    marks = {trace["name"]: trace for trace in figure["data"] if trace.get("name")}
    sizes = {name: trace["marker"]["size"] for name, trace in marks.items()}
    assert (sizes["prompt-tuning"], sizes["full"]) == (SMALLEST, LARGEST) and SMALLEST < sizes["lora"] < LARGEST
    rings = {
        trace["legendgroup"]
        for trace in figure["data"]
        if trace["marker"]["symbol"] == "circle-open" and not trace.get("name")
    }
    left = clear.contest.undominated()
    assert rings == {str(look[one.configuration].key) for one in left} and left
    for one in left:
        trace, row = marks[one.configuration.label], one.utility[clear.summary.chosen_by]  # type: ignore[index]
        assert trace["text"] == [f"<b>{one.configuration.label}</b>"] and trace["x"] == [row.value]
        assert trace["error_x"]["array"] == [row.high - row.value]  # type: ignore[operator]
    other = frontier.figures[0]
    assert other is not None and not any(
        trace["marker"]["symbol"] == "circle-open" and trace.get("hoverinfo") for trace in other["data"]
    )


def test_the_table_has_what_is_not_dominated_in_bold(clear: Decision) -> None:
    page = report_html(clear.summary.results)
    rows = [part.split("</tr>")[0] for part in page.split("<tr")[1:] if 'class="verdict' in part]
    best = {one.configuration.label for one in clear.contest.undominated()}
    bold = {label for label in METHODS for row in rows if row.startswith(' class="best"') and f"</svg>{label}<" in row}
    assert bold == best and page.count("not dominated</span>") == len(best)
    assert rule_of(clear) in page.replace("&#39;", "'")


def test_more_methods_than_can_be_told_apart_are_not_compared(clear: Decision) -> None:
    summary = clear.summary
    one = summary.tuned[0]
    many = [replace(one, configuration=replace(one.configuration, settings=f'{{"r":{at}}}')) for at in range(30)]
    crowd = Summary(summary.results)
    crowd.__dict__["findings"] = many
    found = contest_of(crowd)
    assert isinstance(many[0].configuration, Configuration) and found.duels == {}
