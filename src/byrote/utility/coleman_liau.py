"""Coleman-Liau index of generated text."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.types import Floats
from byrote.utility.readability import Counts, Readability


@register("utility", "coleman-liau")
class ColemanLiau(Readability):
    """The American school year in which pupils read such text as is generated, by letters: no syllable is guessed.

    0.0588 letters per 100 words - 0.296 sentences per 100 words - 15.8.

    Coleman and Liau 1975, "A computer readability formula designed for machine scoring".
    """

    metric: ClassVar[str] = "coleman-liau-index"

    def grade(self, of: Counts) -> Floats:
        """The year."""
        return 5.88 * of.letters / of.words - 29.6 * of.sentences / of.words - 15.8
