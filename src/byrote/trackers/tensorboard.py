"""TensorBoard: event files beside the results."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from byrote.registry import register
from byrote.trackers.base import Tracked, Tracker


@register("tracker", "tensorboard")
class TensorBoard(Tracker):
    """Event files in OUT/tensorboard, which `tensorboard --logdir` shows; nothing leaves the machine."""

    package: ClassVar[str] = "tensorboard"

    def place(self, folder: Path) -> str:
        """The folder, and how it is looked at."""
        return f"{folder / 'tensorboard'} (tensorboard --logdir {folder / 'tensorboard'})"

    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        """A folder for each run; one that was sent before is written anew."""
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        for run in runs:
            name = re.sub(r"[^\w.-]+", "-", run.name).strip("-")
            where = place / f"{name}-{run.id[:8]}"
            shutil.rmtree(where, ignore_errors=True)
            writer = SummaryWriter(str(where))
            rows = [f"| {key} | {value} |" for key, value in run.settings.items()]
            writer.add_text("settings", "\n".join(["| setting | value |", "| --- | --- |", *rows]))
            for epoch, numbers in sorted(run.series.items()):
                for name, value in numbers.items():
                    writer.add_scalar(name, value, epoch)
            last = max(run.series, default=0)
            for name, value in run.final.items():
                writer.add_scalar(f"final/{name}", value, last)
            for file in run.files:
                if file.suffix == ".md":
                    writer.add_text("report", file.read_text(encoding="utf-8"))
            writer.close()
