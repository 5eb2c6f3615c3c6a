"""Rows of one kind by what they are about, slices among them."""

from __future__ import annotations

from byrote.report.findings import Finding
from byrote.report.measures import Attack, Extraction, Poisoning, merged_settings
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.store import Cell


class SlicedIndex:
    """The rows of one kind, at the last epoch of each configuration."""

    def __init__(self, summary: Summary, kind: str) -> None:
        self.evidence = summary.results.evidence
        self.rows: dict[tuple[object, ...], Row] = {
            (
                row.method,
                row.settings,
                row.privacy,
                row.delta,
                row.seed,
                row.epoch,
                row.name,
                row.metric,
                row.slice,
            ): row
            for row in summary.results.rows
            if row.kind == kind
        }

    def get(
        self, one: Finding, measure: Attack | Extraction | Poisoning, metric: str, slice_: str, cell: Cell | None = None
    ) -> Row | None:
        """The pooled row, or that of the only seed; with `cell` that of this one, at its own last epoch."""
        of = one.configuration
        settings = merged_settings(of.settings, measure.name, measure.settings)
        seed = cell.seed if cell is not None else of.done[0].seed if len(of.done) == 1 else None
        epoch = self.evidence.last_epoch(cell) if cell is not None else one.epoch
        return self.rows.get((of.method, settings, of.privacy, of.delta, seed, epoch, measure.name, metric, slice_))
