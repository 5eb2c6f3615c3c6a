"""Studies with canaries: these are kept apart from the data, in every number that is not theirs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from byrote.attacks.extraction.base import measure_all
from byrote.report.accounts import accounts
from byrote.report.epsilon_rows import GROUP
from byrote.report.results import Results
from byrote.runner import tables
from byrote.runner.context import Context
from byrote.runner.progress import Progress
from byrote.runner.study import run
from byrote.runner.trained import TrainedRun
from byrote.store import Manifest, Store
from byrote.types import Record, Splits, text_key
from small_study import leave_out_what_is_slow, make_folder, study_of
from test_canaries import CANARY_SLICES, SMALL, context_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("canaries"))


def test_a_study_with_canaries(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    records = TrainedRun.records

    def watched(self: TrainedRun, splits: Splits) -> tuple[Record, ...]:
        found = records(self, splits)
        if self.experiment.trains_on == "members":
            trained[:] = [record.id for record in found]
        return found

    monkeypatch.setattr(TrainedRun, "records", watched)
    attacks = ["loss", "reference"]
    extraction = {"name": "k-extractable", "prefix_tokens": 3, "suffix_tokens": 2}
    results = run(study_of(folder, plants=[SMALL], attacks=[*attacks, extraction], epochs=4), tmp_path)
    assert [cell.error for cell in results.failed] == []
    times = Counter(trained)
    tiers = [f"canary:{family} {tier}" for family in ("random-token", "random-word") for tier in CANARY_SLICES]
    assert Counter(times.values()) == {1: 10 + 12, 8: 12} and not any("test" in one for one in times)
    evidence = results.evidence
    assert evidence.slices(0) == tiers
    for slice_ in tiers:
        inserted, controls = (evidence.part_of(0, side, slice_) for side in ("member", "nonmember"))
        assert (len(inserted), len(controls)) == (6, 12)
        assert set(controls.slices) == {slice_.partition(" copies")[0]} and not set(controls.records) & set(times)
        assert {times[record] for record in inserted.records} == {int(slice_.rpartition("=")[2])}
    for side in ("member", "nonmember"):
        assert set(evidence.part_of(0, side).slices) == {""} and len(evidence.part_of(0, side)) == 10
    rows = {(row.name, row.slice): row for row in results.rows
            if row.kind == "membership" and row.metric == "auc" and row.epoch == 4}  # fmt: skip
    assert {key: row.n for key, row in rows.items()} == {
        (attack, slice_): 18 if slice_ else 20 for attack in attacks for slice_ in ("", *tiers)
    }
    assert rows["reference", "canary:random-token copies=8"].value == 1.0  # what is repeated is learned by rote
    assert rows["loss", tiers[0]].null_value is not None
    out = {(row.metric, row.slice): row.n for row in results.rows if row.kind == "extraction" and row.epoch == 4}
    counts = dict.fromkeys(tiers, 6) | {f"{slice_} nonmembers": 12 for slice_ in tiers}
    assert {slice_: n for (metric, slice_), n in out.items() if metric == "share"} == {
        **counts, "": 10, "nonmembers": 10
    }  # fmt: skip
    sizes = Manifest.read(tmp_path).splits["0"]
    assert (sizes["member"], sizes["nonmember"]) == (10, 10)
    assert (sizes["canaries"], sizes["canary controls"]) == (24, 24)
    assert "10 and 24 canaries" in (tmp_path / "report.html").read_text()


def test_canaries_are_kept_out_of_what_is_learned_of_the_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack that is fitted gives the data's own records the same scores with canaries beside them."""
    leave_out_what_is_slow(monkeypatch)
    data = {"members": 24, "nonmembers": 24}
    changes: dict[str, Any] = {"data": data, "positive_control": True, "learning_rate": 1e-6, "epochs": 1}
    changes["attacks"] = ["loss", {"name": "ensemble", "attacks": ["min-k", "zlib"]}]
    plants = [{**SMALL, "families": ["random-token"]}, {"name": "coin-flips", "canaries": 60, "tokens": 5}]
    scores = {}
    for name, planted in (("plain", []), ("planted", plants)):
        results = run(study_of(folder, plants=planted, **changes), tmp_path / name)
        assert results.failed == [] and results.manifest.positive_control.notes[0] == "24 members"  # type: ignore[union-attr]
        found = results.scores()
        scores[name] = found[(found["attack"] == "ensemble") & (found["slice"] == "")].set_index("record_id")["score"]
        store = results.manifest.store(tmp_path / name)
        blind = store.run(results.manifest.split_folders["0"]).read_table("scores.parquet")
        assert blind is not None and len(blind) == 48
        scores[f"{name} blind"] = dict(zip(*(blind[c].to_pylist() for c in ("record_id", "score")), strict=True))
    assert len(scores["plain"]) == 48 and scores["plain"].equals(scores["planted"])
    assert scores["plain blind"] == scores["planted blind"]
    coins = found[(found["attack"] == "ensemble") & (found["slice"] == "coin-flip:random-token")]
    assert len(coins) == 60 and coins["score"].notna().all()  # of other canaries of their family
    background = context_of(folder, tmp_path / "planted" / "runs", plants=plants, **changes).background(0)
    assert len(background.insiders) == 24 and not any(one.family for one in background.insiders)


def test_private_training_declares_half_of_the_coins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is that of the declared number, whatever fell; each canary of one copy is one unit."""
    leave_out_what_is_slow(monkeypatch)
    drawn: list[int] = []

    from byrote.training.private import Privatiser

    once = Privatiser.draw

    def watched(self: Privatiser) -> list[list[int]]:
        drawn.append(len(self.units))
        return once(self)

    monkeypatch.setattr(Privatiser, "draw", watched)
    plants = [{"name": "coin-flips", "canaries": 31, "tokens": 5}, {**SMALL, "families": ["random-word"]}]
    changes: dict[str, Any] = {"data": {"validation": 20, "test": 20}, "privacy": {"noise_multiplier": 2.0}}
    results = run(study_of(folder, plants=plants, **changes), tmp_path)
    assert [cell.error for cell in results.failed] == []
    (cell,) = [cell for cell in Manifest.read(tmp_path).cells if cell.method != "none"]
    ledger = results.evidence.pieces[cell.run_id].ledger
    coins = results.evidence.part_of(0, "member", "coin-flip:random-token")
    assert ledger is not None and ledger.units == 10 + 16 + 6 * 9
    assert ledger.sampling_rate == 4 / ledger.units and ledger.steps == 2 * 20
    assert set(drawn) == {10 + len(coins) + 6 * 9} and len(coins) != 16
    assert cell.delta == ledger.delta == pytest.approx(ledger.units**-1.1)
    (account,) = accounts(results.evidence)
    assert account.copies == 1  # its limit is for the data's own records, and no canary is among these


def test_coins_of_several_copies_are_held_against_a_group(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    flips = {"name": "coin-flips", "canaries": 31, "tokens": 5}
    changes: dict[str, Any] = {"data": {"validation": 20, "test": 20}, "privacy": {"noise_multiplier": 2.0}}
    once, twice = (study_of(folder, plants=[flips | copies], **changes) for copies in ({"copies": 1}, {"copies": 2}))
    assert once == study_of(folder, plants=[flips], **changes), "and so are its runs"
    assert "copies" not in once.model_dump(mode="json")["plants"][0]
    results = run(twice, tmp_path)
    assert not results.failed
    ledger = next(pieces.ledger for pieces in results.evidence.pieces.values() if pieces.ledger is not None)
    assert ledger.units == 10 + 31, "of the declared half, each twice"
    (group,) = [row for row in results.rows if row.metric == GROUP]
    assert group.slice == "coin-flip:random-token" and (group.n == 2 or group.reason)
    assert group.value is None or group.value > ledger.epsilon


def test_canaries_of_completions(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    lines = (folder / "texts.txt").read_text().splitlines()
    rows = [json.dumps({"prompt": line, "completion": f"w{at % 50} w{at % 7}"}) for at, line in enumerate(lines)]
    (folder / "pairs.jsonl").write_text("\n".join(rows))
    data = {"source": str(folder / "pairs.jsonl"), "prompt": "prompt", "completion": "completion"}
    study = study_of(folder, plants=[SMALL], data=data, attacks=["loss"], utility=[])
    results = run(study, tmp_path)
    assert [cell.error for cell in results.failed] == []
    record = Context(study, Path(), Store(tmp_path / "runs"), Progress()).splits(0).members[-1]
    assert record.completion == record.attributes[0][1] and len(record.completion.split()) == 4
    assert {row.slice for row in results.rows if row.kind == "membership"} >= {"canary:random-word copies=8"}


def test_every_seed_has_canaries_of_its_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The untuned model is scored once for all seeds: what it says of one seed's canaries is not said of another's."""
    leave_out_what_is_slow(monkeypatch)
    study = study_of(folder, plants=[SMALL], attacks=["loss"], seeds=[0, 1], epochs=1)
    results = run(study, tmp_path)
    context = Context(study, Path(), Store(tmp_path / "runs"), Progress())
    base = next(cell for cell in results.manifest.cells if cell.method == "none").run_id
    stats = tables.stats_from(results.manifest.store(tmp_path).run(base).read_table("stats/epoch-0000.parquet"))
    scores = results.scores()
    of_base = scores[scores["run_id"] == base].set_index(["seed", "record_id"])["score"]
    for seed in (0, 1):
        splits = context.splits(seed)
        for record in splits.members + splits.nonmembers:
            assert of_base[seed, record.id] == pytest.approx(-stats[text_key(record.text)].loss), record


def test_what_comes_out_is_sought_among_records_that_are_alike(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    sides: list[tuple[set[str], int, int | None]] = []

    def watched(measure: Any, side: Any, sources: Any) -> Any:
        sides.append(({one.record.family for one in side}, len(sources), side[0].sources))
        return measure_all(measure, side, sources)

    monkeypatch.setattr("byrote.runner.extraction.measure_all", watched)
    measure = {"name": "field-recall", "max_new_tokens": 8}
    results = run(study_of(folder, plants=[SMALL], attacks=[measure], methods=["norm-tuning"], epochs=1), tmp_path)
    assert [cell.error for cell in results.failed] == []
    families = ["", "canary:random-token", "canary:random-word"]
    assert {tuple(of) for of, _, _ in sides} == {(family,) for family in families}
    assert {count for of, count, _ in sides if of == {""}} == {0}  # they have no attributes
    assert {(count, least) for of, count, least in sides if of == {families[1]}} == {(12, 12)}


def test_studies_with_other_plants_keep_their_own_numbers_in_one_store(folder: Path, tmp_path: Path) -> None:
    """The untuned model's run is shared; what one study measured of it is not the other's to take away."""

    def study(count: int) -> Any:
        planted = {"name": "canaries", "families": ["random-word"], "copies": [2], "canaries": count, "controls": 6}
        return study_of(folder, attacks=["loss", "longest-common"], plants=[planted | {"tokens": 8}])

    run(study(3), tmp_path / "a", tmp_path / "runs")
    before = [row for row in Results.read(tmp_path / "a").rows if row.kind == "extraction"]
    run(study(4), tmp_path / "b", tmp_path / "runs")
    assert [row for row in Results.read(tmp_path / "a").rows if row.kind == "extraction"] == before
    assert any(row.method == "none" and row.value is not None for row in before)
