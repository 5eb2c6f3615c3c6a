"""The part of the AUC at low false-positive rates: how well an attack does where few may be wrongly accused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from byrote.statistics.groups import Grouping
from byrote.statistics.interval import newcombe, t_quantile
from byrote.statistics.roc import as_scores, missing, roc_curve, share_below, unresolved
from byrote.types import Estimate, Floats

FEW = 5  # fewer members (or nonmembers kept) than this out of order, and Newcombe takes over


def partial_auc(
    members: ArrayLike,
    nonmembers: ArrayLike,
    max_fpr: float = 0.1,
    member_groups: Sequence[str] | None = None,
    nonmember_groups: Sequence[str] | None = None,
    *,
    null_value: float | None = 0.5,
    level: float = 0.95,
) -> Estimate:
    """The area under the ROC curve up to `max_fpr`, standardised by McClish 1989 (Medical Decision Making 9:190-195).

    0.5 is chance and 1 is perfect, whatever `max_fpr`; the least possible is a little below 0.5, and values below
    0.5 are not folded. n is M + N. Absent unless the sample resolves it: 10 / max_fpr nonmembers, copies counted once.

    The area over `max_fpr` is the chance that a member scores above a nonmember of the highest-scoring share
    `max_fpr`. Its interval is on the logit scale of that chance, from the influence of each record on it, the
    quantile's estimation included (Wang and Chang 2011, Biostatistics 12:369-385), or of each group where copies
    share one: "linearised", "group-linearised". Where hardly a record is out of order it is Newcombe's.
    """
    if not 0.0 < max_fpr <= 1.0:
        raise ValueError(f"a false-positive rate is between 0 and 1, not {max_fpr}")
    positive, negative = as_scores(members, "member"), as_scores(nonmembers, "nonmember")
    n = len(positive) + len(negative)
    grouping = Grouping.of(len(positive), len(negative), member_groups, nonmember_groups)
    problem = "" if len(positive) and len(negative) else missing(positive, negative)
    problem = problem or unresolved(negative, grouping.counts[1], max_fpr) or missing(positive, negative)
    if problem:
        return Estimate.absent(problem, n)
    chance, edge = _area(positive, negative, max_fpr)
    of_members, of_nonmembers = _influences(positive, negative, max_fpr, edge)
    low, high, interval = _limits(chance, of_members, of_nonmembers, grouping, max_fpr, level)
    value, low, high = (_standardised(one, max_fpr) for one in (chance, low, high))
    return Estimate(value, low, high, n, interval, null_value)


def _standardised(chance: float, max_fpr: float) -> float:
    """McClish's scale: 0.5 for the area under the diagonal, 1 for the whole strip."""
    diagonal = max_fpr / 2.0
    return 0.5 * (1.0 + (chance - diagonal) / (1.0 - diagonal))


def _area(members: Floats, nonmembers: Floats, max_fpr: float) -> tuple[float, float]:
    """The area up to `max_fpr` as a share of the strip, and the true-positive rate at its edge."""
    fpr, tpr = roc_curve(members, nonmembers)
    last = int(np.searchsorted(fpr, max_fpr, "right"))
    if last == len(fpr):
        return float(np.trapezoid(tpr, fpr)) / max_fpr, 1.0
    step = (max_fpr - fpr[last - 1]) / (fpr[last] - fpr[last - 1])
    edge = float(tpr[last - 1] + step * (tpr[last] - tpr[last - 1]))
    area = np.trapezoid(np.append(tpr[:last], edge), np.append(fpr[:last], max_fpr))
    return float(area) / max_fpr, edge


def _influences(members: Floats, nonmembers: Floats, max_fpr: float, edge: float) -> tuple[Floats, Floats]:
    """How much each record moves the chance, up to a constant a side: members of shape (M,), nonmembers (N,)."""
    of_members = np.maximum(max_fpr - share_below(-members, -nonmembers), 0.0)
    # A nonmember in the tail adds its own placement, and pushes another out that stood at the edge.
    of_nonmembers = np.where(
        share_below(-nonmembers, -nonmembers) <= max_fpr, share_below(-nonmembers, -members) - edge, 0.0
    )
    return of_members / max_fpr, of_nonmembers / max_fpr


def _limits(
    chance: float, of_members: Floats, of_nonmembers: Floats, grouping: Grouping, max_fpr: float, level: float
) -> tuple[float, float, str]:
    """Limits of the chance, with as many degrees of freedom as groups of nonmembers are kept, less one."""
    members, nonmembers = grouping.counts
    kept = max(max_fpr * nonmembers, 2.0)
    few = min(_out_of_order(of_members), _out_of_order(of_nonmembers)) < FEW or members < 2
    variance = 0.0 if few else _variance(of_members, of_nonmembers, grouping)
    if variance == 0.0 or not 0.0 < chance < 1.0:
        return *newcombe(chance, members, kept, level), "newcombe"
    logit = math.log(chance / (1.0 - chance))
    half = t_quantile(level, kept - 1.0) * math.sqrt(variance) / (chance * (1.0 - chance))
    low, high = (1.0 / (1.0 + math.exp(min(side * half - logit, 700.0))) for side in (1.0, -1.0))
    return low, high, "group-linearised" if grouping.repeats else "linearised"


def _out_of_order(influences: Floats) -> int:
    """How many records differ from the most common influence, at either end."""
    return int(min(np.count_nonzero(influences != end) for end in (influences.max(), influences.min())))


def _variance(of_members: Floats, of_nonmembers: Floats, grouping: Grouping) -> float:
    """The variance of the chance: a sum of squares over groups, which may stand on both sides (Obuchowski 1997)."""
    sums = np.zeros(grouping.size)
    sides = ((of_members, grouping.member), (of_nonmembers, grouping.nonmember))
    for (influences, codes), groups in zip(sides, grouping.counts, strict=True):
        centred = (influences - influences.mean()) / len(influences) * math.sqrt(groups / (groups - 1.0))
        np.add.at(sums, codes, centred)
    return float(sums @ sums)
