"""Attacks that read shadow models: trained as the target was, each on a random half of the same records.

Every record is in about half of them, so that they say what a model makes of it that saw it, and one that did not. The
untuned base model has no shadows of its own, and whether a record is a member of the target says nothing of the
shadows' halves: the null is 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from byrote.attacks.base import Attack, CalibratedAttack, Evidence, MembershipAttack, Need, label_and_others
from byrote.types import Floats, TokenStats, Unscorable

CERTAIN = 1e-12
"""Losses below this, in nats, count as this: at a probability of 1 the log-odds are infinite."""
LEAST_VARIANCE = 1e-12
"""Of log-odds: two shadows that agree to the last bit are not certain for that."""


class Confidences(NamedTuple):
    """What models make of one record, in log-odds."""

    target: float
    seen: Floats
    """(I,) by the shadows that were trained on it."""
    unseen: Floats
    """(O,) by the others."""


def confidence(stats: TokenStats) -> float:
    """phi = log p - log(1 - p), the logit-scaled confidence of Carlini et al. 2022: near normal over trainings.

    p is the probability of the record's label, or of a text the geometric mean of its tokens' probabilities. Raises
    Unscorable.
    """
    if stats.classes is not None:
        right, others = label_and_others(stats)
        odds = right - float(np.logaddexp.reduce(others))
        if not math.isfinite(odds):  # it would spoil the spread that all records share
            raise Unscorable("a model gives a log-probability that is not finite")
        return odds
    return _log_odds(likelihood(stats))


def _log_odds(log_p: float) -> float:
    loss = max(-log_p, CERTAIN)
    return -loss - math.log(-math.expm1(-loss))


def likelihood(stats: TokenStats) -> float:
    """log p of the same p, in nats. Raises Unscorable where it is not finite."""
    found = -stats.loss
    if not math.isfinite(found):
        raise Unscorable("a model gives a log-probability that is not finite")
    return found


class Shadows(Attack):
    """Abstract: the setting that all of them share, and what follows from it."""

    access: ClassVar[str] = "log-probs and shadow models"
    needs: ClassVar[frozenset[Need]] = frozenset({"shadows"})
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"

    shadows: int = Field(16, ge=2, le=1024, description="shadow models; each is as dear as the target")

    @property
    def trainings(self) -> int:
        """One for each shadow model."""
        return self.shadows

    @property
    def null_is_stated(self) -> bool:
        """True, see above."""
        return True

    @property
    def cost(self) -> str:
        """In trainings."""
        return f"1 pass, {self.shadows} trainings"

    def weaker(self) -> Sequence[Attack]:
        """With 2, 4, 8, ... shadow models."""
        return [self.model_copy(update={"shadows": fewer}) for fewer in powers_below(self.shadows)]

    def said(self, evidence: Evidence) -> list[tuple[bool, TokenStats]]:
        """What each shadow says of a record, and whether it was trained on it. Raises Unscorable where some lack."""
        found = evidence.shadows[: self.shadows]
        if len(found) < self.shadows:
            has = f"has {len(found)}" if found else "has none: where nothing is trained there are none"
            raise Unscorable(f"needs {self.shadows} shadow models, {has}")
        return [(one.is_in, one.stats) for one in found]

    def need_shadows(self, evidence: Sequence[Evidence]) -> None:
        """Raises Unscorable where there are fewer shadow models than it reads, which all records share."""
        for one in evidence[:1]:
            self.said(one)

    def confidences(self, evidence: Evidence) -> Confidences:
        """The log-odds of a record by the target and by its shadows. Raises Unscorable."""
        target = confidence(evidence.target)
        by = [(is_in, confidence(stats)) for is_in, stats in self.said(evidence)]
        seen, unseen = (np.array([phi for is_in, phi in by if is_in == side]) for side in (True, False))
        return Confidences(target, seen, unseen)


def need_both_sides(seen: int, unseen: int, of_seen: int = 1, of_unseen: int = 1) -> None:
    """Raises Unscorable unless at least so many shadows saw the record, and did not see it."""
    for has, needed, what in ((seen, of_seen, "saw"), (unseen, of_unseen, "did not see")):
        if has < needed:
            models = "a shadow model" if needed == 1 else f"{needed} shadow models"
            raise Unscorable(f"needs {models} that {what} it, has {has}")


class ShadowAttack(Shadows, MembershipAttack):
    """Abstract: a score from one record's evidence and its shadows' alone."""


class PopulationShadowAttack(Shadows, CalibratedAttack):
    """Abstract: the same beside other records that no model was trained on."""

    needs: ClassVar[frozenset[Need]] = frozenset({"shadows", "population"})


class PooledShadowAttack(Shadows, CalibratedAttack):
    """Abstract: the same, with what the shadows make of all records in question together: how far they spread."""

    needs: ClassVar[frozenset[Need]] = frozenset({"shadows", "peers"})

    def spreads(self, peers: Sequence[Evidence], side: Literal["seen", "unseen"]) -> tuple[Floats, Floats]:
        """Sums of squares about each record's own mean, and their degrees of freedom, of records that have any.

        Raises Unscorable where no record was seen (or not seen) by two shadows.
        """
        self.need_shadows(peers)
        sums, degrees = [], []
        for one in peers:
            try:
                values = getattr(self.confidences(one), side)
            except Unscorable:  # it has a reason of its own when it is scored
                continue
            if len(values) > 1:
                sums.append(float(np.square(values - values.mean()).sum()))
                degrees.append(len(values) - 1)
        if not degrees:
            which = "saw" if side == "seen" else "did not see"
            raise Unscorable(f"the spread needs a record that 2 shadow models {which}: there are too few of them")
        return np.array(sums), np.array(degrees, dtype=np.float64)


def powers_below(most: int) -> list[int]:
    """2, 4, 8, ... below `most`."""
    return [2**power for power in range(1, most.bit_length()) if 2**power < most]
