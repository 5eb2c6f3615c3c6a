"""Trackio: its database on this machine, unless the environment names a Space or a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from byrote.registry import register
from byrote.trackers.base import Tracked, Tracker

HERE = "TRACKIO_DIR"
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


@register("tracker", "trackio")
class Trackio(Tracker):
    """Trackio's own folder on this machine, which `trackio show` opens.

    Results leave the machine only where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set.
    """

    package: ClassVar[str] = "trackio"

    def place(self, folder: Path) -> str:
        """The Space, the server, or the folder on this machine."""
        told = " ".join(os.environ[name] for name in ELSEWHERE if os.environ.get(name))
        here = os.environ.get(HERE) or "trackio's folder on this machine"
        return told or f"{here} (trackio show)"

    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        """A run for each."""
        import trackio

        for one in runs:
            run = trackio.init(
                project=one.study, name=f"{one.name} {one.id[:8]}", config=dict(one.settings), resume="allow",
                embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip
            for epoch, numbers in sorted(one.series.items()):
                run.log(dict(numbers), step=epoch)
            if one.final:
                run.log({f"final/{name}": value for name, value in one.final.items()}, step=max(one.series, default=0))
            for file in one.files:
                trackio.save(file, project=one.study)
            run.finish()
