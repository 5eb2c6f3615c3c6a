"""What a finished run is asked later, what stands in the way of it, and what that costs all others: nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from byrote.attacks.base import Background
from byrote.attacks.membership.lower_case import LowerCase
from byrote.attacks.membership.recall import shown
from byrote.attacks.membership.samia import Samia
from byrote.runner.context import Context
from byrote.runner.one import BaseRun
from byrote.runner.plan import plan, waiting_cells
from byrote.runner.progress import Progress
from byrote.runner.queries import queries_name
from byrote.runner.study import run
from byrote.runner.trained import SPENT
from byrote.store import HELD, Manifest, RunFolder, Store
from byrote.study import Study
from byrote.types import Query, Record
from conftest import make_texts
from small_study import STEPS, Watcher, count_work, make_folder, study_of

MORE = ["loss", "lower-case"]
NOISY = [{"noise_multiplier": 1.0}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text.replace("w1", "W1") for text in make_texts(90, 1, 6, 12)]  # something to write in lower case
    return make_folder(tmp_path_factory.mktemp("small"), texts)


pytestmark = pytest.mark.usefixtures("quick")


def rows_of(out: Path, attack: str, cell: int = -1) -> list[dict[str, Any]]:
    """The rows of an attack after the last epoch of a cell's run."""
    table = Store(out / "runs").run(Manifest.read(out).cells[cell].run_id).read_table("scores.parquet")
    assert table is not None
    rows = [row for row in table.to_pylist() if row["attack"] == attack]
    return [row for row in rows if row["epoch"] == max(one["epoch"] for one in rows)]


# --- the plan says what the run does -------------------------------------------------------------


def test_the_plan_knows_what_an_attack_added_later_takes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["full", "lora"]
    run(study_of(folder, methods=methods, attacks=["loss"]), tmp_path)
    for attacks in (MORE, ["loss", {"name": "neighbourhood", "neighbours": 2}], ["loss", "gradient-norm"]):
        study = study_of(folder, methods=methods, attacks=attacks)
        assert [step.state for step in plan(study, tmp_path).steps] == ["to train", "to ask"]
        assert waiting_cells(study, Context(study, Path(), Store(tmp_path / "runs"), Progress())) == [0, 1]
    study, work = study_of(folder, methods=methods, attacks=MORE), count_work(monkeypatch)
    run(study, tmp_path)
    assert work["steps"] == STEPS
    assert [step.state for step in plan(study, tmp_path).steps] == ["done", "done"]


def test_a_private_run_without_its_weights_is_not_trained_again_to_be_asked_more(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study_of(folder, attacks=["loss"], privacy=NOISY), tmp_path)
    before = rows_of(tmp_path, "loss")
    work, watcher = count_work(monkeypatch), Watcher()
    study = study_of(folder, attacks=[*MORE, {"name": "samia", "samples": 1, "max_new_tokens": 3}], privacy=NOISY)
    assert [step.state for step in plan(study, tmp_path).steps] == ["done"]
    assert not run(study, tmp_path, progress=watcher).failed
    assert work["steps"] == 0 and rows_of(tmp_path, "loss") == before
    assert watcher.said == [f"full, noise 1: is not asked more: {SPENT}"]
    for attack in ("lower-case", "samia"):
        rows = rows_of(tmp_path, attack)
        # What has no capitals needs no question.
        assert {SPENT} <= {row["reason"] for row in rows} <= {SPENT, ""} and len(rows) == 20
    kept = study.model_copy(update={"keep": "all"})  # as the reason advises
    assert [step.state for step in plan(kept, tmp_path).steps] == ["to train"]
    assert not run(kept, tmp_path).failed
    assert work["steps"] > 0 and all(row["score"] is not None for row in rows_of(tmp_path, "lower-case"))


# --- another process -----------------------------------------------------------------------------


def step_of(study: Study, out: Path, purpose: str) -> RunFolder:
    (step,) = [step for step in plan(study, out).steps if step.purpose == purpose]
    return Store(out / "runs").run(step.run_id)


@pytest.mark.parametrize("purpose", ["positive control", "shadow 2"])
def test_a_run_that_another_process_holds_costs_no_finished_cell(folder: Path, tmp_path: Path, purpose: str) -> None:
    study = study_of(folder, attacks=["loss", {"name": "lira", "shadows": 4}], positive_control=True)
    with step_of(study, tmp_path, purpose).locked():
        assert not run(study, tmp_path).failed
    manifest = Manifest.read(tmp_path)
    said = manifest.positive_control.error if purpose == "positive control" else " ".join(manifest.cells[-1].notes)  # type: ignore[union-attr]
    assert HELD in said and len(rows_of(tmp_path, "loss")) == 20
    run(study, tmp_path)
    manifest = Manifest.read(tmp_path)
    assert manifest.positive_control is not None and manifest.positive_control.status == "done"
    assert not any(HELD in note for note in manifest.cells[-1].notes) and len(rows_of(tmp_path, "lira")) >= 20


def test_a_base_model_that_another_process_holds_is_said_to_be_needed(folder: Path, tmp_path: Path) -> None:
    from byrote.store import Locked

    study = study_of(folder)
    context = Context(study, Path(), Store(tmp_path / "runs"), Progress())
    base = BaseRun(context, study.base(model=context.model.fingerprint, data=context.data.fingerprint))
    with base.folder.locked(), pytest.raises(Locked, match="compared with the untuned model, but run"):
        run(study, tmp_path)


# --- the same words behind other demonstrations --------------------------------------------------


def test_the_same_prompt_behind_other_demonstrations_has_a_continuation_of_its_own(tmp_path: Path) -> None:
    texts = [f"w1 w2 w3 w4 {text}" for text in make_texts(60, 1, 4, 5)]
    make_folder(tmp_path, texts)
    attack = {"name": "samia", "samples": 1, "max_new_tokens": 4}
    data = {"members": 8, "nonmembers": 8, "near_duplicates": 1.0}
    method = {"name": "in-context", "demonstrations": 2}
    study = study_of(tmp_path, methods=[method], attacks=["loss", attack], data=data, max_length=16)
    assert not run(study, tmp_path / "out").failed
    cell = Manifest.read(tmp_path / "out").cells[-1]
    kept = Store(tmp_path / "out" / "runs").run(cell.run_id)
    said, sets = kept.read_table("generations/epoch-0001.parquet"), kept.read_table("demonstrations.parquet")
    assert said is not None and sets is not None
    context = Context(study, Path(), Store(tmp_path / "out" / "runs"), Progress())
    of = dict(zip(sets["record_id"].to_pylist(), sets["set"].to_pylist(), strict=True))
    asked = {(one.record.text, of[one.record.id]) for one in context.openings(0)}
    assert len(said) == len(asked) > len({text for text, _ in asked})
    assert all(row["score"] is not None for row in rows_of(tmp_path / "out", "samia"))


# --- an attack that fails to say what it wants ---------------------------------------------------


def test_an_attack_that_fails_to_ask_costs_its_own_record_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(folder, attacks=[*MORE, {"name": "samia", "samples": 1, "max_new_tokens": 3}])
    faulty = Context(study, Path(), Store(tmp_path / "runs"), Progress()).splits(0).members[0].id

    def guarded(real: Any) -> Any:
        def ask(self: Any, record: Record, background: Background) -> Sequence[Any]:
            if record.id == faulty:
                raise ZeroDivisionError("no words")
            found: Sequence[Any] = real(self, record, background)
            return found

        return ask

    monkeypatch.setattr(LowerCase, "queries", guarded(LowerCase.queries))
    monkeypatch.setattr(Samia, "openings", guarded(Samia.openings))
    assert not run(study, tmp_path).failed
    for attack in ("lower-case", "samia"):
        rows = {row["record_id"]: row for row in rows_of(tmp_path, attack)}
        assert rows.pop(faulty)["reason"] == "the attack failed: ZeroDivisionError: no words"
        assert len(rows) == 19 and all(row["score"] is not None for row in rows.values())


def test_a_tokenizer_that_makes_no_neighbours_costs_their_attacks_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda self: False))
    near: list[Any] = [{"name": "neighbourhood", "neighbours": 2}, {"name": "spv-mia", "pairs": 1}]
    study = study_of(folder, attacks=[*MORE, *near])
    assert not run(study, tmp_path).failed
    for attack in ("neighbourhood", "spv-mia"):
        assert all("does not say which characters" in row["reason"] for row in rows_of(tmp_path, attack))
    assert all(row["score"] is not None for row in rows_of(tmp_path, "lower-case"))
    work, watcher = count_work(monkeypatch), Watcher()
    run(study, tmp_path, progress=watcher)
    assert work == {"steps": 0, "texts": 0} and "Everything was in the store already" in watcher.said[-1]


# --- what is remembered, and what is not ---------------------------------------------------------


def test_a_private_shadow_that_is_trained_anew_is_read_anew(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, attacks=["loss", {"name": "lira-offline", "shadows": 4}], privacy=NOISY)
    run(study, tmp_path)
    before, loss = rows_of(tmp_path, "lira-offline"), rows_of(tmp_path, "loss")
    shadow = Store(tmp_path / "runs").run(Manifest.read(tmp_path).cells[-1].shadows[0])
    (shadow.path / queries_name(2)).write_bytes(b"damaged")
    run(study, tmp_path)
    after = rows_of(tmp_path, "lira-offline")
    assert [row["record_id"] for row in after] == [row["record_id"] for row in before]
    assert [row["score"] for row in after] != [row["score"] for row in before] and rows_of(tmp_path, "loss") == loss
    run(study, tmp_path)
    assert rows_of(tmp_path, "lira-offline") == after


class Seen(Record):
    """A record that can be watched."""


def test_what_a_finished_study_drew_is_forgotten_with_it() -> None:
    background = Background(outsiders=tuple(Seen(str(at), f"text {at}") for at in range(4)))
    assert shown(background, "outsiders", 2, 0) is shown(background, "outsiders", 2, 0)
    watched = weakref.ref(background.outsiders[0])
    del background
    gc.collect()
    assert watched() is None


def test_the_base_model_is_asked_once_for_all_seeds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensured, real, asked = [], BaseRun.ensure, LowerCase.queries
    calls: dict[str, int] = {}

    def ask(self: LowerCase, record: Record, background: Background) -> Sequence[Query]:
        calls[record.id] = calls.get(record.id, 0) + 1
        return asked(self, record, background)

    def ensure(self: BaseRun, wanted: Any) -> bool:
        ensured.append(wanted)
        return real(self, wanted)

    monkeypatch.setattr(BaseRun, "ensure", ensure)
    study = study_of(folder, attacks=MORE, seeds=[0, 1, 2], methods=["full"], epochs=1)
    run(study, tmp_path)
    assert len(ensured) == 1
    context = Context(study, Path(), Store(tmp_path / "runs"), Progress())
    monkeypatch.setattr(LowerCase, "queries", ask)
    assert context.queries(0) == context.queries(0) and set(calls.values()) == {1}
