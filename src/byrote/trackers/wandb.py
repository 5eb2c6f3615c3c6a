"""Weights & Biases: an offline folder beside the results, unless the environment says to upload."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from byrote.registry import register
from byrote.trackers.base import Tracked, Tracker, unless_told

MODE = "WANDB_MODE"
SERVER, ENTITY = "WANDB_BASE_URL", "WANDB_ENTITY"


@register("tracker", "wandb")
class WandB(Tracker):
    """Offline runs in OUT/wandb, to be sent with `wandb sync`; with WANDB_MODE=online they are sent at once.

    Its error reports are off unless WANDB_ERROR_REPORTING says otherwise.
    """

    package: ClassVar[str] = "wandb"

    def place(self, folder: Path) -> str:
        """The server and whose runs are there, or the folder that waits to be sent."""
        mode = os.environ.get(MODE, "offline")
        if mode != "online":
            return f"{folder / 'wandb'} ({mode}; `wandb sync` sends it)"
        return f"{os.environ.get(SERVER) or 'wandb.ai'} {os.environ.get(ENTITY, '')}".strip()

    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        """A run for each, under an id of its own."""
        unless_told("WANDB_ERROR_REPORTING", "false")
        unless_told("WANDB_SILENT", "true")
        import wandb

        quiet = wandb.Settings(console="off", x_disable_stats=True, save_code=False)
        mode = os.environ.get(MODE, "offline")
        for one in runs:
            run = wandb.init(
                project=_plain(one.study), name=one.name, id=one.id, resume="allow", config=dict(one.settings),
                dir=str(folder), mode=mode, settings=quiet,
            )  # fmt: skip
            for epoch, numbers in sorted(one.series.items()):
                run.log(dict(numbers), step=epoch)
            run.summary.update({f"final/{name}": value for name, value in one.final.items()})
            if one.files:
                artifact = wandb.Artifact("report", type="report")
                for file in one.files:
                    artifact.add_file(str(file))
                run.log_artifact(artifact)
            run.finish()


def _plain(name: str) -> str:
    """A project's name with no sign that is refused."""
    return "".join("-" if sign in "/\\#?%:" else sign for sign in name)[:128]
