"""What the pictures of axes draw: each method at each point, with its measures at the last epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from byrote.report.axes import PointEntry, VariedResults
from byrote.report.findings import Configuration
from byrote.report.measures import label
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.store import canonical_json

COMPARED = {
    "-excess-vs-nonmembers": " (members − nonmembers, less untuned)",
    "-vs-nonmembers": " (members − nonmembers)",
}
"""How the metrics of what comes out are read."""


class Measure(NamedTuple):
    """What a row measures, whatever the method: 'AUC of reference', 'perplexity'."""

    kind: str
    name: str
    settings: str
    metric: str
    slice: str

    @property
    def label(self) -> str:
        ending = next((ending for ending in COMPARED if self.metric.endswith(ending)), "")
        own, metric = label(self.name, self.settings), self.metric.removesuffix(ending)
        if self.kind == "utility":
            words = label(metric, self.settings)
        else:
            words = own if metric == self.name else f"{'AUC' if metric == 'auc' else metric} of {own}"
        return f"{words}{COMPARED.get(ending, '')}{f', {self.slice}' if self.slice else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """One method at one point: its rows at the last epoch."""

    entry: PointEntry
    configuration: Configuration
    rows: Mapping[Measure, Row]
    parameters: float | None
    copies: int | None = None
    """Of which tier of repeated members its rows are; None: of all records."""


def spots_of(results: VariedResults) -> list[Spot]:
    """Every method of every point that has results, the untuned model among them."""
    varied = {axis.path for axis in results.manifest.axes}
    return [spot for entry, of_point in results.done() for spot in _spots(entry, Summary(of_point), varied)]


def _spots(entry: PointEntry, summary: Summary, varied: Set[str]) -> Iterator[Spot]:
    controls = {attack.name for attack in summary.results.evidence.controls}
    known: dict[tuple[object, ...], dict[Measure, Row]] = {}
    for row in summary.results.rows:
        if row.value is not None and row.low is not None and _is_shown(row) and row.name not in controls:
            settings, own = _apart(row, varied)
            key = (row.method, settings, row.privacy, row.delta, row.seed, row.epoch)
            known.setdefault(key, {})[Measure(row.kind, row.name, own, row.metric, row.slice)] = row
    for one in summary.findings:
        of = one.configuration
        seed = of.done[0].seed if len(of.done) == 1 else None
        found = known.get((of.method, of.settings, of.privacy, of.delta, seed, one.epoch), {})
        yield Spot(entry, of, found, one.cost.get("total_parameters"))


def _is_shown(row: Row) -> bool:
    """Whether a row says what one method came to, and not how it compares with another."""
    if row.kind == "membership":
        return row.metric == "auc"
    return row.kind not in ("cost", "privacy") and not (row.kind == "utility" and "-vs-" in row.metric)


def _apart(row: Row, varied: Set[str]) -> tuple[str, str]:
    """The method's settings, and those of the attack or measure less what is varied: a row holds them together."""
    merged: dict[str, Any] = json.loads(row.settings or "{}")
    own = json.dumps(merged.pop(row.name, None) or {})
    return canonical_json(merged) if merged else "", held(row.name, own, varied)


def held(name: str, settings: str, varied: Set[str]) -> str:
    """An attack's settings without those fields of it that the study varies."""
    own = json.loads(settings or "{}")
    kept = {key: value for key, value in own.items() if not varied & {f"attacks.{name}.{key}", f"utility.{name}.{key}"}}
    return canonical_json(kept) if kept else ""
