"""Plants: which records they change, that their control is alike, and what training and scoring make of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from byrote.plants.base import Tools, free, plant_all
from byrote.plants.duplicates import Duplicates
from byrote.plants.mislabel import Mislabel
from byrote.report.accounts import accounts
from byrote.runner.study import run
from byrote.runner.trained import TrainedRun
from byrote.store import Manifest
from byrote.study import Study
from byrote.types import MISLABELLED, Record, Splits, StudyError, TokenStats
from small_study import make_folder, study_of

LABELS = ("ant", "bee", "cat", "dog")


def splits_of(members: int = 200, nonmembers: int = 100) -> Splits:
    def part(name: str, count: int) -> tuple[Record, ...]:
        return tuple(Record(f"{name}{at}", f"{name} {at}", label=LABELS[at % 4]) for at in range(count))

    return Splits(part("m", members), part("n", nonmembers), part("v", 10), part("t", 10))


def planted(plants: list[Any], splits: Splits, seed: int) -> Splits:
    """These plants ask no model."""
    return plant_all(plants, splits, LABELS, seed, tools=cast(Tools, None))


def test_mislabel_changes_labels_of_members_and_of_as_many_nonmembers() -> None:
    drawn = splits_of()
    splits = planted([Mislabel(members=40)], drawn, seed=3)
    for before, after in ((drawn.members, splits.members), (drawn.nonmembers, splits.nonmembers)):
        flipped = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert len(flipped) == 40
        for a, b in flipped:
            assert b.label != a.label == b.truth and b.label in LABELS
            assert (b.planted_by, b.slice) == ("mislabel", MISLABELLED)
            assert b.rightly_labelled == a
            assert b.score_id != a.score_id and a.score_id == a.id
    assert (splits.validation, splits.test) == (drawn.validation, drawn.test)


def test_mislabel_takes_any_record_and_any_other_label_evenly() -> None:
    """40 of 200 records over 200 seeds: each about 40 times, and each wrong label a third of the time."""
    chosen: Counter[str] = Counter()
    wrong: Counter[int] = Counter()
    for seed in range(200):
        for record in planted([Mislabel(members=40)], splits_of(), seed).members:
            if record.truth is not None and record.label is not None:
                chosen[record.id] += 1
                wrong[(LABELS.index(record.label) - LABELS.index(record.truth)) % 4] += 1
    counts = np.array([chosen[f"m{at}"] for at in range(200)])
    chi2 = ((counts - 40) ** 2 / (40 * 0.8)).sum()  # 199 degrees of freedom: mean 199, standard deviation 20
    assert 199 - 5 * 20 < chi2 < 199 + 5 * 20
    assert set(wrong) == {1, 2, 3}
    assert all(abs(count - 8000 / 3) < 5 * np.sqrt(8000 * 2 / 9) for count in wrong.values())


def test_a_seed_plants_the_same_and_another_seed_other_records() -> None:
    plants = [Mislabel(members=20)]
    first, again, other = (planted(plants, splits_of(), seed) for seed in (1, 1, 2))
    assert first == again != other


def test_two_plants_leave_each_others_records_alone() -> None:
    plants = [Mislabel(members=90), Duplicates(copies=(2, 4), members=50)]
    slices = Counter(record.slice for record in planted(plants, splits_of(), seed=0).members)
    assert slices == {MISLABELLED: 90, "copies=2": 50, "copies=4": 50, "": 10}


def test_records_with_near_copies_are_left_alone() -> None:
    records = [Record("a", "a", group="g"), Record("b", "b", group="g"), Record("c", "c"), Record("d", "d", copies=2)]
    assert free([*records[:3], replace(records[3], planted_by="duplicates")]) == [2]


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (Mislabel(members=300), "300 members a wrong label, but there are 200"),
        (Mislabel(members=150), "150 nonmembers a wrong label, but there are 100"),
        (Duplicates(copies=(1, 2, 4), members=100), "3 tiers of 100 members, 300 in all, but there are 200"),
    ],
)
def test_more_than_there_is_cannot_be_planted(plant: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        planted([plant], splits_of(), seed=0)


def test_a_prediction_read_for_another_label() -> None:
    classes = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    of = TokenStats(classes[:1], np.zeros(1, np.float32), np.ones(1, np.float32), np.array([2], np.int32), 0, classes)
    for index, rank in enumerate((2, 0, 1)):
        read = of.of_class(index)
        assert (float(read.log_prob[0]), int(read.rank[0])) == (float(classes[index]), rank)
        assert read.classes is classes and len(read) == 1


# --- in a study ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("plants"))


def test_copies_are_trained_on_so_often_and_scored_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    records = TrainedRun.records

    def watched(self: TrainedRun, splits: Splits) -> tuple[Record, ...]:
        found = records(self, splits)
        trained[:] = [record.id for record in found]
        return found

    monkeypatch.setattr(TrainedRun, "records", watched)
    plants = [{"name": "duplicates", "copies": [1, 3], "members": 4}]
    results = run(study_of(folder, plants=plants), tmp_path)
    assert [cell.error for cell in results.failed] == []
    times = Counter(trained)
    assert Counter(times.values()) == {1: 6, 3: 4}
    evidence = results.evidence
    assert evidence.slices(0) == ["copies=1", "copies=3"]
    tripled = evidence.part_of(0, "member", "copies=3")
    assert {record for record, count in times.items() if count == 3} == set(tripled.records)
    scores = results.scores()
    of_loss = scores[(scores["attack"] == "loss") & (scores["epoch"] == 2)]
    assert len(of_loss) == 20 and set(of_loss[of_loss["slice"] == "copies=3"]["record_id"]) == set(tripled.records)
    rows = [r for r in results.rows if r.kind == "membership" and r.metric == "auc" and r.epoch == 2]
    assert {(row.slice, row.n) for row in rows} == {("", 20), ("copies=1", 14), ("copies=3", 14)}


def test_what_is_repeated_is_learned_first(folder: Path, tmp_path: Path) -> None:
    plants = [{"name": "duplicates", "copies": [1, 8], "members": 4}]
    scores = run(study_of(folder, plants=plants, epochs=1), tmp_path).scores()
    of = scores[(scores["attack"] == "reference") & (scores["split"] == "member")]
    once, often = (of[of["slice"] == f"copies={count}"]["score"].astype(float) for count in (1, 8))
    assert often.mean() > 2 * once.mean()


def test_a_plant_is_part_of_what_a_run_is_and_no_plant_is_none(folder: Path) -> None:
    def run_id(**changes: Any) -> str:
        study = study_of(folder, **changes)
        return study.experiment(study.methods[0], "none", 0, 1e-3, model="m", data="d").model_dump_json()

    planted = [run_id(plants=[{"name": "duplicates", "copies": [1, 2], "members": count}]) for count in (2, 3)]
    assert len({run_id(), run_id(plants=[]), *planted}) == 3


def test_private_training_declares_the_copies(folder: Path, tmp_path: Path) -> None:
    """Each copy is a record to the guarantee: 10 members of which 4 stand three times are 18 units."""
    plants = [{"name": "duplicates", "copies": [3], "members": 4}]
    results = run(study_of(folder, plants=plants, privacy={"noise_multiplier": 2.0}), tmp_path)
    assert [cell.error for cell in results.failed] == []
    (cell,) = [cell for cell in Manifest.read(tmp_path).cells if cell.method != "none"]
    ledger = results.evidence.pieces[cell.run_id].ledger
    assert ledger is not None and ledger.units == 18 and ledger.steps == 2 * 5
    assert cell.delta == ledger.delta
    (account,) = accounts(results.evidence)
    assert account.copies == 3  # to the limits of what an attack can find, three records in one


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plants": ["mislabl"]}, "unknown plant 'mislabl'. Did you mean 'mislabel'"),
        ({"plants": [{"name": "mislabel", "members": 3}]}, "mislabel reads labels, but objective: lm gives tokens"),
        (
            {"objective": "classification", "attacks": ["loss"], "plants": [{"name": "mislabel", "members": 10}]},
            "10 wrong labels among 10 members",
        ),
        ({"attacks": ["mislabelled-loss"], "objective": "classification"}, "add a plant such as"),
        ({"plants": [{"name": "duplicates", "copies": [2, 2], "members": 1}]}, "stands twice"),
    ],
)
def test_mistakes_are_explained(folder: Path, changes: dict[str, Any], words: str) -> None:
    from pydantic import ValidationError

    with pytest.raises((StudyError, ValidationError), match=words):
        study_of(folder, **changes)


def test_a_study_with_wrong_labels_asks_about_them_by_itself() -> None:
    data = {"source": "x.jsonl", "text": "text", "label": "label", "members": 100}
    common = {"name": "n", "model": "m", "data": data, "methods": ["full"], "objective": "classification"}
    study = Study.model_validate({**common, "plants": [{"name": "mislabel", "members": 10}]})
    assert [attack.name for attack in study.attacks_of("poisoning")] == ["mislabelled-prediction", "mislabelled-loss"]
    assert Study.model_validate(common).attacks_of("poisoning") == []
