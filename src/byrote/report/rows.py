"""A row of the results: one estimate with its interval, n and null, and what it is about."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from operator import attrgetter

from byrote.report.evidence import Evidence
from byrote.report.measures import Attack, Extraction, Poisoning, Utility, merged_settings
from byrote.store import Cell
from byrote.types import Estimate

RATES = (0.1, 0.01, 0.001)
PARTIAL_FPR = 0.1
PARTIAL, BALANCED = f"partial-auc@fpr={PARTIAL_FPR:g}", "balanced-accuracy"
COSTS = {
    "train_seconds": ("training", "seconds"),
    "tokens_per_second": ("training", "tokens_per_second"),
    "peak_memory_bytes": ("training", "peak_memory_bytes"),
    "trainable_parameters": ("training", "trainable_parameters"),
    "total_parameters": ("training", "total_parameters"),
    "scoring_seconds": ("scoring", "seconds"),
    "attack_seconds": ("attacks", "seconds"),
    "generation_seconds": ("generation", "seconds"),
    "stored_bytes": ("storage", "stored_bytes"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate: a row of results.csv. Absent numbers are None, and `reason` says why."""

    study: str
    model: str
    data: str
    method: str
    family: str
    settings: str
    privacy: str
    delta: float | None
    seed: int | None
    """None where the row is pooled over seeds."""
    epoch: int | None
    """None where each seed's own last epoch is pooled, and these differ."""
    kind: str
    name: str
    metric: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    interval: str
    null_value: float | None
    access: str
    run_id: str
    reason: str

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.low, self.high, self.n, self.interval, self.null_value, self.reason)


COLUMNS = tuple(column.name for column in fields(Row))
cells_of = attrgetter(*COLUMNS)
"""The values of a row, as a tuple in the order of COLUMNS."""


def filled(row: Row, metric: str, estimate: Estimate) -> Row:
    return replace(
        row,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        interval=estimate.interval,
        null_value=estimate.null_value,
        reason=estimate.reason,
    )


def blank_row(
    evidence: Evidence,
    cell: Cell,
    epoch: int | None,
    kind: str,
    measure: Attack | Extraction | Poisoning | Utility | None,
) -> Row:
    manifest = evidence.manifest
    name = "" if measure is None else measure.name
    settings = cell.settings if measure is None else merged_settings(cell.settings, name, measure.settings)
    return Row(
        study=manifest.name, model=manifest.model, data=manifest.data, method=cell.method, family=cell.family,
        settings=settings, privacy=cell.privacy, delta=cell.delta, seed=cell.seed, epoch=epoch, kind=kind, name=name,
        metric="", slice="", value=None, low=None, high=None, n=None, interval="", null_value=None,
        access="" if measure is None or isinstance(measure, Utility) else measure.access, run_id=cell.run_id, reason="",
    )  # fmt: skip
