"""Rows that only private runs have: what was spent, and how each run differs from the same one without privacy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from byrote.report.evidence import Evidence, Sides
from byrote.report.measures import Attack, Utility
from byrote.report.pieces import LEDGER
from byrote.report.rows import Row, blank_row, filled
from byrote.report.utility_rows import utility_difference
from byrote.statistics.delong import auc_lift
from byrote.statistics.groups import joined
from byrote.store import Cell, canonical_json
from byrote.types import Estimate, Ledger

VERSUS = "-vs-none"
AUC_VERSUS = f"auc{VERSUS}"
REPEATABLE = "the noise was repeatable, so nothing is guaranteed"


def utility_versus(utility: Utility) -> str:
    """The metric that compares a utility measure with the same run without privacy, on the same test records."""
    return f"{utility.metric}{VERSUS}"


def privacy_settings(settings: str) -> dict[str, Any]:
    """What of a configuration's settings belongs to its privacy level, by our names: {"clip_norm": 1.0}."""
    return {
        key.removeprefix("privacy."): value
        for key, value in json.loads(settings or "{}").items()
        if key.startswith("privacy.")
    }


@lru_cache(maxsize=8192)
def without_privacy(settings: str) -> str:
    """A cell's settings less those of its privacy level, as the cell of the same method without privacy has them."""
    kept = {key: value for key, value in json.loads(settings or "{}").items() if not key.startswith("privacy.")}
    return canonical_json(kept) if kept else ""


def no_account(evidence: Evidence, cell: Cell) -> str:
    """Why a private cell has no account; empty where it has one."""
    pieces = evidence.pieces[cell.run_id]
    if pieces.ledger is not None:
        return ""
    return pieces.unreadable(LEDGER) or f"{LEDGER} of run {cell.run_id} says that the run was not private"


def account_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """Epsilon spent after each epoch, n is the steps done; at the end the constants it came from.

    An account is known and not estimated: its rows have no interval.
    """
    if cell.privacy == "none":
        return
    blank = replace(blank_row(evidence, cell, evidence.last_epoch(cell), "privacy", None), name="epsilon")
    ledger = evidence.pieces[cell.run_id].ledger
    if ledger is None:
        yield replace(blank, metric="epsilon", reason=no_account(evidence, cell))
        return
    blank = replace(blank, delta=ledger.delta)
    for epoch, steps, epsilon in ledger.epochs:
        yield _spent(replace(blank, epoch=epoch, metric="epsilon", n=steps), epsilon, ledger)
    end = replace(blank, epoch=ledger.epochs[-1][0] if ledger.epochs else blank.epoch, n=ledger.steps)
    if not ledger.epochs:
        yield _spent(replace(end, metric="epsilon"), ledger.epsilon, ledger)
    if ledger.epsilon_rdp is not None:
        yield _spent(replace(end, metric="epsilon_rdp"), ledger.epsilon_rdp, ledger)
    constants = {
        "noise_multiplier": ledger.noise_multiplier, "clip_norm": ledger.clip_norm,
        "sampling_rate": ledger.sampling_rate, "steps": float(ledger.steps),
    }  # fmt: skip
    for metric, value in constants.items():
        yield replace(end, name="training", metric=metric, value=value)


def _spent(row: Row, epsilon: float, ledger: Ledger) -> Row:
    return replace(row, value=epsilon) if ledger.private else replace(row, reason=REPEATABLE)


def twin_of(evidence: Evidence, cell: Cell) -> Cell | None:
    """The cell of the same method, settings and seed without privacy; None where the study has none that ended well."""
    wanted = (cell.method, without_privacy(cell.settings), "none", cell.seed)
    return next((one for one in evidence.done() if (one.method, one.settings, one.privacy, one.seed) == wanted), None)


def versus_rows(evidence: Evidence, cell: Cell) -> Iterator[Row]:
    """A private cell against its twin without privacy, after every epoch: AUC of every attack, every utility measure.

    At its last epoch it is compared with the last one of its twin, and before with the same epoch, or
    the twin's last where that had ended.
    """
    twin = twin_of(evidence, cell) if cell.privacy != "none" else None
    epochs, others = evidence.epochs(cell), evidence.epochs(twin) if twin is not None else []
    if twin is None or not epochs or not others:
        return
    for epoch in epochs:
        other = others[-1] if epoch == epochs[-1] else min(epoch, others[-1])
        for attack in evidence.attacks:
            if attack.at_the_end and epoch != epochs[-1]:
                continue
            blank = blank_row(evidence, cell, epoch, "membership", attack)
            yield filled(
                blank, AUC_VERSUS, auc_difference(evidence, (cell, epoch), (twin, other), attack, "without privacy")
            )
        for utility in evidence.utilities:
            if epoch == epochs[-1] or not utility.last_epoch_only:
                blank = blank_row(evidence, cell, epoch, "utility", utility)
                found = utility_difference(evidence, (cell, epoch), (twin, other), utility)
                yield filled(blank, utility_versus(utility), found)


def auc_difference(
    evidence: Evidence, ours: tuple[Cell, int], theirs: tuple[Cell, int], attack: Attack, against: str
) -> Estimate:
    """AUC less that of another cell on the same records: DeLong's paired difference, null 0.

    `against` names the other. Where records share a context with one of the two, its sets are drawn together.
    """
    one, other = (evidence.sides(cell, attack, epoch) for cell, epoch in (ours, theirs))
    return difference_of_sides(one, other, against)


def difference_of_sides(one: Sides | None, other: Sides | None, against: str) -> Estimate:
    """AUC of one less that of the other, of two models' scores of the same records."""
    if one is None or other is None:
        return Estimate.absent(f"{'' if one is None else f'{against}: '}not scored at this epoch")
    both, twins = one.scored(other), other.scored(one)
    groups = joined(*((*sides.member_groups, *sides.nonmember_groups) for sides in (both, twins)))
    members, nonmembers = groups[: len(both.members)], groups[len(both.members) :]
    scores = both.members, both.nonmembers, twins.members, twins.nonmembers
    return auc_lift(*scores, members, nonmembers, against=against)
