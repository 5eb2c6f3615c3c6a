"""Flesch-Kincaid grade of generated text."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.types import Floats
from byrote.utility.readability import Counts, Readability


@register("utility", "flesch-kincaid-grade")
class FleschKincaidGrade(Readability):
    """The American school year in which pupils read such text as is generated, by its sentences and syllables.

    0.39 words per sentence + 11.8 syllables per word - 15.59.

    Kincaid, Fishburne, Rogers and Chissom 1975, "Derivation of new readability formulas for Navy enlisted personnel".
    """

    metric: ClassVar[str] = "flesch-kincaid-grade"

    def grade(self, of: Counts) -> Floats:
        """The year."""
        return 0.39 * of.words / of.sentences + 11.8 * of.syllables / of.words - 15.59
