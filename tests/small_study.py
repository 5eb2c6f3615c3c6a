"""A study small enough to run in a second: a random model in a folder, random texts, and what a run of it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from byrote.runner.progress import Progress
from byrote.runner.study import run
from byrote.store import Manifest, Store
from byrote.study import Study
from byrote.target import Target
from byrote.training.loop import Training
from byrote.types import ByroteError
from conftest import WORDS, make_model, make_texts, make_tokenizer

RATE = 3e-3
STEPS = 2 * 3
"""Optimiser steps of one run: epochs times batches."""
ALL = 10 + 10 + 5 + 5
"""Records of one split."""
LABELS = ("cat", "dog", "owl")


def make_folder(folder: Path, texts: list[str] | None = None) -> Path:
    """A folder with model/ and texts.txt."""
    make_model("llama").save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    (folder / "texts.txt").write_text("\n".join(make_texts(80, 1, 6, 20) if texts is None else texts))
    return folder


def caller(capsys: pytest.CaptureFixture[str], *first: str) -> Callable[..., tuple[int, str, str]]:
    """Calls the command line; the exit code, what stood on standard output, and on standard error."""
    from byrote import cli

    def call(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([*first, *map(str, words)])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return code, shown.out, shown.err

    return call


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """The study as a mapping; `data` is merged, everything else replaced."""
    data = {"source": str(folder / "texts.txt"), "members": 10, "nonmembers": 10, "validation": 5, "test": 5}
    return {
        "name": "small",
        "model": str(folder / "model"),
        "methods": ["full"],
        "learning_rate": RATE,
        "positive_control": False,
        "epochs": 2,
        "batch_size": 4,
        "max_length": 32,
        "attacks": ["loss", "reference", "min-k"],
        **changes,
        "data": data | changes.get("data", {}),
    }


def study_of(folder: Path, **changes: Any) -> Study:
    """The checked study."""
    return Study.model_validate(settings(folder, **changes))


def labelled_study(folder: Path, **changes: object) -> Study:
    """80 texts whose label is their last word."""
    rows = []
    for at, text in enumerate(make_texts(80, 1, 6, 20)):
        rows.append(json.dumps({"text": f"{text} {WORDS[at % 3]}", "label": LABELS[at % 3]}))
    (folder / "labelled.jsonl").write_text("\n".join(rows))
    data = {"source": str(folder / "labelled.jsonl"), "text": "text", "label": "label", "near_duplicates": 1.0}
    data |= {"members": 30, "nonmembers": 20, "validation": 9, "test": 15}
    study = {k: v for k, v in settings(folder).items() if k != "attacks"}
    study |= {"objective": "classification", "methods": ["full", "head", "lora"], "epochs": 4, "batch_size": 6}
    return Study.model_validate(study | {"data": data} | changes)


def write_study(path: Path, folder: Path, **changes: Any) -> Path:
    """The study as a file; JSON is YAML."""
    path.write_text(json.dumps(settings(folder, **changes), indent=1))
    return path


def facts(out: Path) -> dict[str, Any]:
    """All that a study left and that may not depend on the clock: rows but cost, scores, losses, weights, ..."""
    rows = [row for row in json.loads((out / "results.json").read_text()) if row["kind"] != "cost"]
    assert {"membership", "utility"} <= {row["kind"] for row in rows}
    found: dict[str, Any] = {"rows": rows, "scores": _table(out / "scores.parquet")}
    found["splits"] = _table(out / "splits.parquet")
    manifest = Manifest.read(out)
    store = manifest.store(out)
    for cell in manifest.cells:
        found[f"cell {cell.method} {cell.settings} {cell.seed}"] = cell.model_dump()
        left = run_facts(store, cell.run_id) if cell.run_id else {}  # a failed cell has no run
        found |= {f"{cell.run_id}/{name}": value for name, value in left.items()}
    return found


def run_facts(store: Store, run_id: str) -> dict[str, Any]:
    """What one run folder holds, timings aside."""
    folder = store.run(run_id)
    found: dict[str, Any] = {"training": folder.read_json("training.json")}
    for path in sorted(folder.path.rglob("*.parquet")):
        name = path.relative_to(folder.path).as_posix()
        assert folder.intact(name), f"{name} of {run_id} is not what was written"
        found[name] = _table(path)
    for path in sorted((folder.path / "weights").rglob("*.safetensors")):
        found[path.name] = path.read_bytes()
    return found


def _table(path: Path) -> dict[str, Any]:
    columns: dict[str, Any] = pyarrow.parquet.read_table(path).to_pydict()
    return columns


def run_facts_of(study: Study, out: Path, store: Path | None = None) -> dict[str, Any]:
    """Run a study in which every cell succeeds; its facts."""
    results = run(study, out, store)
    if results.failed:
        raise ByroteError(results.failed[0].error)
    return facts(out)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names under which two sets of facts differ."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def run_ids(out: Path) -> dict[str, str]:
    """Run id by method and seed."""
    return {f"{cell.method} {cell.seed}": cell.run_id for cell in Manifest.read(out).cells}


class Watcher(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """A line."""
        self.said.append(text)


def count_work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts optimiser steps and scored texts."""
    done = {"steps": 0, "texts": 0}
    step, token_stats = Training._step, Target.token_stats

    def counted_step(self: Training, *arguments: Any) -> None:
        done["steps"] += 1
        step(self, *arguments)

    def counted_stats(self: Target, texts: Any, *arguments: Any) -> Any:
        done["texts"] += len(texts)
        return token_stats(self, texts, *arguments)

    monkeypatch.setattr(Training, "_step", counted_step)
    monkeypatch.setattr(Target, "token_stats", counted_stats)
    return done


def leave_out_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HTML, and no waiting for the disk: neither changes a number."""
    monkeypatch.setattr("byrote.report.write.report_html", lambda results, show_text=False: "")
    monkeypatch.setattr("byrote.store._flush", lambda path: None)
