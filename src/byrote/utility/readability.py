"""What the readability formulas share: counts of generated English text, and of the text that truly follows."""

from __future__ import annotations

import re
import unicodedata
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from byrote.types import Floats, Opening, Record, Unscorable
from byrote.utility.base import Form, Reads
from byrote.utility.generated import Generated
from byrote.utility.syllables import syllables

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
"""As Flesch counts them: "don't" and "well-known" are one word; figures, which spell no syllable, are left out."""
QUOTES = re.compile('["“”„‟‚‘‛«»‹›]')
"""A splitter that looks for their partners takes time that grows with the square of their number."""


class Counts(NamedTuple):
    """Of a text, or of several together."""

    words: Floats
    sentences: Floats
    syllables: Floats
    polysyllables: Floats
    """Words of three syllables or more."""
    letters: Floats


def counts(text: str) -> tuple[float, ...]:
    """The counts of a text in the order of `Counts`; all 0 where it has no word in Latin letters."""
    import sentencex

    whole = QUOTES.sub(" ", text.encode("utf-8", "replace").decode())
    read = [words for part in sentencex.segment("en", whole) if (words := _words(part))]
    spoken = [syllables(word) for words in read for word in words]
    letters = sum(letter.isalpha() for words in read for word in words for letter in word)
    return tuple(map(float, (len(spoken), len(read), sum(spoken), sum(count > 2 for count in spoken), letters)))


def _words(text: str) -> list[str]:
    """In small letters of a to z, with their apostrophes and hyphens; accents are taken off."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    found = [word.lower().replace("’", "'") for word in WORD.findall(bare)]
    return [word for word in found if word.isascii()]


class Readability(Generated):
    """Abstract: how hard the text is to read that a model writes, by a formula over all of it together.

    Counts are summed over the test records, so that a short text counts for little. What the model is given is the
    first `prefix_tokens` tokens of a record; where completions are trained on, it is the prompt. The formulas are
    made for English. Words of other scripts, and figures, are left out; the splitter of sentences is sentencex.
    No value is good by itself: the aim is that of the records' own text, of which as much is read as was asked for.
    """

    unit: ClassVar[str] = "school grade"
    form: ClassVar[Form] = "sums"
    higher_is_better: ClassVar[bool | None] = None
    reads: ClassVar[Reads] = "generated text"

    prefix_tokens: Annotated[int, Field(ge=1)] = 50

    def opening(self, record: Record, of: Literal["text", "completion"]) -> Opening:
        """The beginning of the record, or its prompt."""
        return Opening(record, self.decoding, None if of == "completion" else self.prefix_tokens)

    def compare(self, said: str, wanted: str) -> tuple[float, ...]:
        """(10,) the counts of what was generated, and those of what truly follows."""
        own = counts(said)
        if not own[0]:
            raise Unscorable("no word in Latin letters was generated")
        return (*own, *counts(wanted))

    def value(self, sums: Floats) -> Floats:
        """Of what was generated."""
        return self._graded(sums[..., :5])

    def reference(self, sums: Floats) -> Floats:
        """Of what truly follows."""
        return self._graded(sums[..., 5:])

    def _graded(self, sums: Floats) -> Floats:
        """NaN where there is no word."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.grade(Counts(*np.moveaxis(sums, -1, 0)))

    @abstractmethod
    def grade(self, of: Counts) -> Floats:
        """The formula; counts of shape (...) to numbers of shape (...)."""
