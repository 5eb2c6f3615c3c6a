"""The robust membership inference attack: the record beside others that nothing was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence, Need
from byrote.attacks.shadow import PopulationShadowAttack, likelihood, need_both_sides
from byrote.registry import register
from byrote.types import Floats, Unscorable


class Logs(NamedTuple):
    """log p of one record by the model, by the shadows that saw it, and by the others."""

    target: float
    seen: Floats
    unseen: Floats
    outsider: bool


@register("attack", "rmia")
class RMIA(PopulationShadowAttack):
    """A record that gained more from the training than most records of the same kind that were not in it.

    Score: the share of outsiders z with [p(x|model) / p(x)] / [p(z|model) / p(z)] >= gamma. p(x|model) is the
    probability of the record's label, or of a text the geometric mean of its tokens' probabilities; p is half the mean
    over the shadow models that saw the record, p_in, and half that over the others, p_out. No shadow model saw z:
    its p_in is p_out times the factor between the two that is usual among the records in question (their geometric
    mean), where the paper has p_in = a p_out + 1 - a, which fits probabilities near 1. With `a` the attack is the
    paper's offline one: shadow models that saw a record are not read, and that formula gives p_in of x and z alike. The
    paper takes gamma 2 and a 0.3 for classes of images; for tokens, a 1 is at their scale. The share moves in steps
    of one outsider, so have hundreds of validation and test records.

    Zarifzadeh et al. 2024, arXiv 2312.03262.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"shadows", "population", "peers"})

    gamma: float = Field(1.0, gt=0, description="by what factor a record must beat an outsider")
    a: float | None = Field(None, ge=0, le=1, description="offline, with p_in = a p_out + 1 - a; online without")

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """The ratios of the outsiders. Raises Unscorable where none has one."""
        self.need_shadows(population)
        outsiders = {record.id for one in population[:1] for record in one.background.outsiders}
        logs = [found for one in population if (found := self._readable(one, outsiders)) is not None]
        usual = 0.0 if self.a is not None else _usual_factor([found for found in logs if not found.outsider])
        ratios = [self._log_ratio(found, usual) for found in logs if found.outsider]
        if not ratios:
            raise Unscorable("there are no validation or test records to compare with")
        ordered, least = np.sort(ratios), math.log(self.gamma)

        def score(evidence: Evidence) -> float:
            found = self._logs(evidence, outsiders)
            need_both_sides(len(found.seen), len(found.unseen), of_seen=0 if self.a is not None else 1)
            # The share of pairs that pass, over all z at once: log ratio(x) - log ratio(z) >= log gamma.
            passed = np.searchsorted(ordered, self._log_ratio(found) - least, "right")
            return float(passed / len(ordered))

        return score

    def _readable(self, evidence: Evidence, outsiders: Set[str]) -> Logs | None:
        try:
            found = self._logs(evidence, outsiders)
        except Unscorable:
            return None
        return found if len(found.unseen) else None

    def _logs(self, evidence: Evidence, outsiders: Set[str]) -> Logs:
        by = [(is_in, likelihood(stats)) for is_in, stats in self.said(evidence)]
        seen, unseen = (np.array([log for is_in, log in by if is_in == side]) for side in (True, False))
        return Logs(likelihood(evidence.target), seen, unseen, evidence.record.id in outsiders)

    def _log_ratio(self, of: Logs, usual: float = 0.0) -> float:
        """log p(x|model) - log p(x)."""
        out = log_mean_exp(of.unseen)
        return of.target - (float(np.logaddexp(self._log_seen(of, out, usual), out)) - math.log(2.0))

    def _log_seen(self, of: Logs, out: float, usual: float) -> float:
        """log p_in(x)."""
        if self.a is not None:
            return math.log(self.a * math.exp(out) + 1.0 - self.a) if self.a < 1.0 else out
        return out + usual if of.outsider else log_mean_exp(of.seen)


def _usual_factor(peers: Sequence[Logs]) -> float:
    """The mean of log p_in - log p_out over records that some shadow models saw, and others did not."""
    found = [log_mean_exp(one.seen) - log_mean_exp(one.unseen) for one in peers if len(one.seen)]
    if not found:
        raise Unscorable("no record was seen by one shadow model and not by another: there are too few of them")
    return float(np.mean(found))


def log_mean_exp(logs: Floats) -> float:
    """The log of the mean of what these are the logs of."""
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs))
