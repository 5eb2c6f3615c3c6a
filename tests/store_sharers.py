"""Runs two studies on one store at the same time, each again until nothing of it is held by the other.

Called as `python store_sharers.py FIRST.yaml SECOND.yaml FOLDER`. Each is a forked process of its own, and
writes a line into FOLDER/steps for every optimiser step: the run that it was of.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import byrote.report.write
from byrote.runner.study import run
from byrote.runner.trained import TrainedRun
from byrote.store import Locked
from byrote.training.loop import Training

LONGEST = 300.0
"""Seconds after which two studies that do not get past one another are a fault."""
HEAVY = ("byrote.target", "byrote.training.private", "peft", "transformers", "sklearn.linear_model", "scipy.stats")


def sharer(study: str, out: Path, store: Path) -> None:
    """Run a study until it has all its results, as a person would who is told that a run is held."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        try:
            results = run(study, out, store)
        except Locked:
            continue
        if not results.failed:
            return
        assert all("another process" in str(one) or "is locked" in str(one) for one in results.failed), results.failed
    raise AssertionError(f"{study} never got through")


def count_steps(place: Path) -> None:
    """Every optimiser step of this process as a line of a file that several may append to."""
    steps, training, step = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT), TrainedRun._training, Training._step

    def made(self: TrainedRun, *arguments: Any) -> Any:
        found = training(self, *arguments)
        found[0].of_run = self.id  # type: ignore[attr-defined]
        return found

    def counted(self: Training, *arguments: Any) -> None:
        os.write(steps, f"{self.of_run}\n".encode())  # type: ignore[attr-defined]
        step(self, *arguments)

    TrainedRun._training = made  # type: ignore[method-assign]
    Training._step = counted  # type: ignore[method-assign]


def main() -> None:
    """Both at once."""
    folder = Path(sys.argv[3])
    byrote.report.write.report_html = lambda results, show_text=False: ""  # the slowest part, and it only reads
    count_steps(folder / "steps")
    for name in HEAVY:  # once, for both
        importlib.import_module(name)
    children = []
    for number, study in enumerate(sys.argv[1:3]):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                sharer(study, folder / f"out{number}", folder / "runs")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
