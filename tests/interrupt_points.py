"""Runs a study by the command line again and again, each time stopped by a signal at a random moment, until one ends.

Called as `python interrupt_points.py STUDY.yaml FOLDER`. Each command is a forked process of its own, and what the
first one imported the next ones find imported, so that a start costs half a second and not ten; only the workers of
`--jobs` start anew. Prints, as JSON, of each command: the signals that it was sent, its exit code, and what it said.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import byrote.report.write
from byrote.cli import entry

LONGEST = 120.0
"""Seconds after which a command that does not end is aborted."""
SIGNALS = [[signal.SIGINT], [signal.SIGKILL], [signal.SIGINT, signal.SIGINT], [signal.SIGINT], [signal.SIGINT]]
"""What the commands of one process are sent, one after the other; the last of all is left alone."""


def command(words: list[str], place: Path, signals: list[tuple[float, int]]) -> dict[str, Any]:
    """One command. It is sent each of these signals so many seconds after its start, if it lives so long."""
    said = place.with_suffix(".said")
    modules = place.with_suffix(".modules")
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in an interpreter that has just started
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        byrote.report.write.report_html = lambda results, show_text=False: ""  # the slowest part, and it only reads
        code = 99
        try:
            sys.argv[1:] = words
            entry._main()
        except SystemExit as end:
            code = end.code
            modules.write_text("\n".join(sys.modules))
        finally:
            os._exit(code)
    ended, sent = threading.Event(), list[int]()

    def send() -> None:
        began = time.monotonic()
        for after, number in [*signals, (LONGEST, signal.SIGABRT)]:
            if ended.wait(max(0.0, began + after - time.monotonic())):
                return
            os.kill(pid, number)
            sent.append(int(number))

    sender = threading.Thread(target=send)
    sender.start()
    # Not yet buried, it can still be sent a signal, which reaches nobody else.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    ended.set()
    sender.join()
    _, status = os.waitpid(pid, 0)
    for name in modules.read_text().split() if modules.exists() else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return {"sent": sent, "code": os.waitstatus_to_exitcode(status), "said": said.read_text().splitlines()}


def chain(
    study: str, place: Path, jobs: int, signals: list[list[int]], within: float, seed: int
) -> list[dict[str, Any]]:
    """Commands, each stopped by its signals somewhere in so many seconds, until one gets through."""
    draw, found = random.Random(seed), []
    for numbers in [*signals, []]:
        moment = draw.uniform(0.0, within)
        timed = [(moment + 0.02 * at, number) for at, number in enumerate(numbers)]
        found.append(command(["run", study, "--out", str(place), "--jobs", str(jobs)], place, timed))
        if found[-1]["code"] == 0:
            break
    return found


def main() -> None:
    """Undisturbed in whole/; with signals in cut/, and with two workers in workers/."""
    study, folder, began = sys.argv[1], Path(sys.argv[2]), time.monotonic()
    whole = chain(study, folder / "whole", 1, [], 0.0, 0)
    usual = 0.3 * (time.monotonic() - began)  # without its imports
    cut = chain(study, folder / "cut", 1, SIGNALS, usual / 2, 7)
    workers = chain(study, folder / "workers", 2, SIGNALS[:1], usual + 3, 3)
    print(json.dumps({"whole": whole, "cut": cut, "workers": workers}))


if __name__ == "__main__":
    main()
