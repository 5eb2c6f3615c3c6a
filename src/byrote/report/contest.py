"""Which methods another one dominates: leaks less and is no less useful, or the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from byrote.report.findings import Configuration, Finding
from byrote.report.quantities import Gain, Quantity, gain, leakage_of, utility_of
from byrote.report.summary import Summary
from byrote.statistics.comparison import holm, p_value

ALPHA = 0.05
MOST = 24
"""Methods that are set against each other: beyond, pairs are too many for any to be shown."""


class Duel(NamedTuple):
    """One method against another: by how much it leaks less, and by how much it is more useful."""

    leakage: Gain
    utility: Gain
    leaks_less: bool
    is_more_useful: bool


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Every method with both numbers against every other, the untuned model among them."""

    leakage: Quantity | None
    utility: Quantity | None
    entrants: tuple[Finding, ...]
    duels: Mapping[tuple[Configuration, Configuration], Duel]
    """Empty where there are more than `MOST` entrants, or one of the two quantities is not measured."""
    comparisons: int
    """How many comparisons the p-values were adjusted for."""

    @property
    def tuned(self) -> list[Finding]:
        return [one for one in self.entrants if one.configuration.method != "none"]

    def dominators(self, one: Finding) -> list[Finding]:
        """Those that dominate a method."""
        return [other for other in self.entrants if other is not one and self._dominates(other, one)]

    def undominated(self) -> list[Finding]:
        """The tuned methods that nothing dominates; none where nothing was compared."""
        return [one for one in self.tuned if not self.dominators(one)] if self.duels else []

    def duel(self, one: Finding, other: Finding) -> Duel | None:
        return self.duels.get((one.configuration, other.configuration))

    def _dominates(self, one: Finding, other: Finding) -> bool:
        duel = self.duel(one, other)
        if duel is None or self.leakage is None or self.utility is None:
            return False
        return (duel.leaks_less and duel.utility.is_no_worse(self.utility.margin)) or (
            duel.is_more_useful and duel.leakage.is_no_worse(self.leakage.margin)
        )


def contest_of(summary: Summary) -> Contest:
    """The contest of a study, at the last epoch of each run."""
    leakage, utility = leakage_of(summary), utility_of(summary)
    if leakage is None or utility is None:
        return Contest(leakage, utility, (), {}, 0)
    entrants = [one for one in summary.tuned if _known(leakage, one) and _known(utility, one)]
    if summary.base is not None and _known(utility, summary.base):
        entrants.append(summary.base)
    if not 2 <= len(entrants) <= MOST:
        return Contest(leakage, utility, tuple(entrants), {}, 0)
    pairs = list(combinations(entrants, 2))
    gains = [(gain(leakage, *pair), gain(utility, *pair)) for pair in pairs]
    p_values = _adjusted([of for both in gains for of in both])
    duels = {}
    for at, ((one, other), both) in enumerate(zip(pairs, gains, strict=True)):
        better = [_shown(*of) for of in zip(both, p_values[2 * at : 2 * at + 2], strict=True)]
        (leaks, useful), (less, more) = both, better
        duels[one.configuration, other.configuration] = Duel(leaks, useful, less > 0, more > 0)
        duels[other.configuration, one.configuration] = Duel(_turned(leaks), _turned(useful), less < 0, more < 0)
    return Contest(leakage, utility, tuple(entrants), duels, sum(p is not None for p in p_values))


def _known(quantity: Quantity, one: Finding) -> bool:
    row = quantity.values.get(one.configuration)
    return row is not None and row.value is not None


def _adjusted(gains: Sequence[Gain]) -> list[float | None]:
    """The p-value of each, adjusted for all of them (Holm); None where there is no interval."""
    known = [at for at, one in enumerate(gains) if one.estimate.low is not None and one.estimate.high is not None]
    adjusted = holm([p_value(gains[at].estimate) for at in known])
    found = dict(zip(known, adjusted, strict=True))
    return [found.get(at) for at in range(len(gains))]


def _shown(of: Gain, p: float | None) -> int:
    """1 where the gain is shown, -1 where a loss is, else 0."""
    if p is None or p > ALPHA or not of.agreed or not of.estimate.value:
        return 0
    return 1 if of.estimate.value > 0.0 else -1


def _turned(of: Gain) -> Gain:
    """The other's gain over the one."""
    value, low, high = (
        None if number is None else -number for number in (of.estimate.value, of.estimate.high, of.estimate.low)
    )
    return Gain(replace(of.estimate, value=value, low=low, high=high), of.agreed)
