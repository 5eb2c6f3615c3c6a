"""SMOG grade of generated text."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from byrote.registry import register
from byrote.types import Floats
from byrote.utility.readability import Counts, Readability


@register("utility", "smog")
class Smog(Readability):
    """The years of education that one needs to grasp such text as is generated, by its longer words.

    1.0430 sqrt(30 words of three syllables or more per sentence) + 3.1291. It is meant for 30 sentences or more.

    McLaughlin 1969, "SMOG grading: a new readability formula".
    """

    metric: ClassVar[str] = "smog-grade"

    def grade(self, of: Counts) -> Floats:
        """The years."""
        return np.asarray(1.0430 * np.sqrt(30.0 * of.polysyllables / of.sentences) + 3.1291)
