"""How often the wrong label comes back."""

from __future__ import annotations

from typing import ClassVar

from byrote.attacks.base import Evidence, PoisoningMeasure
from byrote.registry import register


@register("attack", "mislabelled-prediction")
class MislabelledPrediction(PoisoningMeasure):
    """The share of mislabelled records whose wrong label is what the model predicts.

    Score: 1 where no class is more likely than the wrong label that the record was given, else 0. A model that never
    saw the wrong label seldom says it; one that does has learned it by rote.

    Ma, Passerat-Palmbach & Usynin 2024, arXiv 2411.15831.
    """

    access: ClassVar[str] = "predicted class"
    metric: ClassVar[str] = "share"
    is_share: ClassVar[bool] = True

    def score(self, evidence: Evidence) -> float:
        """1 or 0."""
        return float(evidence.target.rank[0] == 0)
