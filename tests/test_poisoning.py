"""Wrong labels from end to end: the nulls are what they say, and the rows are what the predictions say."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byrote.report.markdown import report_markdown
from byrote.report.poisoning_rows import CONTROL, MIRRORED
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.report.wrong_labels import (
    excess_sentences,
    standard_error,
    wrong_labels_of,
)
from byrote.runner.context import Context
from byrote.runner.progress import Progress
from byrote.runner.study import run
from byrote.runner.tables import stats_from
from byrote.runner.trained import TrainedRun
from byrote.statistics.comparison import size_within
from byrote.statistics.interval import difference_of_estimates, difference_of_means, difference_of_rates
from byrote.store import Cell, Manifest, Store
from byrote.study import Study
from byrote.training.loop import Training
from byrote.types import MISLABELLED, Diverged, Estimate, Record, Splits, text_key
from small_study import labelled_study, leave_out_what_is_slow, make_folder

PLANTS = [{"name": "mislabel", "members": 6, "nonmembers": 5}]


class Trained:
    """What every run of a study trained on, by its run id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: dict[str, tuple[Record, ...]] = {}
        of = TrainedRun.records

        def watched(run: TrainedRun, splits: Splits) -> tuple[Record, ...]:
            return self.records.setdefault(run.id, of(run, splits))

        monkeypatch.setattr(TrainedRun, "records", watched)


def study_with_wrong_labels(folder: Path, **changes: Any) -> Study:
    make_folder(folder)
    return labelled_study(
        folder, **{"methods": ["full"], "learning_rate": 1e-2, "epochs": 12, "plants": PLANTS} | changes
    )


@dataclass(frozen=True)
class Done:
    """A study that was run, and what its runs trained on."""

    study: Study
    results: Results
    trained: Trained
    out: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A study that learns its 30 members by heart, six wrong labels among them."""
    folder = tmp_path_factory.mktemp("poisoning")
    study = study_with_wrong_labels(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        trained = Trained(monkeypatch)
        results = run(study, folder / "out")
    assert [cell.error for cell in results.failed] == []
    return Done(study, results, trained, folder / "out")


def cell_of(out: Path) -> Cell:
    (cell,) = [cell for cell in Manifest.read(out).cells if cell.method != "none"]
    return cell


def rows_of(results: Results, name: str, epoch: int = 12) -> dict[tuple[str, str], Row]:
    return {
        (row.metric, row.slice): row
        for row in results.rows
        if (row.kind, row.name, row.epoch) == ("poisoning", name, epoch)
    }


def test_the_nulls_are_trained_on_what_they_say(done: Done) -> None:
    cell, trained = cell_of(done.out), done.trained
    context = Context(done.study, Path(), Store(done.out / "runs"), Progress())
    drawn, planted = context.drawn(0), context.splits(0)
    wrong = {record.id for record in planted.members if record.truth is not None}
    assert len(wrong) == 6
    assert trained.records[cell.run_id] == planted.members
    assert trained.records[cell.nulls["rightly-labelled"]] == drawn.members
    assert trained.records[cell.nulls["left-out"]] == tuple(r for r in drawn.members if r.id not in wrong)


def test_rows_are_what_the_predictions_say(done: Done) -> None:
    """Against numbers counted by hand from the stored class probabilities."""
    results, cell, store = done.results, cell_of(done.out), Store(done.out / "runs")
    context = Context(done.study, Path(), store, Progress())
    members, nonmembers = (
        [record for record in part if record.truth is not None]
        for part in (context.splits(0).members, context.splits(0).nonmembers)
    )

    def log_probs(run_id: str, epoch: int, records: list[Record], *, right: bool = False) -> np.ndarray[Any, Any]:
        stats = stats_from(store.run(run_id).read_table(f"stats/epoch-{epoch:04d}.parquet"))
        found = []
        for record in records:
            classes = stats[text_key(record.text)].classes
            label = record.truth if right else record.label
            assert classes is not None and label is not None
            found.append((classes[context.labels.index(label)], classes.argmax() == context.labels.index(label)))
        return np.array(found, float)

    def auc(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
        return float(((a[:, None] > b).mean() + (a[:, None] >= b).mean()) / 2)

    runs = {"left-out": (cell.nulls["left-out"], 12), "untuned": (cell.base_run_id, 0),
            "rightly-labelled": (cell.nulls["rightly-labelled"], 12)}  # fmt: skip
    ours, control = log_probs(cell.run_id, 12, members), log_probs(cell.run_id, 12, nonmembers)
    share, loss = rows_of(results, "mislabelled-prediction"), rows_of(results, "mislabelled-loss")
    assert share["share", MISLABELLED].value == pytest.approx(ours[:, 1].mean())
    assert share["share", CONTROL].value == pytest.approx(control[:, 1].mean())
    assert share["share-vs-nonmembers", MISLABELLED].value == pytest.approx(ours[:, 1].mean() - control[:, 1].mean())
    assert loss["log-prob", MISLABELLED].value == pytest.approx(ours[:, 0].mean(), rel=1e-5)
    assert loss["auc", MISLABELLED].value == pytest.approx(auc(ours[:, 0], control[:, 0]))
    for name, (run_id, epoch) in runs.items():
        null, null_control = log_probs(run_id, epoch, members), log_probs(run_id, epoch, nonmembers)
        assert share[f"share@{name}", MISLABELLED].value == pytest.approx(null[:, 1].mean())
        excess = share[f"share-vs-{name}", MISLABELLED]
        assert excess.value == pytest.approx((ours - null)[:, 1].mean())
        assert (excess.null_value, excess.n) == (0.0, 6)
        assert loss[f"auc@{name}", MISLABELLED].value == pytest.approx(auc(null[:, 0], null_control[:, 0]))
    true_labels = [
        log_probs(cell.nulls["rightly-labelled"], 12, part, right=True)[:, 0] for part in (members, nonmembers)
    ]
    assert loss[MIRRORED, MISLABELLED].value == pytest.approx(1 - auc(*true_labels))
    # What was learned by heart is above what cannot have been; and the first null is the one of the row.
    assert share["share", MISLABELLED].value > 0.8 > 0.5 > share["share@left-out", MISLABELLED].value
    assert share["share", MISLABELLED].null_value == share["share@left-out", MISLABELLED].value


def test_all_other_numbers_are_of_rightly_labelled_records(done: Done) -> None:
    results = done.results
    rows = [
        row for row in results.rows if (row.kind, row.name, row.metric, row.epoch) == ("membership", "loss", "auc", 12)
    ]
    assert {(row.slice, row.n) for row in rows} == {("", 24 + 15), (MISLABELLED, 6 + 5)}
    assert Summary(results).sizes() == "24 members and 15 nonmembers"


def test_the_report_shows_them_beside_their_nulls(done: Done) -> None:
    results = done.results
    summary = Summary(results)
    section = wrong_labels_of(summary)
    assert section is not None
    (line,) = section.lines
    share = rows_of(results, "mislabelled-prediction")
    assert line.values[0].main == f"{share['share', MISLABELLED].value:.3f}"
    assert line.values[1].main == f"{share['share@left-out', MISLABELLED].value:.3f}"
    text = report_markdown(results)
    assert "## Wrong labels" in text and "6 of 30 members and 5 nonmembers were given a wrong label" in text
    assert "a standard error of about 0.183" in text  # sqrt((6 + 5 + 1) / (12 * 6 * 5))
    assert "20% of the members are mislabelled" in text
    (said,) = excess_sentences(summary)
    assert said.startswith("Wrong labels are learned by rote with **full")


def test_thirty_wrong_labels_have_the_published_standard_error() -> None:
    """Ma 2024's 30 against 30: 0.075."""
    assert round(standard_error(30, 30), 3) == 0.075


def test_a_second_run_does_nothing_and_one_null_can_be_left_out(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done.out, tmp_path / "out")

    def never(*arguments: object) -> None:
        raise AssertionError("nothing should be trained")

    monkeypatch.setattr(Training, "run", never)
    again = run(done.study, tmp_path / "out")
    assert not again.failed and again.csv() == done.results.csv()
    fewer = run(done.study.model_copy(update={"nulls": ["rightly-labelled"]}), tmp_path / "out")
    assert not fewer.failed
    share = rows_of(fewer, "mislabelled-prediction")
    assert ("share@left-out", MISLABELLED) not in share
    assert share["share", MISLABELLED].null_value == share["share@untuned", MISLABELLED].value


def test_a_null_that_fails_costs_no_finished_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure = TrainedRun.ensure

    def failing(self: TrainedRun, *arguments: Any, **options: Any) -> bool:
        if self.experiment.trains_on == "rightly labelled":
            raise Diverged("the validation loss is nan")
        return ensure(self, *arguments, **options)

    monkeypatch.setattr(TrainedRun, "ensure", failing)
    results = run(study_with_wrong_labels(tmp_path, epochs=1), tmp_path / "out")
    cell = cell_of(tmp_path / "out")
    assert not results.failed and set(cell.nulls) == {"rightly-labelled"}
    assert any("The null left-out could not be trained: the validation loss is nan" in w for w in results.warnings)


def test_seeds_are_pooled_and_privacy_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    levels = ["none", {"noise_multiplier": 4.0}]
    study = study_with_wrong_labels(tmp_path, seeds=[0, 1], privacy=levels, nulls=["left-out"])
    results = run(study, tmp_path / "out")
    assert not results.failed
    summary = Summary(results)
    index, (measure, _) = SlicedIndex(summary, "poisoning"), results.evidence.poisonings
    plain, private = summary.tuned
    pooled = index.get(plain, measure, "share-vs-left-out", MISLABELLED)
    single = [
        row.value or 0.0
        for row in results.rows
        if (row.metric, row.slice, row.privacy, row.epoch) == ("share-vs-left-out", MISLABELLED, "none", 12)
        and row.seed is not None
    ]
    assert pooled is not None and pooled.value == pytest.approx(np.mean(single)) and len(single) == 2
    falls = index.get(private, measure, "share-excess-vs-none", MISLABELLED)
    assert falls is not None and falls.value is not None and falls.high is not None and falls.value < 0
    said = any("Privacy lowers the excess" in sentence for sentence in excess_sentences(summary))
    assert said == (falls.high < 0)  # two seeds, and noise of the system's own: not shown every time
    # Whatever private numbers show, the section says how far they are resolved.
    section = wrong_labels_of(summary)
    row = index.get(private, measure, "share-vs-left-out", MISLABELLED)
    assert section is not None and row is not None and row.low is not None and row.high is not None
    statements = " ".join(section.statements)
    inside = row.low >= -0.05 and row.high <= 0.05
    assert ("lies within ±0.05 of 0" in statements) == inside
    assert ("Neither an excess nor its absence" in statements) == (not inside and row.low <= 0 <= row.high)


def test_the_untuned_model_is_measured_by_true_labels_whatever_another_seed_plants(tmp_path: Path) -> None:
    """A test record of one seed is a mislabelled member of another; the base run is shared by both."""
    study = study_with_wrong_labels(tmp_path, seeds=[0, 1, 2], methods=["head"], epochs=1, nulls=[])
    results = run(study, tmp_path / "out")
    store = Store(tmp_path / "out" / "runs")
    context = Context(study, Path(), store, Progress())
    planted = {record.id for seed in (0, 1, 2) for record in context.mislabelled(seed)}
    touched = 0
    for cell in (cell for cell in results.manifest.cells if cell.method == "none"):
        test = context.drawn(cell.seed).test
        touched += len(planted & {record.id for record in test})
        stats = stats_from(store.run(cell.run_id).read_table("stats/epoch-0000.parquet"))
        right = [
            stats[text_key(r.text)].classes.argmax() == context.labels.index(r.label)  # type: ignore[union-attr, arg-type]
            for r in test
        ]
        (row,) = [r for r in results.rows if (r.run_id, r.seed, r.metric) == (cell.run_id, cell.seed, "accuracy")]
        assert row.value == pytest.approx(np.mean(right))
    assert touched > 0


@pytest.mark.parametrize("first", ["mislabel", "duplicates"])
def test_the_true_label_null_differs_in_labels_alone(first: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Whatever other plant stands beside, and in whichever order."""
    trained = Trained(monkeypatch)
    plants = sorted([*PLANTS, {"name": "duplicates", "copies": [3], "members": 4}], key=lambda p: p["name"] != first)
    results = run(study_with_wrong_labels(tmp_path, plants=plants, epochs=1), tmp_path / "out")
    assert not results.failed
    cell = cell_of(tmp_path / "out")
    ours, theirs = trained.records[cell.run_id], trained.records[cell.nulls["rightly-labelled"]]
    assert len(ours) == 30 + 2 * 4
    assert [record.id for record in ours] == [record.id for record in theirs]
    assert sum(a.label != b.label for a, b in zip(ours, theirs, strict=True)) == 6


def test_a_difference_of_estimates_is_that_of_normal_ones_and_keeps_their_skew() -> None:
    first, second = Estimate(0.5, 0.2, 0.8, 10, "x"), Estimate(0.1, -0.3, 0.5, 20, "x")
    found = difference_of_estimates(first, second)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.4, -0.1, 0.9, 30))  # 3, 4, 5
    assert difference_of_estimates(first, Estimate.absent("too few", 1)).reason == "too few"
    skewed = difference_of_estimates(Estimate(1.0, 0.7, 1.0, 9, "x"), Estimate(0.0, 0.0, 0.4, 9, "x"))
    assert (skewed.low, skewed.high) == pytest.approx((0.5, 1.0))


def test_paired_rates_are_covered_where_hardly_a_pair_differs() -> None:
    """Agresti and Min's interval: at least 93 of 100, where the linearised one falls to 80 and less."""
    generator = np.random.default_rng(3)
    for up, down in ((0.005, 0.005), (0.02, 0.01), (0.1, 0.05), (0.4, 0.05)):
        hits = 0
        for _ in range(1000):
            drawn = generator.choice([1.0, -1.0, 0.0], p=[up, down, 1 - up - down], size=120)
            found = difference_of_rates(drawn)
            assert found.low is not None and found.high is not None and found.low < found.high
            hits += found.low <= up - down <= found.high
        assert hits >= 930, (up, down, hits)
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        difference_of_rates([0.5, 1.0])


def test_the_seeds_that_it_would_take() -> None:
    """Three seeds with a spread of 0.036 have a half-width of 0.09; 0.05 takes five: t(4) 0.036 / sqrt(5) = 0.045."""
    half = 4.3027 * 0.036 / 3**0.5
    assert half == pytest.approx(0.0894, abs=1e-3)
    pooled = Estimate(0.0, -half, half, 3, "t-over-seeds", 0.0)
    assert size_within(pooled, 0.05) == 5
    assert size_within(pooled, half) == 3


def test_two_untrained_models_differ_by_nothing() -> None:
    """Welch's interval against scipy's, and its coverage where nothing differs."""
    from scipy.stats import ttest_ind

    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        a, b = generator.normal(size=30), generator.normal(scale=3, size=50)
        found = difference_of_means(a, b)
        limits = ttest_ind(a, b, equal_var=False).confidence_interval()
        assert (found.low, found.high) == pytest.approx((limits.low, limits.high))
        hits += (found.low or 0.0) <= 0 <= (found.high or 0.0)
    assert 0.92 <= hits / 400 <= 0.98
    assert difference_of_means([1.0], [1.0, 2.0]).value is None
