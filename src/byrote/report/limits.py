"""What no attack can exceed on privately trained models: the line on the ROC picture, and the number in the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from byrote.report.accounts import Account, accounts
from byrote.report.evidence import Evidence
from byrote.report.findings import Configuration, Index, findings
from byrote.report.formats import listed, percent, rate, with_limits
from byrote.report.palette import Style
from byrote.report.rows import Row
from byrote.statistics.tradeoff import group_bound, tpr_bound, tpr_bound_of_profile
from byrote.types import Floats

POINTS = 97
STEPS = 10_000  # of the area under a limit


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """The guarantee that bounds attacks on single records of some configurations.

    `epsilon`, `delta` and `profile` are for one unit. Where the unit is the record and members have
    copies, the rates are those of group privacy for the largest group, `copies` records together.
    """

    configurations: tuple[Configuration, ...]
    epsilon: float
    delta: float
    profile: tuple[tuple[float, float], ...]
    copies: int

    @property
    def levels(self) -> list[str]:
        """The privacy level of each configuration in words."""
        return [one.level for one in self.configurations]

    def by_pair(self, fpr: Floats) -> Floats:
        """The largest TPR at each FPR that epsilon and delta alone allow."""
        return tpr_bound(fpr, *group_bound(self.epsilon, self.delta, self.copies))

    def by_profile(self, fpr: Floats) -> Floats:
        """The same from everything that is known of the noise: never above that of the pair."""
        return tpr_bound_of_profile(fpr, (*self.profile, (self.epsilon, self.delta)), self.copies)

    def auc(self) -> float:
        """The largest AUC that any attack can have: the area under `by_profile`, summed from above."""
        grid = np.linspace(0.0, 1.0, STEPS + 1)
        return min(float(self.by_profile(grid[1:]).mean()), 1.0)


def limit_of(account: Account) -> Limit | None:
    """The limit of one configuration; None where nothing is guaranteed, or a group is on both sides of the split."""
    ledger = account.ledger
    if ledger is None or not account.holds or account.straddles:
        return None
    return Limit((account.configuration,), ledger.epsilon, ledger.delta, ledger.profile, account.exposed)


def limits_of(found: Sequence[Account]) -> list[Limit]:
    """Every distinct limit once, with all its configurations: methods at one level usually share theirs."""
    same: dict[tuple[Any, ...], list[Limit]] = {}
    for limit in filter(None, map(limit_of, found)):
        same.setdefault((limit.epsilon, limit.delta, limit.profile, limit.copies), []).append(limit)
    return [
        Limit(tuple(one.configurations[0] for one in of), of[0].epsilon, of[0].delta, of[0].profile, of[0].copies)
        for of in same.values()
    ]


def crossed(evidence: Evidence, rows: Sequence[Row]) -> list[str]:
    """What was measured above its limit by more than its interval: a sign that the account is wrong."""
    held = {one: limit for limit in limits_of(accounts(evidence)) for one in limit.configurations}
    sentences = []
    for one in findings(Index(evidence, rows)) if held else []:
        limit = held.get(one.configuration)
        if limit is None:
            continue
        area = limit.auc()
        for attack in evidence.attacks:
            measured = {"AUC": (one.auc.get(attack), area)}
            for at, row in one.tpr.get(attack, {}).items():
                measured[f"TPR at {percent(at)} FPR"] = (row, float(limit.by_profile(np.array([at]))[0]))
            over = [
                f"{name} {with_limits(row.estimate)} where no attack can have more than {rate(most)}"
                for name, (row, most) in measured.items()
                if row is not None and row.low is not None and row.low > most
            ]
            if over:
                sentences.append(
                    f"{one.configuration.label}: the {attack.label} attack has {listed(over)}. Chance alone seldom "
                    "does that: do not rely on this epsilon before an error in the private training is ruled out."
                )
    return sentences


def limit_traces(
    limits: Sequence[Limit], look: Mapping[Configuration, Style], start: float, escape: Any
) -> list[dict[str, Any]]:
    """Two lines for each limit: dotted from the whole profile, dashed from epsilon and delta alone. Both dim.

    `meta` holds the keys of the configurations, so that the page can hide a line with the last of them.
    """
    grid = np.geomspace(start, 1.0, POINTS)
    traces = []
    for limit in limits:
        one = limit.configurations[0]
        colour = f"${look[one].colour}" if len(limit.configurations) == 1 else "$fg"
        names = "; ".join(escape(other.label) for other in limit.configurations)
        group = f" to a group of {limit.copies} records" if limit.copies > 1 else ""
        lines = (("dot", 1.8, limit.by_profile(grid), f"limit at {one.level}", "from the whole trade-off of its noise"),
                 ("10px,5px", 1.1, limit.by_pair(grid), "", "from ε and δ alone"))  # fmt: skip
        for dash, width, rates, text, source in lines:
            traces.append(
                {
                    "type": "scatter", "mode": "lines+text" if text else "lines", "name": "limit", "showlegend": False,
                    "meta": [str(look[other].key) for other in limit.configurations],
                    "x": _rounded(grid), "y": _rounded(rates),
                    "text": [text, *[""] * (POINTS - 1)], "textposition": "bottom right",
                    "textfont": {"size": 11, "color": "$muted"},
                    "line": {"color": f"{colour}/0.6", "width": width, "dash": dash},
                    "hovertemplate": f"no attack can cross{group}: {names}<br>TPR %{{y:.3f}} at FPR %{{x:.3f}}, "
                    f"{source}<extra></extra>",
                }
            )  # fmt: skip
    return traces


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
