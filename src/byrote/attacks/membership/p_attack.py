"""The P-attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from byrote.attacks.base import CalibratedAttack, Evidence, Need
from byrote.registry import register
from byrote.types import Unscorable


@register("attack", "p-attack")
class PopulationAttack(CalibratedAttack):
    """A text with a lower loss than nearly all texts of the population was trained on.

    Score: the share of the population's texts whose loss is above the text's own, equal ones counted half: one minus
    the p-value of "this is one more text of the population". It ranks texts as the loss does, but for ties; what it
    adds is a threshold with a known false-positive rate, the paper's: a score above 1 - r is wrong at rate r.

    Ye et al. 2022, "Enhanced Membership Inference Attacks against Machine Learning Models", CCS, arXiv 2111.09679.
    """

    access: ClassVar[str] = "log-probs and texts of the same kind"
    needs: ClassVar[frozenset[Need]] = frozenset({"population"})

    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """Sorts the population's losses."""
        found = np.array([one.target.loss for one in population if len(one.target)])
        losses = np.sort(found[np.isfinite(found)])
        if not len(losses):
            raise Unscorable("there is no text to compare with: p-attack needs validation or test records")

        def score(evidence: Evidence) -> float:
            loss = evidence.target.loss
            if not np.isfinite(loss):
                return -loss
            not_above, below = (np.searchsorted(losses, loss, side=side) for side in ("right", "left"))
            return 1.0 - float(not_above + below) / (2 * len(losses))

        return score
