"""Flesch reading ease of generated text."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.types import Floats
from byrote.utility.readability import Counts, Readability


@register("utility", "flesch-reading-ease")
class FleschReadingEase(Readability):
    """How easily generated text reads: about 0 is very difficult, 60 to 70 plain English, 100 very easy.

    206.835 - 1.015 words per sentence - 84.6 syllables per word.

    Flesch 1948, "A new readability yardstick".
    """

    metric: ClassVar[str] = "flesch-reading-ease"
    unit: ClassVar[str] = "about 0 to 100, higher is easier"

    def grade(self, of: Counts) -> Floats:
        """The ease."""
        return 206.835 - 1.015 * of.words / of.sentences - 84.6 * of.syllables / of.words
