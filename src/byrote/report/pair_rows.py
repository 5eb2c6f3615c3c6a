"""Rows that compare two methods on the same records: the difference of their AUCs, and its p-value among all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from byrote.report.evidence import Evidence
from byrote.report.findings import Configuration, configurations, labels_of, over_seeds
from byrote.report.measures import Attack, headline
from byrote.report.privacy_rows import auc_difference, privacy_settings, without_privacy
from byrote.report.rows import Row, blank_row, filled
from byrote.statistics.comparison import holm, p_value
from byrote.statistics.interval import pool_over_seeds
from byrote.store import canonical_json

VERSUS, ADJUSTED = "auc-vs-", "holm-p-vs-"
MOST = 32
"""Methods of one level that are set against each other: of more, hardly a pair would outlast the correction."""


class Pair(NamedTuple):
    """Two configurations at one privacy level; the rows are those of `one`, which stands later in the study."""

    one: Configuration
    other: Configuration
    name: str
    """The other's method and settings in words: its privacy level is that of the row."""

    @property
    def difference(self) -> str:
        """The metric of the AUC of `one` less that of `other`."""
        return f"{VERSUS}{self.name}"

    @property
    def adjusted(self) -> str:
        """The metric of its p-value."""
        return f"{ADJUSTED}{self.name}"


def levels_of(evidence: Evidence) -> list[list[Configuration]]:
    """The configurations with a run that ended well, by privacy level: what privacy changed is told elsewhere."""
    levels: dict[tuple[str, float | None, str], list[Configuration]] = {}
    for one in configurations(evidence):
        if one.method != "none" and one.done:
            own = canonical_json(privacy_settings(one.settings))
            levels.setdefault((one.privacy, one.delta, own), []).append(one)
    return list(levels.values())


def pairs_of(level: Sequence[Configuration]) -> list[Pair]:
    """Every two configurations of a level once; none where there are too many."""
    if len(level) > MOST:
        return []
    keys = [(one.method, without_privacy(one.settings), "none", None) for one in level]
    names = labels_of(keys)
    return [
        Pair(one, other, names[key])
        for at, one in enumerate(level)
        for other, key in zip(level[:at], keys[:at], strict=True)
    ]


def pair_rows(evidence: Evidence) -> list[Row]:
    """Each pair at the last epoch by the headline attack: every seed, all seeds, and the p-values of all pairs."""
    attack = headline(evidence.attacks)
    if attack is None:
        return []
    rows: list[Row] = []
    claims: list[tuple[Pair, Row]] = []
    for pair in (pair for level in levels_of(evidence) for pair in pairs_of(level)):
        found = list(_of_pair(evidence, pair, attack))
        rows += found
        claims += [(pair, row) for row in found[-1:] if row.low is not None]
    adjusted = holm([p_value(row.estimate) for _, row in claims])
    return rows + [_of_p(row, pair, p) for (pair, row), p in zip(claims, adjusted, strict=True)]


def _of_pair(evidence: Evidence, pair: Pair, attack: Attack) -> Iterator[Row]:
    """The difference with every seed that both have, and last over all of these where either has several."""
    others, alone = {cell.seed: cell for cell in pair.other.done}, []
    ends = {evidence.last_epoch(cell) for cell in pair.one.done}
    for cell in pair.one.done:
        other, epoch = others.get(cell.seed), evidence.last_epoch(cell)
        end = None if other is None else evidence.last_epoch(other)
        if other is not None and epoch is not None and end is not None:
            found = auc_difference(evidence, (cell, epoch), (other, end), attack, pair.name)
            alone.append(filled(blank_row(evidence, cell, epoch, "membership", attack), pair.difference, found))
    yield from alone
    if alone and over_seeds(pair.one, pair.other):
        epoch = ends.pop() if len(ends) == 1 else None
        pooled = pool_over_seeds([row.estimate for row in alone], (-1.0, 1.0))
        yield filled(replace(alone[0], seed=None, epoch=epoch, run_id=""), pair.difference, pooled)


def _of_p(row: Row, pair: Pair, p: float) -> Row:
    """A p-value is a statement about an interval and has none of its own."""
    return replace(row, metric=pair.adjusted, value=p, low=None, high=None, interval="", null_value=None)
