"""Extraction strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import ExtractionMeasure, Form, Measure
from byrote.registry import register
from byrote.types import NO_TARGET, Unscorable


@register("attack", "extraction-strength")
class ExtractionStrength(ExtractionMeasure):
    """How little of a record must be given for the model to write all the rest of it, greedily.

    1 less the share of the record's tokens that the shortest such beginning has: 1 where the rest follows from nothing
    but the first token (or, where completions are trained on, from the prompt), 0 where even the last token does not
    follow from all others.

    Carlini et al. 2021, "Extracting training data from large language models", arXiv 2012.07805.
    """

    metrics: ClassVar[Mapping[str, Form]] = {"strength": "mean"}

    def measurer(self, side: object, sources: object) -> Measure:
        """Every record by itself."""
        return self._strength

    def _strength(self, evidence: Evidence) -> tuple[float, ...]:
        if not len(evidence.target):
            raise Unscorable(NO_TARGET)
        wrong = np.flatnonzero(evidence.target.rank > 0)
        needed = int(wrong[-1]) + 1 if len(wrong) else 0
        return (1.0 - needed / len(evidence.target),)
