"""How surprised the model is at the wrong label."""

from __future__ import annotations

from typing import ClassVar

from byrote.attacks.base import Evidence, PoisoningMeasure
from byrote.registry import register


@register("attack", "mislabelled-loss")
class MislabelledLoss(PoisoningMeasure):
    """How likely the model finds the wrong label that a mislabelled record was given.

    Score: log p(wrong label), in nats: minus the cross-entropy on it. Members against nonmembers that were mislabelled
    in the same way give the membership AUC of the wrong labels.

    Ma, Passerat-Palmbach & Usynin 2024, arXiv 2411.15831.
    """

    access: ClassVar[str] = "class probabilities"
    metric: ClassVar[str] = "log-prob"
    is_share: ClassVar[bool] = False

    def score(self, evidence: Evidence) -> float:
        """The log-probability of the wrong label, in nats."""
        return float(evidence.target.log_prob[0])
