"""Runs one study in child after child, kills each with SIGKILL a little later, until one gets through.

Called as `python kill_points.py FOLDER`, where `small_study.make_folder` made FOLDER. Everything is
imported once and each run is a forked child, so that a kill costs half a second and not ten.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import byrote.report.write
from byrote.runner.study import run
from byrote.store import RunFolder
from byrote.target import Target
from byrote.training.loop import Training
from small_study import study_of

STRIDE = 9


class Killer:
    """Counts moments, and kills its own process at the one given."""

    def __init__(self, moment: int | None) -> None:
        self.left, self.seen = moment, 0

    def moment(self) -> None:
        """Now would be a bad time."""
        self.seen += 1
        if self.seen == self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: Any, name: str) -> None:
        """Put a moment before every call of a function."""
        function = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.moment()
            return function(*arguments, **options)

        setattr(owner, name, wrapped)


def child(folder: Path, out: Path, moment: int | None, changes: dict[str, Any]) -> int | None:
    """Run the study in a forked process that dies at a moment; how many moments it saw, None where it died."""
    seen = out.with_suffix(".seen")
    pid = os.fork()
    if pid == 0:
        killer = Killer(moment)
        # Every step is saved, so that the state is written, and found again, in the middle of epochs too.
        Training.due_for_saving = property(lambda self: True)  # type: ignore[assignment,method-assign]
        for owner, name in ((os, "replace"), (os, "rename"), (shutil, "rmtree"), (RunFolder, "remove")):
            killer.before(owner, name)
        for owner, name in ((Training, "_step"), (Target, "_score")):
            killer.before(owner, name)
        byrote.report.write.report_html = lambda results, show_text=False: ""  # the slowest part, and it only reads
        code = 1
        try:
            results = run(study_of(folder, **changes), out)
            seen.write_text(json.dumps({"moments": killer.seen, "modules": sorted(sys.modules)}))
            code = 3 if results.failed else 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return None
    assert os.WEXITSTATUS(status) == 0, f"{out.name} ended with {os.WEXITSTATUS(status)}"
    found = json.loads(seen.read_text())
    for module in found["modules"]:  # what a child imported, the next ones find imported
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    return int(found["moments"])


def main() -> None:
    """One run undisturbed in whole/, one in chain/ that is killed again and again; prints the number of kills."""
    folder = Path(sys.argv[1])
    study = {"methods": [{"name": "lora", "lora_dropout": 0.2}, "head", "prompt-tuning"], "attacks": ["loss"]}
    moments = child(folder, folder / "whole", None, study)
    kills = 0
    while child(folder, folder / "chain", STRIDE * (kills + 1), study) is None:
        kills += 1
    print(json.dumps({"moments": moments, "kills": kills}))


if __name__ == "__main__":
    main()
