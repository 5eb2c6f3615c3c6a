"""What a running study tells its watcher."""

from __future__ import annotations

from collections.abc import Callable


class Interrupted(KeyboardInterrupt):
    """The watcher asked to stop, and everything finished so far is on disk."""


class Progress:
    """Says nothing. The command line has a live one and a plain one; the Python API may bring its own."""

    stop_requested: bool = False
    """Set by a watcher to stop at the next safe moment."""

    def say(self, text: str) -> None:
        """One line for a person."""

    def expect(self, text: str) -> None:
        """What is going to be done and how long it should take, for a person; said once, before the work."""

    def runs(self, done: int, total: int) -> None:
        """So many of the study's runs are answered."""

    def start(self, label: str, total: int) -> None:
        """A stretch of work of `total` parts begins; it replaces the one before."""

    def advance(self, done: int, detail: str = "") -> None:
        """So many parts of it are done."""

    def finish(self) -> None:
        """It is over."""

    def worker(self, number: int) -> Progress:
        """Who hears what worker process `number`, from 1, does. Asked for again and again; the same one each time."""
        return self

    def listener(self, before: int = 0) -> Callable[[int, int], None]:
        """Hears how many parts of a pass are done, after so many; stops the pass once that is requested."""

        def advance(done: int, total: int = 0) -> None:
            self.advance(before + done)
            self.check()

        return advance

    def check(self) -> None:
        """Raises Interrupted once a stop is requested."""
        if self.stop_requested:
            raise Interrupted
