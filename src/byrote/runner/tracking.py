"""Sends finished results to the trackers that a study names; what was sent before is not sent again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from byrote.registry import Component
from byrote.report.axes import VariedResults
from byrote.report.findings import Configuration
from byrote.report.html import report_html
from byrote.report.measures import label
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.selection import Identity, Numbers, own
from byrote.runner.progress import Progress
from byrote.store import Cell, canonical_json, file_hash, identity, write_text
from byrote.trackers.base import Tracked, Tracker

SENT = "trackers.json"
"""What each tracker has at each of its places, by run: a hash of all that was sent."""
SECRET = re.compile(r"://[^/@\s]*@")
"""User and password in an address."""
PAGE = "report.html"
TABLES = ("report.md", "results.csv")
FOLLOWED = ("membership", "extraction", "poisoning", "utility", "privacy")
"""Kinds whose numbers are sent."""


def check(named: Sequence[Component]) -> list[Tracker]:
    """The trackers of a study. Raises StudyError where the package of one is missing, before anything is trained."""
    trackers = [one for one in named if isinstance(one, Tracker)]
    for tracker in trackers:
        tracker.check()
    return trackers


def report_to(
    trackers: Sequence[Tracker],
    results: Results | VariedResults,
    folder: Path,
    progress: Progress,
    show_text: bool = False,
) -> None:
    """Send each tracker what it does not have yet. One that fails costs nothing else: the results are in the folder.

    With `show_text` the page in the folder shows texts of records, which leave it for nowhere: one without is sent.
    """
    if not trackers:
        return
    with TemporaryDirectory() as aside:
        page = folder / PAGE
        try:
            if show_text and isinstance(results, Results):  # the page of a study that varies something has no texts
                page = Path(aside) / PAGE
                write_text(page, report_html(results))
            runs = [(run, _hash(run)) for run in tracked_runs(results, folder, page)]
        except Exception as error:
            progress.say(f"Nothing was sent to a tracker ({_told(error)}): see {folder}")
            return
        for tracker in trackers:
            try:
                _send(tracker, runs, folder, progress)
            except Exception as error:
                progress.say(f"{tracker.name} could not take the results ({_told(error)}): see {folder}")


def _send(tracker: Tracker, runs: Sequence[tuple[Tracked, str]], folder: Path, progress: Progress) -> None:
    """Send one tracker what is not known to be there; each place that it may send to is another."""
    where, sent = SECRET.sub("://", tracker.place(folder)), _read(folder / SENT)
    # An address may hold a password, so that it is written down as a hash, and told without it.
    known = sent.setdefault(f"{tracker.name} {identity(tracker.place(folder.resolve()))}", {})
    new = [(run, hash_) for run, hash_ in runs if known.get(run.id) != hash_]
    if not new:
        progress.say(f"{tracker.name} already has these results: {where}")
        return
    tracker.send([run for run, _ in new], folder)
    known |= {run.id: hash_ for run, hash_ in new}
    write_text(folder / SENT, json.dumps(sent, indent=1, sort_keys=True))
    progress.say(f"Sent to {tracker.name}: {where}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def tracked_runs(results: Results | VariedResults, folder: Path, page: Path | None = None) -> Iterator[Tracked]:
    """Every run that ended well, and the study itself with its report; `page` stands in for the folder's."""
    plain = [("", results)] if isinstance(results, Results) else [(e.label, found) for e, found in results.done()]
    name = results.manifest.name
    for point, of_point in plain:
        numbers = Numbers(of_point)
        for one in numbers.configurations:
            for cell in one.done:
                yield _run(name, point, numbers, one, cell)
    report = (page or folder / PAGE, *(folder / name for name in TABLES))
    files = tuple(file for file in report if file.is_file())
    study = canonical_json(plain[0][1].manifest.study) if plain else ""
    yield Tracked(name, "report", identity([name, "report"]), {"study": study}, files=files)


def _run(study: str, point: str, numbers: Numbers, one: Configuration, cell: Cell) -> Tracked:
    pieces, last = numbers.evidence.pieces[cell.run_id], numbers.evidence.last_epoch(cell)
    series: dict[int, dict[str, float]] = {}
    final: dict[str, float] = {}
    for what, rows in numbers.rows.get(one, {}).items():
        for (seed, epoch), row in rows.items():
            if seed == cell.seed and epoch is not None and _is_followed(what):
                found = _numbers(what, row)
                series.setdefault(epoch, {}).update(found)
                final |= found if epoch == last else {}
    for key, value in pieces.cost.items():
        if value is not None:
            final[f"cost/{key}"] = float(value)
    for epoch, losses in _losses(pieces.training).items():
        series.setdefault(epoch, {}).update(losses)
    name = ", ".join(filter(None, [point, one.label, f"seed {cell.seed}"]))
    id_ = identity([study, point, cell.run_id, cell.seed])
    return Tracked(study, name, id_, _settings(numbers, cell), series, final)


def _is_followed(what: Identity) -> bool:
    """What attacks and measures find themselves, of all records; slices and comparisons are in the report."""
    if what.kind == "membership":
        return what.metric == "auc" and not what.slice
    return what.kind in FOLLOWED and own(what.metric) and not what.slice


def _numbers(what: Identity, row: Row) -> dict[str, float]:
    """A number and its interval, under names such as membership/reference.auc.low."""
    name = f"{what.kind}/{label(what.name, what.settings).replace(', ', '_').replace(' ', '=')}"
    name += "" if what.metric == what.name else f".{what.metric}"
    values = {name: row.value, f"{name}.low": row.low, f"{name}.high": row.high}
    return {key: value for key, value in values.items() if value is not None}


def _losses(training: dict[str, Any]) -> dict[int, dict[str, float]]:
    """By epoch: the mean of the training losses that were written down, and the validation loss."""
    found: dict[int, dict[str, float]] = {}
    steps: dict[int, list[float]] = {}
    for entry in training.get("losses", []):
        if entry.get("loss") is not None:
            steps.setdefault(int(entry["epoch"]), []).append(float(entry["loss"]))
    for epoch, losses in steps.items():
        found.setdefault(epoch, {})["loss/train"] = float(np.mean(losses))
    for entry in training.get("validation", []):
        if entry.get("loss") is not None:
            found.setdefault(int(entry["epoch"]), {})["loss/validation"] = float(entry["loss"])
    return found


def _settings(numbers: Numbers, cell: Cell) -> dict[str, str]:
    """What the run was: its cell, and what its study says of training."""
    manifest = numbers.results.manifest
    shared = {key: value for key, value in manifest.study.items() if isinstance(value, str | int | float)}
    of_cell = {
        "model": manifest.model, "data": manifest.data, "method": cell.method, "settings": cell.settings,
        "privacy": cell.privacy, "delta": cell.delta, "seed": cell.seed, "learning_rate": cell.learning_rate,
        "run_id": cell.run_id, "byrote": manifest.byrote,
    }  # fmt: skip
    return {key: str(value) for key, value in (shared | of_cell).items() if value is not None and value != ""}


def _hash(run: Tracked) -> str:
    """Of all that is sent: of a file its name and what is in it, wherever it stands."""
    files = [[file.name, file_hash(file)] for file in run.files]
    return identity([json.loads(json.dumps(asdict(replace(run, files=())))), files])


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(isinstance(one, dict) for one in found.values())
    return found if whole else {}
