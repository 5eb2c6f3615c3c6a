"""Rows about what coin-flip canaries prove of the privacy of a training: lower bounds on its epsilon, and a test of
its ledger.

Like is compared with like. A coin-flip canary is one record, so its bound belongs beside the epsilon of one record;
where it was trained on several times in an epoch, beside that of a group of so many. No bound is made from the other
records: these are of fixed numbers, and no coin of their own decided about each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from byrote.report.evidence import Evidence
from byrote.report.measures import Attack, headline, merged_settings
from byrote.report.pieces import Series
from byrote.report.privacy_rows import no_account
from byrote.report.rows import Row, blank_row
from byrote.statistics.epsilon import Audit
from byrote.statistics.one_run import profile_inverse
from byrote.statistics.tradeoff import group_epsilon
from byrote.store import Cell, canonical_json
from byrote.types import COIN_FLIP, Ledger

LOWER_BOUND, CEILING, P_VALUE = "epsilon_lower_bound", "epsilon_ceiling", "ledger_p_value"
ESTIMATED = (LOWER_BOUND, CEILING)
GROUP = "epsilon_of_group"
LEDGER_TEST = "one-run-f-dp"
AUDIT = "audit"
INTERVAL = "one-sided"
EXPONENT = 1.1
NO_COINS = (
    "members, nonmembers and repeated canaries are of fixed numbers: a bound needs records of which each was trained "
    "on or not by a coin of its own. Plant coin-flips"
)


def audit_attack(evidence: Evidence) -> Attack | None:
    """Whose scores the coins are guessed by: the headline, unless it has learned from other coins of the same split."""
    first = headline(evidence.attacks)
    candidates = [attack for attack in (first, *evidence.attacks) if attack is not None]
    return next((attack for attack in candidates if not attack.learns and not attack.of_sets), None)


def coin_slices(evidence: Evidence, seed: int) -> list[str]:
    """The slices of coin-flip canaries of a seed."""
    found = {name for side in ("member", "nonmember") for name in evidence.part(seed, side).slices}
    return sorted(name for name in found if name.startswith(COIN_FLIP))


def audited_delta(evidence: Evidence, cell: Cell) -> float:
    """That of the ledger; without privacy the one of the study's private runs, else 1 / N^1.1 of the members."""
    ledger = evidence.pieces[cell.run_id].ledger
    if ledger is not None:
        return ledger.delta
    stated = [one.delta for one in evidence.manifest.cells if one.delta is not None]
    return stated[0] if stated else float(max(len(evidence.part(cell.seed, "member")), 2) ** -EXPONENT)


def epsilon_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """The bounds of a tuned cell at its last epoch, by every estimator, and the test of its ledger."""
    slices, epoch = coin_slices(evidence, cell.seed), evidence.last_epoch(cell)
    if cell.method == "none" or epoch is None or not (slices or cell.privacy != "none"):
        return
    delta = audited_delta(evidence, cell)
    blank = replace(blank_row(evidence, cell, epoch, "privacy", None), name=AUDIT, delta=delta)
    yield replace(blank, metric=LOWER_BOUND, reason=NO_COINS)
    attack = audit_attack(evidence)
    for slice_ in slices:
        row = replace(blank, slice=slice_)
        audit = "no attack of this study can guess coins" if attack is None else _audit(evidence, cell, row, attack)
        if isinstance(audit, str) or attack is None:
            yield replace(row, metric=LOWER_BOUND, reason=str(audit))
        else:
            yield from _rows(evidence, cell, row, attack, audit)


def _audit(evidence: Evidence, cell: Cell, row: Row, attack: Attack) -> Audit | str:
    """The audit of one slice, or why there is none."""
    column = evidence.pieces[cell.run_id].scores.get(Series(row.epoch or 0, attack.name, attack.settings))
    if column is None:
        return evidence.pieces[cell.run_id].unreadable("scores.parquet") or "not scored at this epoch"
    sides = [evidence.part(cell.seed, side).only(lambda name: name == row.slice) for side in ("member", "nonmember")]
    groups = sides[0].groups + sides[1].groups
    if len(set(groups)) < len(groups):
        return "canaries share groups, so that their coins are not independent"
    scores = np.concatenate([column.take(side.ids) for side in sides])
    inserted = np.repeat([True, False], [len(side) for side in sides])
    # Ids were given before the coins fell, so this order does not hang on them.
    order = np.argsort(np.array([record for side in sides for record in side.records], dtype=object), kind="stable")
    order = order[np.isfinite(scores[order])]
    try:
        return Audit.of(scores[order], inserted[order], row.delta or 0.0, seed=cell.seed)
    except ValueError as problem:
        return str(problem)


def _rows(evidence: Evidence, cell: Cell, row: Row, attack: Attack, audit: Audit) -> Iterator[Row]:
    own = canonical_json({"scores": attack.label})
    for name, bound in audit.bounds().items():
        settings = merged_settings(cell.settings, name, own)
        blank = replace(row, name=name, settings=settings, access=attack.access, n=audit.n, null_value=0.0)
        yield replace(blank, metric=LOWER_BOUND, value=bound.epsilon, interval=INTERVAL)
        yield replace(blank, metric=CEILING, value=bound.ceiling)
    if cell.privacy == "none":
        return
    ledger = evidence.pieces[cell.run_id].ledger
    copies = copies_of(evidence, cell, row.slice)
    settings = merged_settings(cell.settings, LEDGER_TEST, own)
    blank = replace(row, name=LEDGER_TEST, settings=settings, access=attack.access, metric=P_VALUE, n=audit.n)
    if ledger is None or not ledger.private:
        yield replace(blank, reason=no_account(evidence, cell) or "nothing is guaranteed")
        return
    units = copies if ledger.unit == "record" else 1
    curve = profile_inverse((*ledger.profile, (ledger.epsilon, ledger.delta)), units)
    yield replace(blank, value=audit.p_value(curve))
    if units > 1:
        yield _group_row(replace(row, name=AUDIT, metric=GROUP), ledger, units)


def copies_of(evidence: Evidence, cell: Cell, slice_: str) -> int:
    """How often a canary of a slice is trained on in an epoch, at most."""
    counts = [1]
    for side in ("member", "nonmember"):
        counts += evidence.part(cell.seed, side).only(lambda name: name == slice_).copies
    return max(counts)


def _group_row(row: Row, ledger: Ledger, units: int) -> Row:
    """The epsilon of a group of this size at the ledger's delta, n."""
    found = group_epsilon((*ledger.profile, (ledger.epsilon, ledger.delta)), ledger.delta, units)
    if found is None:
        reason = f"no epsilon of a group of {units} records at delta {ledger.delta:.2g} follows from the ledger"
        return replace(row, reason=reason)
    return replace(row, value=found, n=units)
