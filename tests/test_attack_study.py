"""A study that asks for attacks with queries of their own: what is made, once, and what the attacks then say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byrote.runner.context import Context
from byrote.runner.generations import read_generations, spelled
from byrote.runner.one import stats_name
from byrote.runner.progress import Progress
from byrote.runner.queries import queries_name
from byrote.runner.study import run
from byrote.store import Manifest, Store
from byrote.target import Target
from byrote.types import text_key
from conftest import make_texts
from small_study import count_work, facts, make_folder, study_of

ASKING: list[Any] = [
    "loss",
    "lower-case",
    {"name": "recall", "shots": 2},
    {"name": "con-recall", "shots": 2},
    {"name": "neighbourhood", "neighbours": 4},
    {"name": "spv-mia", "pairs": 2},
    {"name": "samia", "samples": 2, "max_new_tokens": 6},
    "gradient-norm",
    "pac",
    "dc-pdd",
    "p-attack",
    {"name": "quantile-regression"},
]
DATA = {"validation": 12, "test": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text.replace("w1", "W1") for text in make_texts(90, 1, 6, 12)]  # something to write in lower case
    return make_folder(tmp_path_factory.mktemp("attacks"), texts)


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Optimiser steps, scored texts, and how often each further kind of work was done."""
    done = count_work(monkeypatch)
    for name in ("likeliest", "generate", "gradient_norms"):
        done[name] = 0

        monkeypatch.setattr(Target, name, counted(name, done, getattr(Target, name)))
    return done


def counted(name: str, done: dict[str, int], real: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, which counts what it was given."""

    def call(self: Target, texts: Any, *arguments: Any) -> Any:
        done[name] += len(texts)
        return real(self, texts, *arguments)

    return call


def series(found: dict[str, Any], run_id: str) -> dict[tuple[str, int], list[tuple[str, float | None, str]]]:
    """(record, score, reason) by attack and epoch of a run."""
    columns = ("run_id", "attack", "epoch", "record_id", "score", "reason")
    rows: dict[tuple[str, int], list[tuple[str, float | None, str]]] = {}
    for of, attack, epoch, record, score, reason in zip(*(found["scores"][name] for name in columns), strict=True):
        if of == run_id:
            rows.setdefault((attack, epoch), []).append((record, score, reason))
    return rows


def test_every_attack_is_scored_once_and_has_its_null(folder: Path, tmp_path: Path, work: dict[str, int]) -> None:
    study = study_of(folder, methods=["full", "prefix-tuning"], attacks=ASKING, data=DATA)
    results = run(study, tmp_path)
    assert not results.failed, results.failed
    before, found = dict(work), facts(tmp_path)
    run(study, tmp_path)
    assert work == before and facts(tmp_path) == found
    assert before["likeliest"] == 20  # members and nonmembers, by the base model alone
    assert before["generate"] == before["gradient_norms"] * 2 == 3 * 20 * 2  # two samples each, of three models
    names = [name if isinstance(name, str) else name["name"] for name in ASKING]
    cells = Manifest.read(tmp_path).cells
    own = {"spv-mia", "quantile-regression"}  # they tie on the untuned model: no null is measured
    for cell in cells:
        rows = series(found, cell.run_id)
        last = 0 if cell.method == "none" else 2
        assert {name for name, epoch in rows if epoch == last} == set(names) - (own if last == 0 else set())
        at_the_end = {"lower-case", "recall", "con-recall", "neighbourhood", "spv-mia", "samia", "gradient-norm", "pac"}
        assert not last or {name for name, epoch in rows if epoch == 1} == set(names) - at_the_end
        for (name, _), scores in rows.items():
            assert len(scores) == 20
            known = [reason for _, score, reason in scores if score is None]
            assert len(known) == (2 if name == "con-recall" else 0), (name, known)
            assert all("knows already" in reason for reason in known)
    rows = json.loads((tmp_path / "results.json").read_text())
    aucs = {row["name"]: row for row in rows if (row["method"], row["metric"], row["epoch"]) == ("full", "auc", 2)}
    assert set(aucs) == set(names)
    assert {name: row["reason"] for name, row in aucs.items() if row["null_value"] is None} == {}


def test_one_more_attack_asks_only_what_is_new(folder: Path, tmp_path: Path, work: dict[str, int]) -> None:
    few = {"name": "neighbourhood", "neighbours": 2}
    study = study_of(folder, attacks=["loss", few], keep="all", data=DATA)
    run(study, tmp_path)
    assert work["likeliest"] == 20
    before = dict(work)
    more = study_of(folder, attacks=["loss", {"name": "neighbourhood", "neighbours": 4}], keep="all", data=DATA)
    run(more, tmp_path)
    assert work["steps"] == before["steps"]
    asked = work["texts"] - before["texts"] - 8  # by which the kept weights are checked
    assert asked == 2 * 2 * 20  # two more neighbours of each record, of two models: the first two are the same


def test_a_lost_file_of_neighbours_is_made_again_as_it_was(folder: Path, tmp_path: Path, work: dict[str, int]) -> None:
    study = study_of(folder, attacks=["loss", {"name": "neighbourhood", "neighbours": 2}], data=DATA)
    run(study, tmp_path)
    found, asked = facts(tmp_path), work["texts"]
    (path,) = tmp_path.glob("runs/*/neighbours.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    run(study, tmp_path)
    assert work["likeliest"] == 40 and work["texts"] == asked  # the same texts, which are answered already
    assert facts(tmp_path) == found


def test_another_process_asks_the_same(folder: Path, tmp_path: Path) -> None:
    """A worker has the study and the store, and nothing else."""
    study = study_of(folder, attacks=ASKING, data=DATA)
    run(study, tmp_path)
    context = Context(study, Path(), Store(tmp_path / "runs"), Progress())
    ids = [cell.run_id for cell in Manifest.read(tmp_path).cells]
    assert len(context.background(0).neighbours) == 20
    asked = [query.key for query in context.queries(0)]
    for run_id, epoch in zip(ids, (0, 2), strict=True):
        tables = [context.store.run(run_id).read_table(name(epoch)) for name in (stats_name, queries_name)]
        assert set(asked) <= {key for table in tables for key in table["text_key"].to_pylist()}
        said = read_generations(context.store.run(run_id), epoch)
        assert {(text_key(one.record.text), spelled(one.decoding)) for one in context.openings(0)} == set(said)
