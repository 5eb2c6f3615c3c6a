"""Rows of one kind by what they are about, slices among them."""

from __future__ import annotations

from byrote.report.findings import Finding
from byrote.report.measures import Extraction, Poisoning, merged_settings
from byrote.report.rows import Row
from byrote.report.summary import Summary


class SlicedIndex:
    """The rows of one kind, at the last epoch of each configuration."""

    def __init__(self, summary: Summary, kind: str) -> None:
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

    def get(self, one: Finding, measure: Extraction | Poisoning, metric: str, slice_: str) -> Row | None:
        """The pooled row, or that of the only seed."""
        of = one.configuration
        settings = merged_settings(of.settings, measure.name, measure.settings)
        seed = of.done[0].seed if len(of.done) == 1 else None
        return self.rows.get((of.method, settings, of.privacy, of.delta, seed, one.epoch, measure.name, metric, slice_))
