"""What the command line prints: live progress in a terminal, plain lines elsewhere, tables."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from byrote.registry import ROOMS, discover
from byrote.runner.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from byrote.report.axes import VariedResults
    from byrote.report.results import Results

PLAIN_SECONDS = 10.0
"""Plain progress says something at most so often within one stretch of work."""


def out_console() -> Console:
    """Standard output; wide when it is not a terminal, so that tables in a log are not broken."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)


class PlainProgress(Progress):
    """One line when a stretch begins, and one every few seconds."""

    def __init__(self, who: str = "") -> None:
        self.who, self.workers = who, dict[int, PlainProgress]()
        self.label, self.total, self.done_runs, self.all_runs = "", 0, 0, 0
        self.said = time.monotonic()
        self.first: tuple[float, int] | None = None
        """When the stretch first moved, and from where: a resumed one does not begin at 0."""

    def say(self, text: str) -> None:
        """A line on standard error."""
        print(text, file=sys.stderr, flush=True)

    def expect(self, text: str) -> None:
        """A line like any other."""
        self.say(text)

    def runs(self, done: int, total: int) -> None:
        """Remember how far the study is."""
        self.done_runs, self.all_runs = done, total

    def worker(self, number: int) -> Progress:
        """Lines that begin with its number."""
        one = self.workers.setdefault(number, PlainProgress(f"worker {number}: "))
        one.runs(self.done_runs, self.all_runs)
        return one

    def start(self, label: str, total: int) -> None:
        """A new stretch; training after an epoch's scoring is not announced again."""
        if label != self.label and "scoring epoch" not in label:
            place = f"[{self.done_runs + 1}/{self.all_runs}] " if self.all_runs else ""
            self.say(f"{place}{self.who}{label}")
            self.label = label
        self.total, self.said, self.first = total, time.monotonic(), None

    def advance(self, done: int, detail: str = "") -> None:
        """A line where the last one is long ago, with the time that is left."""
        now = time.monotonic()
        began, before = self.first = self.first or (now, done)
        if done > before and now - self.said >= PLAIN_SECONDS:
            self.said = now
            left = (now - began) / (done - before) * (self.total - done)
            self.say(f"  {self.who}{done}/{self.total} {detail} about {left:.0f} s left")


class LiveProgress(Progress):
    """Two bars: the study's runs, and the stretch of work in hand; with workers, a stretch for each of them."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=console,
            transient=True,
        )
        self.study = self.bars.add_task("study", total=None, detail="")
        self.work = self.bars.add_task("", total=None, detail="", visible=False)
        self.workers: dict[int, LiveProgress] = {}
        self.bars.start()

    def worker(self, number: int) -> Progress:
        """The same bars, with one more for its work."""
        if number not in self.workers:
            one = copy.copy(self)
            one.work = self.bars.add_task("", total=None, detail="", visible=False)
            self.workers[number] = one
        return self.workers[number]

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.bars.console.print(text, highlight=False, markup=False)

    def expect(self, text: str) -> None:
        """A line like any other."""
        self.say(text)

    def runs(self, done: int, total: int) -> None:
        """Move the upper bar."""
        self.bars.update(self.study, completed=done, total=total)

    def start(self, label: str, total: int) -> None:
        """Start the lower bar again."""
        self.bars.reset(self.work, total=total, description=label, detail="", visible=True)

    def advance(self, done: int, detail: str = "") -> None:
        """Move the lower bar."""
        self.bars.update(self.work, completed=done, detail=detail)

    def finish(self) -> None:
        """Take the bars away."""
        self.bars.stop()


@contextlib.contextmanager
def watching() -> Iterator[Progress]:
    """Progress for a study, with Ctrl-C stopping it at the next safe moment and a second Ctrl-C at once."""
    console = Console(stderr=True)
    progress: Progress = LiveProgress(console) if console.is_terminal else PlainProgress()

    def stop(number: int, frame: FrameType | None) -> None:
        if progress.stop_requested:
            raise KeyboardInterrupt
        progress.stop_requested = True
        progress.say("stopping after the step in hand; once more stops at once")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield progress
    finally:
        signal.signal(signal.SIGINT, before)
        progress.finish()


def listing(what: str | None) -> Table:
    """What byrote has, of one kind or of all."""
    from rich.table import Table

    from byrote.study import shipped_studies

    if what == "methods":
        return _methods()
    if what == "attacks":
        return _attacks()
    table = Table(show_edge=False, header_style="bold")
    for column in ("kind", "name", "what it is"):
        table.add_column(column, no_wrap=column != "what it is")
    rooms = {f"{room}s" if room != "utility" else room: room for room in ROOMS}
    for title, room in rooms.items():
        if what in (None, title):
            for name, component in discover(room).items():
                table.add_row(room, name, component.summary())
    if what in (None, "studies"):
        for name, path in shipped_studies().items():
            first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").strip()
            table.add_row("study", name, first)
    return table


def _methods() -> Table:
    """Every method, with what is known of it without loading a model."""
    from rich.table import Table

    from byrote.methods.base import Method
    from byrote.methods.facts import MODEL, facts_of

    table = Table(
        show_edge=False,
        header_style="bold",
        caption=f"Trains and engine: on {MODEL}, with default settings; '-': not for that model, refused, or not "
        f"measured. All tasks: {', '.join(Method.tasks)}.",
        caption_justify="left",
    )
    for column in ("name", "family", "subfamily", "trains", "tasks", "private engine", "what it is"):
        table.add_column(column, no_wrap=column != "what it is", justify="right" if column == "trains" else "left")
    for name, kind in discover("method").items():
        if issubclass(kind, Method):
            known = facts_of(name)
            tasks = "all" if kind.tasks == Method.tasks else ", ".join(kind.tasks)
            table.add_row(
                name, kind.family, kind.subfamily, known.share_in_words(), tasks, known.engine or "-", kind.summary()
            )
    return table


def _attacks() -> Table:
    """Every attack with who can run it, what it reads, what it costs, and where it is from."""
    from rich.table import Table

    from byrote.attacks.base import Attack

    table = Table(show_edge=False, header_style="bold", caption_justify="left", show_lines=True)
    for column in ("name", "kind", "access", "needs", "cost of a record", "what it is", "paper"):
        table.add_column(column, no_wrap=column == "name", min_width=30 if column == "what it is" else None)
    for name, kind in discover("attack").items():
        if issubclass(kind, Attack):
            one = kind()
            needs = ", ".join(sorted(one.needs)) or "-"
            table.add_row(name, one.kind, one.access, needs, one.cost, one.summary(), one.paper())
    return table


def show_results(results: Results | VariedResults, folder: Path) -> None:
    """The table, the answer in words, the warnings, and where the report is."""
    from byrote.report.axes import VariedResults
    from byrote.report.console import answer_text, points_table, points_text, summary_table, summary_text

    console = out_console()
    if isinstance(results, VariedResults):
        table = points_table(results) if console.is_terminal else points_text(results)
    else:
        table = summary_table(results) if console.is_terminal else summary_text(results)
    if isinstance(table, str):
        print(table)
    else:
        console.print(table)
    print()
    console.print(answer_text(results), markup=False, soft_wrap=not console.is_terminal)
    for warning in results.warnings:
        console.print(f"Note: {warning}", markup=False, soft_wrap=not console.is_terminal, style="dim")
    console.print(f"\nReport: {os.path.relpath(folder / 'report.html')}", markup=False, soft_wrap=True)
