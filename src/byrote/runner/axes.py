"""A study that varies something: its points one after the other over one store, and what they came to together."""

from __future__ import annotations

import traceback
from pathlib import Path

from byrote._version import __version__
from byrote.objectives.batching import out_of_memory
from byrote.report.axes import POINTS, AxesManifest, AxisEntry, PointEntry, PointResults, VariedResults
from byrote.report.results import Results
from byrote.report.write import write_report
from byrote.runner.plan import expectation_of_points
from byrote.runner.progress import Progress
from byrote.runner.study import ERRORS, StudyRun
from byrote.store import MANIFEST, Store, sweep
from byrote.study import Point, VariedStudy
from byrote.types import ByroteError


class PointProgress(Progress):
    """What one point tells the watcher of the whole study: with its name, and counted with the points before it."""

    def __init__(self, whole: Progress, label: str, before: int, total: int) -> None:
        self.whole, self.label, self.before, self.total = whole, label, before, total

    @property
    def stop_requested(self) -> bool:  # type: ignore[override]
        """Whether the whole study shall stop."""
        return self.whole.stop_requested

    def say(self, text: str) -> None:
        """A line, with the point."""
        self.whole.say(f"{self.label}: {text}")

    def runs(self, done: int, total: int) -> None:
        """Of the whole study."""
        self.whole.runs(self.before + done, self.total)

    def start(self, label: str, total: int) -> None:
        """A stretch, with the point."""
        self.whole.start(f"{self.label}: {label}", total)

    def advance(self, done: int, detail: str = "") -> None:
        """Within the stretch."""
        self.whole.advance(done, detail)

    def worker(self, number: int) -> Progress:
        """The whole study's worker of that number, with the point."""
        return PointProgress(self.whole.worker(number), self.label, self.before, self.total)


def run_points(
    varied: VariedStudy, folder: Path, out: Path, store: Store, progress: Progress, jobs: int, show_text: bool
) -> VariedResults:
    """Every point as an ordinary study in a folder of its own; one that fails does not cost the others."""
    sweep(out)
    for name in (ERRORS, MANIFEST):  # of an earlier study in this folder
        if (out / name).is_file():
            (out / name).unlink()
    manifest = AxesManifest(
        byrote=__version__,
        name=varied.name,
        question=varied.question,
        axes=[AxisEntry(path=axis.path, values=list(axis.values), labels=list(axis.labels)) for axis in varied.axes],
        points=[
            PointEntry(values=dict(point.values), words=dict(point.words), folder=f"{POINTS}/{point.folder}")
            for point in varied.points
        ],
        claims=[claim.model_dump(mode="json", exclude_defaults=True) for claim in varied.claims],
    )
    manifest.write(out)
    if expected := expectation_of_points(varied, folder, store):
        progress.expect(expected)
    sizes = [sum(1 for _ in point.study.cells()) for point in varied.points]
    found = []
    for number, (point, entry) in enumerate(zip(varied.points, manifest.points, strict=True)):
        progress.check()
        told = PointProgress(progress, point.label, sum(sizes[:number]), sum(sizes))
        result = _run_point(point, folder, out, entry, store, told, jobs, show_text)
        if isinstance(result, str):
            entry.error = result
            told.say(f"failed: {result}")
            manifest.write(out)
        found.append(PointResults(entry, *((None, result) if isinstance(result, str) else (result,))))
    progress.finish()
    results = VariedResults(manifest, tuple(found))
    write_report(results, out)
    return results


def _run_point(
    point: Point,
    folder: Path,
    out: Path,
    entry: PointEntry,
    store: Store,
    progress: Progress,
    jobs: int,
    show_text: bool,
) -> Results | str:
    """The results of a point, or why there are none."""
    try:
        return StudyRun(point.study, folder, out / entry.folder, store, progress).do(jobs, show_text)
    except ByroteError as error:
        return str(error)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        with (out / ERRORS).open("a", encoding="utf-8") as file:
            file.write(f"{point.label}\n{traceback.format_exc()}\n")
        return f"out of memory ({said})" if out_of_memory(error) else f"{said} (a fault of byrote, see {ERRORS})"
