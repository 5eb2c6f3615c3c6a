"""Several cells of a study at once: worker processes, to which the study's own process hands one cell after another.

Parent and worker speak over the worker's standard input and output, a line of JSON at a time. The parent says the
task and then the numbers of cells; the worker says what it does and answers each number with the finished cell, whose
run lies in the store by then. When its input ends, because the parent asks it to stop or is no more, a worker saves
the step in hand and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byrote.runner.plan import waiting_cells
from byrote.runner.progress import Interrupted, Progress
from byrote.runner.study import StudyRun
from byrote.store import Cell, Locked, Store
from byrote.study import Study

if TYPE_CHECKING:
    from typing import TextIO

SECONDS = 0.25
"""A worker says how far it is at most so often; so often the parent looks whether it shall stop."""
OUT_OF_MEMORY = "out of memory"

Keep = Callable[[int, Cell, int], None]
"""Takes the number of a cell, the cell, and how much had to be done for it."""


@contextlib.contextmanager
def share_of_threads(jobs: int) -> Iterator[None]:
    """torch with this process's threads divided by `jobs`, at least one.

    Parent and workers have the same, so that it does not matter to a result who made it: with another number of
    threads the last bits of sums may differ.
    """
    import torch

    before = torch.get_num_threads()
    try:
        if jobs > 1:
            torch.set_num_threads(max(1, before // jobs))
        yield
    finally:
        if jobs > 1:
            torch.set_num_threads(before)


class Worker:
    """The parent's side of one worker process. Everything it says is put in `inbox`, and None when it is gone."""

    def __init__(
        self, number: int, task: dict[str, Any], threads: int, inbox: queue.SimpleQueue[tuple[Worker, Any]]
    ) -> None:
        self.number, self.inbox = number, inbox
        self.cell: int | None = None
        """The number of the cell in hand."""
        self.alive = True
        self.complaints: deque[bytes] = deque(maxlen=5)
        """The last lines of its standard error."""
        # A session of its own: Ctrl-C in a terminal is for the parent, which then asks the workers to stop.
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        self.threads = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self.complaints.extend, args=(self.stderr,), daemon=True),
        ]
        for thread in self.threads:
            thread.start()
        self._write(task)

    def _listen(self) -> None:
        for line in self.stdout:
            with contextlib.suppress(ValueError):  # a kill cut it short
                self.inbox.put((self, json.loads(line)))
        self.inbox.put((self, None))

    def _write(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # it died: what it has in hand is missed when it is seen to be gone
            self.stdin.write(json.dumps(value).encode() + b"\n")
            self.stdin.flush()

    def give(self, cell: int) -> None:
        """Hand it a cell."""
        self.cell = cell
        self._write(cell)

    def close(self) -> None:
        """Ask it to end, after the step in hand if it has a cell."""
        with contextlib.suppress(OSError):
            self.stdin.close()

    def last_words(self) -> str:
        """How it ended, and the last line that it complained."""
        code = self.process.wait()
        if code < 0:
            return f"was killed by signal {-code}"
        self.threads[1].join()
        said = b"".join(self.complaints).decode(errors="replace").strip().rpartition("\n")[2]
        return f"ended with {code}" + (f" ({said[:300]})" if said else "")

    def end(self) -> None:
        """End it now, if it is there still; a kill loses the step in hand and no more."""
        self.process.kill()
        self.process.wait()
        self.close()
        for thread in self.threads:
            thread.join()
        self.stdout.close()
        self.stderr.close()


def work(study: StudyRun, jobs: int, keep: Keep) -> None:
    """Let at most `jobs` workers do the cells that are still to be trained; `keep` takes each one when it is finished.

    What is left to the caller, who then is alone: a cell whose worker died, whose run another process holds, or which
    ran out of memory beside others. Raises Interrupted where a stop was requested.
    """
    waiting = deque(waiting_cells(study.study, study.context))
    jobs = min(jobs, len(waiting))
    if jobs < 2:
        return
    if study.context.device.startswith("cuda"):
        study.progress.say(f"{jobs} workers share one GPU: its memory must hold all of them, and each takes longer")
    Pool(study, jobs, waiting, keep).run()
    study.progress.check()


class Pool:
    """The workers of one study, and the cells that wait for one."""

    def __init__(self, study: StudyRun, jobs: int, waiting: deque[int], keep: Keep) -> None:
        import torch

        self.study, self.waiting, self.keep = study, waiting, keep
        self.cells = len(list(study.study.cells()))
        self.done = self.cells - len(waiting)
        self.held: list[int] = []
        """Cells of which another process holds a run: perhaps another worker, which will have ended it."""
        self.closing = False
        self.inbox: queue.SimpleQueue[tuple[Worker, Any]] = queue.SimpleQueue()
        task = {
            "study": study.study.model_dump(mode="json"),
            "folder": str(study.folder),
            "out": str(study.out),
            "store": str(study.context.store.root),
        }
        threads = torch.get_num_threads()  # a share of them already
        self.workers = [Worker(number, task, threads, self.inbox) for number in range(1, jobs + 1)]

    def run(self) -> None:
        """Until no worker has anything to do."""
        try:
            self._hand_out()
            while any(worker.alive for worker in self.workers):
                if self.study.progress.stop_requested:
                    self._close()
                with contextlib.suppress(queue.Empty):
                    self._hear(*self.inbox.get(timeout=SECONDS))
        finally:
            for worker in self.workers:
                worker.end()

    def _hand_out(self) -> None:
        """A cell for everyone who has none; when there will be none any more, the end."""
        self.study.progress.runs(self.done, self.cells)
        for worker in self.workers:
            if worker.alive and worker.cell is None and self.waiting and not self.closing:
                worker.give(self.waiting.popleft())
        if all(worker.cell is None for worker in self.workers):
            self._close()

    def _close(self) -> None:
        self.closing = True
        for worker in self.workers:
            worker.close()

    def _hear(self, worker: Worker, message: Any) -> None:
        progress = self.study.progress.worker(worker.number)
        match message:
            case ["start", label, total]:
                progress.start(label, total)
            case ["advance", done, detail]:
                progress.advance(done, detail)
            case ["say", text]:
                progress.say(text)
            case ["answer", number, cell, worked]:
                worker.cell = None
                self._take(number, None if cell is None else Cell.model_validate(cell), worked)
                self._hand_out()
            case None:
                worker.alive = False
                if worker.cell is not None and not self.study.progress.stop_requested:
                    progress.say(f"a worker {worker.last_words()}; its cell is done again at the end")
                worker.cell = None
                self._others_may_go_on()
                self._hand_out()

    def _take(self, number: int, cell: Cell | None, worked: int) -> None:
        if cell is None:
            self.held.append(number)
            return
        if not (cell.status == "failed" and cell.error.startswith(OUT_OF_MEMORY)):
            self.done += 1
            self.keep(number, cell, worked)
        self._others_may_go_on()

    def _others_may_go_on(self) -> None:
        """A worker let go of a run, perhaps one that others wait for."""
        self.waiting.extend(self.held)
        self.held.clear()


class Told(Progress):
    """A worker's progress, told to its parent. Where the parent is no more, the worker stops too."""

    def __init__(self, pipe: TextIO) -> None:
        self.pipe = pipe
        self.told = 0.0

    def tell(self, *message: Any) -> None:
        """One line."""
        try:
            self.pipe.write(json.dumps(message) + "\n")
            self.pipe.flush()
        except OSError:
            self.stop_requested = True

    def say(self, text: str) -> None:
        """For a person to read."""
        self.tell("say", text)

    def start(self, label: str, total: int) -> None:
        """A new stretch."""
        self.told = 0.0
        self.tell("start", label, total)

    def advance(self, done: int, detail: str = "") -> None:
        """How far it is, every now and then."""
        if time.monotonic() - self.told >= SECONDS:
            self.told = time.monotonic()
            self.tell("advance", done, detail)


def main() -> None:
    """A worker: cells, until there are no more."""
    # What libraries print goes with their warnings; the pipe is for what the parent understands.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    progress, cells = Told(pipe), queue.SimpleQueue[int | None]()
    task = json.loads(sys.stdin.readline())

    def listen() -> None:
        for line in sys.stdin:
            cells.put(json.loads(line))
        progress.stop_requested = True
        cells.put(None)

    threading.Thread(target=listen, daemon=True).start()
    store = Store(Path(task["store"]))
    study = StudyRun(Study.model_validate(task["study"]), Path(task["folder"]), Path(task["out"]), store, progress)
    study.beside_others = True
    planned = list(study.study.cells())
    with contextlib.suppress(Interrupted):
        while (number := cells.get()) is not None:
            study.worked = 0
            method, privacy, seed = planned[number]
            try:
                cell = study.cell(method, privacy, seed, study.context.splits(seed)).model_dump(mode="json")
            except Locked:
                cell = None
            progress.tell("answer", number, cell, study.worked)


if __name__ == "__main__":
    main()
