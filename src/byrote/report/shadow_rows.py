"""Rows that hold attacks with shadow models against the loss attack, which trains none, on the same records."""

from __future__ import annotations

from collections.abc import Sequence

from byrote.report.evidence import Evidence
from byrote.report.measures import Attack
from byrote.report.rows import Row, blank_row, filled
from byrote.statistics.tpr_difference import tpr_difference
from byrote.store import Cell
from byrote.types import Estimate

PLAIN, AT = "loss", 0.01
"""The attack that those with shadow models are held against, and the FPR at which."""
TPR = f"tpr@fpr={AT:g}"
AGAINST = f"{TPR}-vs-{PLAIN}"


def with_shadows(attacks: Sequence[Attack]) -> list[Attack]:
    """The attacks that read shadow models."""
    return [attack for attack in attacks if attack.shadows]


def against_plain(evidence: Evidence, cell: Cell, attack: Attack, epoch: int) -> Row:
    """TPR at 1% FPR of an attack with shadow models less that of the loss attack, on the records that both score."""
    plain = next((other for other in evidence.attacks if other.name == PLAIN), None)
    ours = evidence.sides(cell, attack, epoch)
    theirs = None if plain is None else evidence.sides(cell, plain, epoch)
    if plain is None:
        found = Estimate.absent(f"the study does not ask for the {PLAIN} attack")
    elif ours is None or theirs is None:
        found = Estimate.absent("not scored at this epoch")
    else:
        one, other = ours.scored(theirs), theirs.scored(ours)
        found = tpr_difference(
            one.members, one.nonmembers, other.members, other.nonmembers, AT, *one.groups, seed=cell.seed
        )
    return filled(blank_row(evidence, cell, epoch, "membership", attack), AGAINST, found)
