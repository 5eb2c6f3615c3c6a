"""Macro-F1 on the test records."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from byrote.registry import register
from byrote.types import Floats, Unscorable
from byrote.utility.base import Form, Observation, Reads, Utility


@register("utility", "macro-f1")
class MacroF1(Utility):
    """The mean over the classes of F1, the harmonic mean of a class's precision and recall: rare classes count fully.

    As scikit-learn's `f1_score(average="macro")`: F1 of a class is 2 tp / (2 tp + fp + fn), so 0 for one that is
    never predicted, and a class that neither a test record has nor a prediction names is left out. The predicted
    class is the one with the highest score; a tie with the record's own class counts as right.
    """

    metric: ClassVar[str] = "macro-f1"
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    form: ClassVar[Form] = "sums"
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    reads: ClassVar[Reads] = "labels"

    def measure(self, seen: Observation) -> tuple[float, ...]:
        """Of each of K classes: right predictions, predictions, records. (3K,), class after class."""
        classes = seen.stats.classes
        if classes is None or seen.record.label not in seen.labels:
            raise Unscorable("there are no class probabilities")
        own = seen.labels.index(seen.record.label)
        predicted = own if seen.stats.rank[0] == 0 else int(np.argmax(classes))
        counts = np.zeros((len(seen.labels), 3))
        counts[own] += float(predicted == own), 0.0, 1.0
        counts[predicted, 1] += 1.0
        return tuple(counts.ravel().tolist())

    def value(self, sums: Floats) -> Floats:
        """Mean F1 over the classes that occur."""
        right, predicted, true = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
        named = predicted + true  # 2 tp + fp + fn
        f1 = 2.0 * right / np.where(named > 0.5, named, 1.0)
        occurring: Floats = (named > 0.5).sum(-1)
        mean: Floats = f1.sum(-1) / occurring
        return mean
