"""The words of a text, in a form in which spellings, cases and Unicode forms compare equal, and where they stand."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

SHORTEST = 3
"""Characters of the shortest word that counts when sentences are compared, as published."""
LONGEST_STEMMED = 64
# Scripts that are written without spaces between words: there each character counts as a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
# Soft hyphen, joiners and the like: part of a word in which they stand, but not of its spelling.
IGNORED = "\u00ad\u034f\u180e\u200c\u200d\u2060\ufeff" + "".join(map(chr, range(0xFE00, 0xFE10)))
QUOTES = "\"'“”„‟‘’‚‛«»‹›「」『』《》〈〉"
VOICED = "\uff9e\uff9f"  # half-width marks that belong to the character before


class Word(NamedTuple):
    """What counts of one word, however it is written."""

    form: str
    """NFKC, case-folded."""
    stem: str | None
    """English Snowball stem; None for words that are too short to count when sentences are compared."""
    length: int
    """Characters of the form."""
    gap: int
    """1 where a space parts it from the next word."""


def spellings_of(text: str) -> tuple[list[str], list[int]]:
    """The words of a text as they are written, and from which character each stands there.

    Letters, digits and underscores with their accents make words; all else lies between.
    """
    within = "".join(sorted(_within() & set(text)))  # few of the thousands that there are: a class of all is slow
    pattern = _pattern(within, re.search(f"[{UNSPACED}]", text) is not None)
    return pattern.findall(text), [found.start() for found in pattern.finditer(text)]


def word_of(written: str) -> Word | None:
    """What counts of a word as it is written; None where nothing does, as of a line of underscores."""
    form = unicodedata.normalize("NFKC", re.sub(f"[{IGNORED}]", "", written)).casefold()
    form = unicodedata.normalize("NFKC", form).strip("_")
    if not form:
        return None
    unspaced = re.match(f"[{UNSPACED}]", form) is not None
    counts = unspaced or len(form) >= SHORTEST
    return Word(form, stem_of(form) if counts else None, len(form), 0 if unspaced else 1)


def stem_of(form: str) -> str:
    """The English Snowball stem; of a very long word, which is none, itself."""
    return _stemmer()(form) if len(form) <= LONGEST_STEMMED else form


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end; together they make up the text.

    Quotation marks do not hold sentences together: what looks for their partners takes time that grows with the
    square of their number.
    """
    import sentencex

    # Stand-ins of the same length keep every place; a lone surrogate cannot be handed to the splitter.
    plain = re.sub("[\ud800-\udfff]", "\ufffd", text)
    plain = re.sub(f"[{QUOTES}]", " ", re.sub(rf"(?<=\w)[{QUOTES}](?=\w)", "x", plain))
    ends = [int(boundary["end_index"]) for boundary in sentencex.get_sentence_boundaries("en", plain)]
    # White space after a sentence belongs to it, and so a mark that opens the next one would.
    return [_after_closing(text, start, end) for start, end in zip([0, *ends], ends[:-1], strict=False)] + ends[-1:]


def _after_closing(text: str, start: int, end: int) -> int:
    """The end of a sentence whose trailing quotation marks close it, as far as no white space stands before them."""
    inside = text[start:end]
    said = len(inside.rstrip(QUOTES + string.whitespace))
    return start + said + len(inside[said:]) - len(inside[said:].lstrip(QUOTES)) if said else end


@cache
def _stemmer() -> Callable[[str], str]:
    import Stemmer

    stem: Callable[[str], str] = Stemmer.Stemmer("english").stemWord
    return stem


@cache
def _within() -> frozenset[str]:
    """What belongs to the word that it stands in though Python's \\w leaves it out: accents, vowel signs, joiners."""
    marks = (chr(code) for code in range(0x20000) if unicodedata.category(chr(code)).startswith("M"))
    return frozenset([*marks, *IGNORED])


@lru_cache(maxsize=1024)
def _pattern(within: str, unspaced: bool) -> re.Pattern[str]:
    """Of a word, in text with these of the characters that are part of words, and perhaps scripts without spaces."""
    letter = rf"(?:(?![{UNSPACED}])\w)" if unspaced else r"\w"
    spaced = rf"{letter}+(?:[{within}]+{letter}*)*" if within else rf"{letter}+"
    return re.compile(rf"[{UNSPACED}][{within}{VOICED}]*|{spaced}" if unspaced else spaced)
