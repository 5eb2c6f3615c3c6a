"""Scores are kept with what made them: a changed attack is scored again, and a faulty one fails alone."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from byrote.attacks.base import Evidence, score_all
from byrote.attacks.membership.loss import Loss
from byrote.registry import make
from byrote.runner import tables, witness
from byrote.runner.kept_rows import made_by
from byrote.runner.one import Run
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.types import Record, TokenStats
from small_study import study_of


def auc(out: Path, name: str) -> float | None:
    from byrote.report.results import Results

    rows = [r for r in Results.read(out).rows if (r.method, r.name, r.metric, r.epoch) == ("full", name, "auc", 2)]
    return rows[0].value


def test_a_changed_attack_is_scored_again_without_a_forward_pass(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study_of(folder), tmp_path)
    before = {name: auc(tmp_path, name) for name in ("loss", "reference")}
    monkeypatch.setattr("byrote.target.Target.token_stats", lambda *_: pytest.fail("a forward pass"))
    flipped = lambda self, evidence: evidence.target.loss  # noqa: E731  the sign is wrong now
    monkeypatch.setattr(Loss, "score", flipped)
    run(study_of(folder), tmp_path)
    assert auc(tmp_path, "loss") == before["loss"]  # patched in memory: the code on disk is the same
    monkeypatch.setattr(witness, "made_by", lambda component: f"other {component.name}")
    run(study_of(folder), tmp_path)
    assert before["loss"] is not None
    assert auc(tmp_path, "loss") == pytest.approx(1 - before["loss"])
    assert auc(tmp_path, "reference") == before["reference"]


def test_what_makes_a_score_is_its_code_and_every_setting() -> None:
    assert made_by(Loss()) == made_by(Loss())
    from byrote.attacks.membership.min_k import MinK

    assert len({made_by(component) for component in (Loss(), MinK(), MinK(k=0.3))}) == 3


def test_what_makes_a_score_is_also_the_code_that_the_attack_is_built_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from byrote.attacks import base, fitted
    from byrote.attacks.membership.learned_mlp import MultilayerPerceptron

    before, whole = made_by(MultilayerPerceptron()), inspect.getsource
    for changed, same in ((fitted, False), (base, False), (tables, True)):
        made_by.cache_clear()
        other = lambda module, changed=changed: whole(module) + "#" * (module is changed)  # noqa: E731
        monkeypatch.setattr(inspect, "getsource", other)
        assert (made_by(MultilayerPerceptron()) == before) == same
    monkeypatch.undo()
    made_by.cache_clear()


def test_a_faulty_attack_fails_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Loss, evidence: Evidence) -> float:
        return 1 / 0

    monkeypatch.setattr(Loss, "score", broken)
    results = run(study_of(folder), tmp_path)
    assert not results.failed
    row = next(r for r in results.rows if (r.method, r.name, r.metric, r.epoch) == ("full", "loss", "auc", 2))
    assert row.value is None and row.reason
    assert auc(tmp_path, "reference") is not None
    found = score_all(Loss(), [Evidence(Record("1", "x"), None)])  # type: ignore[arg-type]
    assert found.reasons == ("the attack failed: ZeroDivisionError: division by zero",)


def test_stored_bytes_are_those_of_the_files_that_were_kept(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, methods=["full", "lora"])
    run(study, tmp_path)
    manifest = Manifest.read(tmp_path)
    full, lora = (manifest.store(tmp_path).run(cell.run_id) for cell in manifest.cells[1:])
    assert "stored_bytes" not in full.read_json("cost.json")  # nothing was kept
    kept = sum(path.stat().st_size for path in (lora.path / "weights").rglob("*") if path.is_file())
    assert lora.read_json("cost.json")["stored_bytes"] == kept > 0


@pytest.mark.parametrize("borrowed", ["rolling", "sentences"])
def test_what_an_attack_in_a_folder_of_its_own_borrows_is_a_part_of_it(
    borrowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plagiarism, real = make("attack", "plagiarism"), inspect.getsource
    before = made_by(plagiarism)
    mended = lambda of: real(of) + "# mended" * of.__name__.endswith(f"extraction.{borrowed}")  # noqa: E731
    monkeypatch.setattr(inspect, "getsource", mended)
    made_by.cache_clear()
    try:
        assert made_by(plagiarism) != before
    finally:
        made_by.cache_clear()


def test_scores_are_made_anew_when_what_an_attack_borrows_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("spv-mia", "neighbourhood", "ensemble", "dataset-inference", "loss", "zlib", "min-k")
    before = {name: made_by(make("attack", name)) for name in names}
    real = inspect.getsource

    def mended(of: object) -> str:
        name = getattr(of, "__name__", "")
        return real(of) + ("# mended" if name.endswith(("neighbourhood", "membership.loss")) else "")  # type: ignore[arg-type]

    monkeypatch.setattr(inspect, "getsource", mended)
    made_by.cache_clear()
    try:
        changed = {name for name in names if made_by(make("attack", name)) != before[name]}
    finally:
        made_by.cache_clear()
    assert changed == {"spv-mia", "neighbourhood", "ensemble", "dataset-inference", "loss"}


def test_what_was_said_is_read_once_for_all_that_is_made_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = witness.read_answers, Counter[tuple[str, int, int]]()
    scoring = iter(range(1000))
    made = witness.witnesses_of

    def counted(run: Run, epoch: int) -> dict[str, TokenStats]:
        reads[run.id, epoch, turn[0]] += 1
        return read(run, epoch)

    def next_turn(*arguments: Any) -> list[witness.Witness]:
        turn[0] = next(scoring)
        return made(*arguments)

    turn = [-1]
    monkeypatch.setattr(witness, "read_answers", counted)
    monkeypatch.setattr("byrote.runner.study.witnesses_of", next_turn)
    run(study_of(folder, attacks=["reference", "loss", "extraction-strength"]), tmp_path)
    # Two epochs of a run, and the untuned model beside it; before these the untuned model alone, as run and as base.
    assert sorted(epoch for _, epoch, at in reads if at == 1) == [0, 1, 2]
    assert {times for (_, _, at), times in reads.items() if at == 1} == {1}
