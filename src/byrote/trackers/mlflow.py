"""MLflow: a database beside the results, or the server that the environment names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from byrote.registry import register
from byrote.trackers.base import Tracked, Tracker, unless_told

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ADDRESS = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
RUN = "byrote.run"
LONGEST = 500
"""Characters of a setting that every server takes."""


@register("tracker", "mlflow")
class MLflow(Tracker):
    """An experiment in OUT/mlflow.db; with MLFLOW_TRACKING_URI set, on that server.

    MLflow's own telemetry is off unless MLFLOW_DISABLE_TELEMETRY says otherwise.
    """

    package: ClassVar[str] = "mlflow"

    def place(self, folder: Path) -> str:
        """The address of the database or server; a path is told whole, as it is another in every working folder."""
        given = os.environ.get(ADDRESS) or f"{SQLITE}{folder / 'mlflow.db'}"
        if given.startswith(SQLITE):
            return f"{SQLITE}{Path(given.removeprefix(SQLITE)).resolve().as_posix()}"
        return given if ":" in given or given == "databricks" else Path(given).resolve().as_posix()

    def send(self, runs: Sequence[Tracked], folder: Path) -> None:
        """A run for each; one that was sent before is deleted and written anew."""
        unless_told("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.place(folder))
        for run in runs:
            experiment = self._experiment(client, run.study, folder)
            for old in client.search_runs([experiment], f"tags.`{RUN}` = '{run.id}'"):
                client.delete_run(old.info.run_id)
            self._run(client, experiment, run)

    def _experiment(self, client: MlflowClient, name: str, folder: Path) -> str:
        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        place = None if os.environ.get(ADDRESS) else (folder / "mlflow-artifacts").resolve().as_uri()
        return str(client.create_experiment(name, artifact_location=place))

    def _run(self, client: MlflowClient, experiment: str, run: Tracked) -> None:
        from mlflow.entities import Metric, Param

        made = client.create_run(experiment, run_name=run.name, tags={RUN: run.id}).info
        at = made.start_time
        last = max(run.series, default=0)
        metrics = [
            Metric(_plain(name), value, at, epoch)
            for epoch, numbers in sorted(run.series.items())
            for name, value in numbers.items()
        ]
        metrics += [Metric(f"final/{_plain(name)}", value, at, last) for name, value in run.final.items()]
        settings = [Param(_plain(name), value[:LONGEST]) for name, value in run.settings.items()]
        for start in range(0, max(len(metrics), 1), 500):
            client.log_batch(made.run_id, metrics[start : start + 500])
        for start in range(0, len(settings), 100):
            client.log_batch(made.run_id, params=settings[start : start + 100])
        for file in run.files:
            client.log_artifact(made.run_id, str(file))
        client.set_terminated(made.run_id)


def _plain(name: str) -> str:
    """A name with no sign that MLflow refuses."""
    return re.sub(r"[^\w\-. /]", "_", name)
