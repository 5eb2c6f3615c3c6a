"""Shadow models as runs: who is in which half, what is trained once and shared, and what survives a kill."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from byrote.methods.full import Full
from byrote.report.markdown import report_markdown
from byrote.report.results import Results
from byrote.report.shadow_curve import lines_of, strength_of
from byrote.report.summary import Summary
from byrote.runner.method_run import MethodRun
from byrote.runner.plan import plan
from byrote.runner.progress import Interrupted
from byrote.runner.study import run
from byrote.runner.trained import TrainedRun
from byrote.store import Manifest
from byrote.study import Experiment
from byrote.study.model import Study
from byrote.training.loop import Training
from byrote.types import ByroteError, Ledger, Record, Splits
from small_study import (
    RATE,
    STEPS,
    count_work,
    differing,
    labelled_study,
    leave_out_what_is_slow,
    run_facts_of,
    study_of,
)

FOUR: list[Any] = [
    "loss",
    {"name": "lira", "shadows": 4},
    {"name": "rmia", "shadows": 4},
    {"name": "bayes-base", "shadows": 3},
]


pytestmark = pytest.mark.usefixtures("quick")


def small(folder: Path, **changes: Any) -> Study:
    """A study with shadows and nothing beside them."""
    return study_of(folder, **{"attacks": FOUR, "positive_control": False, **changes})


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The small study's results, and how much was trained."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_what_is_slow(patch)
        work = count_work(patch)
        assert not run(small(folder), out).failed
    return out, work


def shadow_ids(out: Path) -> list[str]:
    (cell,) = [cell for cell in Manifest.read(out).cells if cell.method != "none"]
    return cell.shadows


# --- the law -------------------------------------------------------------------------------------


class Bare(MethodRun):
    """A run of which only the draw of its records is asked."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def is_done(self, wanted: Any) -> bool:
        """No."""
        return False

    def ensure(self, splits: Splits, wanted: Any) -> bool:
        """Nothing."""
        return False

    def check_room(self, model: Any, target: Any, splits: Splits) -> None:
        """Nothing."""


MADE = Study.model_validate({"name": "x", "model": "m", "data": {"source": "s", "members": 2}, "methods": ["full"]})


def drawn(splits: Splits, shadow: int | None, seed: int = 0) -> tuple[Record, ...]:
    experiment = MADE.experiment(Full(), "none", seed, RATE, model="m", data="d", shadow=shadow)
    return Bare(experiment).records(splits)


def part(name: str, size: int, together: int = 1) -> tuple[Record, ...]:
    return tuple(Record(f"{name}{at}", f"{name} {at}", group=f"{name}-{at // together}") for at in range(size))


SPLITS = Splits(part("m", 150), part("n", 150), part("v", 5), part("t", 5))
MANY = 200


@pytest.fixture(scope="module")
def halves() -> np.ndarray:
    """(300, MANY) whether each member and nonmember is in each shadow."""
    asked = SPLITS.members + SPLITS.nonmembers
    rows = []
    for shadow in range(1, MANY + 1):
        ids = {record.id for record in drawn(SPLITS, shadow)}
        assert ids <= {record.id for record in asked}  # never of validation or test
        rows.append([record.id in ids for record in asked])
    return np.array(rows).T


def test_each_record_is_in_half_of_the_shadows(halves: np.ndarray) -> None:
    counts = halves.sum(1)
    statistic = float(((counts - MANY / 2) ** 2 / (MANY / 4)).sum())
    assert 1e-4 < stats.chi2.sf(statistic, len(counts)) < 1 - 1e-4
    sizes = halves.sum(0)  # and each shadow has about half of the records
    assert 1e-4 < stats.chi2.sf(float(((sizes - 150) ** 2 / 75).sum()), MANY) < 1 - 1e-4


def test_halves_say_nothing_of_each_other_nor_of_who_is_a_member(halves: np.ndarray) -> None:
    centred = 2.0 * halves - 1.0
    between = (centred.T @ centred)[np.triu_indices(MANY, 1)] / np.sqrt(len(halves))
    assert abs(between.mean()) < 4 / np.sqrt(len(between)) and abs(between.std() - 1) < 0.05
    is_member = np.where(np.arange(300) < 150, 1.0, -1.0)
    with_members = is_member @ centred / np.sqrt(300)
    assert abs(with_members.mean()) < 4 / np.sqrt(MANY) and abs(with_members.std() - 1) < 4 / np.sqrt(2 * MANY)


def test_a_shadow_is_another_run_with_chance_of_its_own() -> None:
    assert drawn(SPLITS, None) == SPLITS.members
    experiments = [
        MADE.experiment(Full(), "none", 0, RATE, model="m", data="d", shadow=number) for number in (None, 1, 2)
    ]
    for purpose in ("training", "order"):
        assert len({Bare(one).seed(purpose) for one in experiments}) == 3
    assert drawn(SPLITS, 1) == drawn(SPLITS, 1) != drawn(SPLITS, 1, seed=1)
    assert "shadow" not in experiments[0].model_dump(mode="json")  # it keeps its identity from before there were any
    assert experiments[1].model_dump(mode="json")["shadow"] == 1


def test_copies_go_together_and_planted_ones_are_trained_on_as_often() -> None:
    splits = Splits(part("m", 60, 3), part("n", 60, 3), part("v", 5), part("t", 5))
    groups = Counter(record.group for record in drawn(splits, 1))
    assert set(groups.values()) == {3} and 5 < len(groups) < 35
    planted = replace(splits, members=tuple(replace(record, copies=4) for record in splits.members))
    counts = Counter(record.id for record in drawn(planted, 1))
    assert {count for name, count in counts.items() if name.startswith("m")} == {4}
    assert {count for name, count in counts.items() if name.startswith("n")} == {1}


# --- runs ----------------------------------------------------------------------------------------


def records_of(out: Path, run_id: str) -> dict[str, Any]:
    return Manifest.read(out).store(out).run(run_id).read_json("experiment.json") or {}


def test_shadows_are_trained_once_and_shared(finished: tuple[Path, dict[str, int]], folder: Path) -> None:
    out, work = finished
    ids = shadow_ids(out)
    assert len(set(ids)) == 4
    experiments = [records_of(out, run_id) for run_id in ids]
    assert [one["shadow"] for one in experiments] == [1, 2, 3, 4]
    assert {one["learning_rate"] for one in experiments} == {RATE}
    store = Manifest.read(out).store(out)
    for run_id in ids:
        assert not (store.run(run_id).path / "weights").exists()
        assert store.run(run_id).read_table("scores.parquet") is None
    sizes = [len(drawn_in(out, folder, number)) for number in range(1, 5)]
    assert work["steps"] == STEPS + sum(2 * -(-size // 4) for size in sizes)


def drawn_in(out: Path, folder: Path, number: int) -> Sequence[Record]:
    from byrote.runner.context import Context
    from byrote.runner.progress import Progress

    study = small(folder)
    context = Context(study, Path(), Manifest.read(out).store(out), Progress())
    experiment = study.experiment(
        Full(), "none", 0, RATE, model=context.model.fingerprint, data=context.data.fingerprint, shadow=number
    )
    return Bare(experiment).records(context.splits(0))


def test_again_there_is_nothing_to_do_and_more_shadows_are_all_that_is_new(
    finished: tuple[Path, dict[str, int]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    work, store = count_work(monkeypatch), tmp_path / "store"
    shutil.copytree(Manifest.read(out).store(out).root, store)
    run(small(folder), tmp_path / "again", store)
    assert work == {"steps": 0, "texts": 0}
    run(small(folder, attacks=["loss", {"name": "bavaria", "shadows": 5}]), tmp_path / "more", store)
    assert work["steps"] == 2 * -(-len(drawn_in(out, folder, 5)) // 4) and work["texts"] > 0
    assert shadow_ids(tmp_path / "more")[:4] == shadow_ids(out)


def test_every_number_of_shadows_has_its_rows(finished: tuple[Path, dict[str, int]]) -> None:
    results = Results.read(finished[0])
    rows = [row for row in results.rows if row.method == "full" and row.metric == "auc"]
    settings = {(row.name, json.loads(row.settings or "{}").get(row.name, {}).get("shadows")) for row in rows}
    assert {("lira", 2), ("lira", 4), ("rmia", 2), ("rmia", 4), ("bayes-base", 2), ("bayes-base", 3)} <= settings
    shadows = [row for row in rows if row.name != "loss"]
    assert {row.epoch for row in shadows} == {2} and {row.null_value for row in shadows} == {0.5}
    assert all(row.value is not None or row.reason for row in shadows)
    against = [row for row in results.rows if row.metric == "tpr@fpr=0.01-vs-loss"]
    assert {(row.name, row.reason) for row in against} >= {("bayes-base", "needs 1000 nonmembers, has 10")}
    summary = Summary(results)
    strength = strength_of(summary)
    assert strength is not None and [head.title for head in strength.columns[:3]] == [
        "2 shadow models", "3 shadow models", "4 shadow models"
    ]  # fmt: skip
    assert [line.label for line in strength.lines] == [
        "full: lira", "full: rmia", "full: bayes-base"
    ]  # fmt: skip
    assert "What more shadow models find" in report_markdown(results)
    from byrote.report.palette import styles

    lines = lines_of(summary, styles(summary.configurations))
    assert lines is not None and lines.counts == [2, 3, 4] and len(lines.traces) == 3


def test_dataset_inference_gives_each_seed_a_p_value_and_no_mean_of_them(folder: Path, tmp_path: Path) -> None:
    results = run(small(folder, attacks=["loss", "dataset-inference"], seeds=[0, 1]), tmp_path)
    found = [row for row in results.rows if row.metric == "p-value"]
    assert {(row.name, row.seed, row.epoch) for row in found} == {
        ("dataset-inference", seed, epoch) for seed in (0, 1) for epoch in (1, 2)
    }
    assert all(row.value is not None and 0 <= row.value <= 1 and row.null_value == 0.5 for row in found)


@pytest.mark.parametrize("step", [8, 14])
def test_a_kill_in_a_shadow_costs_the_step_in_hand(
    finished: tuple[Path, dict[str, int]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Step 8 is of the first shadow, 14 of it or of the second."""
    whole = run_facts_of(small(folder), finished[0])
    monkeypatch.setattr(Training, "due_for_saving", property(lambda self: True))
    with monkeypatch.context() as patch:
        done, one_step = 0, Training._step

        def stopped(self: Training, *arguments: Any) -> None:
            nonlocal done
            done += 1
            if done == step:
                raise Interrupted
            one_step(self, *arguments)

        patch.setattr(Training, "_step", stopped)
        with pytest.raises(Interrupted):
            run(small(folder), tmp_path)
    work = count_work(monkeypatch)
    assert differing(run_facts_of(small(folder), tmp_path), whole) == []
    assert work["steps"] == finished[1]["steps"] - (step - 1)


def test_the_dry_run_lists_them_with_their_cost(
    finished: tuple[Path, dict[str, int]], folder: Path, tmp_path: Path
) -> None:
    steps = [step for step in plan(small(folder), tmp_path).steps if step.purpose.startswith("shadow")]
    assert [(step.purpose, step.state, step.seconds) for step in steps] == [
        (f"shadow {number}", "to train", None) for number in range(1, 5)
    ]
    out, _ = finished
    store = Manifest.read(out).store(out).root
    known = plan(small(folder, attacks=["loss", {"name": "lira", "shadows": 5}]), out, store).steps
    (new,) = [step for step in known if step.state != "done" and step.purpose.startswith("shadow")]
    assert (new.purpose, new.state) == ("shadow 5", "to train") and new.seconds is not None and new.seconds > 0
    assert [step.run_id for step in known if step.purpose.startswith("shadow")][:4] == shadow_ids(out)


def test_workers_make_the_same_ones(finished: tuple[Path, dict[str, int]], folder: Path, tmp_path: Path) -> None:
    attacks = ["loss", {"name": "lira", "shadows": 2}]
    study = small(folder, attacks=attacks, methods=["full", "head"])
    assert not run(study, tmp_path, jobs=2).failed
    cells = {cell.method: cell for cell in Manifest.read(tmp_path).cells}
    assert cells["full"].shadows == shadow_ids(finished[0])[:2] and len(cells["head"].shadows) == 2
    ours, theirs = (Manifest.read(out).store(out).run(cells["full"].shadows[0]) for out in (tmp_path, finished[0]))
    name = "queries/epoch-0002.parquet"
    mine, other = ours.read_table(name), theirs.read_table(name)
    assert mine is not None and other is not None
    for column in ("text_key", "log_prob"):
        assert mine[column].to_pylist() == other[column].to_pylist()


def test_the_targets_own_rate_is_theirs(folder: Path, tmp_path: Path) -> None:
    study = small(folder, learning_rate="auto", methods=["head"], epochs=1, attacks=[{"name": "lira", "shadows": 2}])
    assert not run(study, tmp_path).failed
    (cell,) = [cell for cell in Manifest.read(tmp_path).cells if cell.method == "head"]
    rates = {records_of(tmp_path, run_id)["learning_rate"] for run_id in cell.shadows}
    assert len(cell.tried) > 1 and rates == {cell.learning_rate}


def test_private_shadows_have_the_same_level_and_accounts_of_their_own(folder: Path, tmp_path: Path) -> None:
    study = small(
        folder, privacy={"noise_multiplier": 1.0, "accountant": "rdp"}, attacks=["loss", {"name": "lira", "shadows": 2}]
    )
    assert not run(study, tmp_path).failed
    store, ledgers = Manifest.read(tmp_path).store(tmp_path), []
    for run_id in shadow_ids(tmp_path):
        raw = store.run(run_id).read_json("ledger.json")
        assert raw is not None
        ledgers.append(Ledger.read(raw))
    # The declared number is the expected half of members and nonmembers, whatever was drawn.
    assert [(one.units, one.noise_multiplier, one.steps, one.private) for one in ledgers] == [
        (10, 1.0, STEPS, True)
    ] * 2
    assert any(row.metric == "auc" and row.name == "lira" for row in Results.read(tmp_path).rows)


def test_a_method_that_trains_nothing_has_none_and_says_so(folder: Path, tmp_path: Path) -> None:
    method = {"name": "in-context", "demonstrations": 1}
    results = run(small(folder, methods=[method], attacks=["loss", {"name": "lira", "shadows": 2}]), tmp_path)
    assert not results.failed and shadow_ids(tmp_path) == []
    scores = results.scores()
    reasons = set(scores[scores["attack"] == "lira"]["reason"])
    assert reasons == {"needs 2 shadow models, has none: where nothing is trained there are none"}


def test_a_shadow_that_fails_costs_only_its_attacks_and_is_tried_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(folder, attacks=["loss", {"name": "lira", "shadows": 3}, {"name": "bayes-base", "shadows": 2}])
    ensure = TrainedRun.ensure

    def broken(self: TrainedRun, *arguments: Any) -> bool:
        if self.experiment.shadow == 3:
            raise ByroteError("the disk is full")
        return ensure(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainedRun, "ensure", broken)
        results = run(study, tmp_path)
    assert not results.failed
    (cell,) = [cell for cell in results.manifest.cells if cell.method == "full"]
    assert "Shadow model 3 could not be trained: the disk is full" in cell.notes
    assert set(results.scores()["attack"]) == {"loss", "bayes-base"}
    assert set(run(study, tmp_path).scores()["attack"]) == {"loss", "lira", "bayes-base"}


def test_wrong_labels_keep_their_meaning(folder: Path, tmp_path: Path) -> None:
    """A shadow that is given a mislabelled record learns the wrong label, and is asked about that one."""
    study = labelled_study(
        folder,
        methods=["head"],
        epochs=1,
        positive_control=False,
        nulls=[],
        plants=[{"name": "mislabel", "members": 6, "nonmembers": 6}],
        attacks=["loss", {"name": "lira", "shadows": 3}],
    )
    results = run(study, tmp_path)
    assert not results.failed
    scores = results.scores()
    wrong = scores[(scores["attack"] == "lira") & (scores["slice"] == "mislabelled") & (scores["epoch"] == 1)]
    assert len(wrong) == 12 and (wrong["score"].notna() | (wrong["reason"] != "")).all()
