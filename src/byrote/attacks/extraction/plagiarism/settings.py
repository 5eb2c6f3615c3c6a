"""The settings of text alignment, by their published names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from byrote.registry import Settings


class Matching(Settings):
    """How generated text is matched with training texts. "susp" is the generated text, "src" the training text.

    The defaults are those of Zeng et al. 2024 (2310.06714), which are those of the winner of PAN 2014 but for
    two: there `min_plaglen` is 150 and `verbatim_minlen` 256 (`original()`). 256 characters are some 50 words in a
    row, more than many records have: that nothing is found may be an effect of this limit alone, so both are worth
    reporting.

    `idf`: the published one is taken over the sentences of the two texts that are compared ("pair"). Where both are
    single sentences it is 0 for every word that they share, so that nothing is ever found: for records of one or two
    sentences "corpus" takes it over the sentences of all training texts and of the generated text.

    `idea`: a passage that takes over the ideas of a longer one is a summary: the training passages have at least
    `idea_ratio` times the characters of the generated ones ("training longer"). The published code has the two texts
    in the other order, by which the generated passages must be the longer ones ("generation longer").

    Sanchez-Perez, Sidorov and Gelbukh 2014, "A winning approach to text alignment for text reuse detection at PAN
    2014"; the same with Gelbukh 2015, "Adaptive algorithm for plagiarism detection".
    """

    candidates: Annotated[int, Field(ge=1, description="training texts that a generation is aligned with")] = 10
    th1: Annotated[float, Field(ge=0, le=1, description="a seed's tf-idf cosine lies above it")] = 0.30
    th2: Annotated[float, Field(ge=0, le=1, description="and its Dice coefficient of words above this")] = 0.33
    th3: Annotated[float, Field(ge=0, le=1, description="the cosine of the two passages of a case lies above it")] = (
        0.34
    )
    src_gap: Annotated[
        int, Field(ge=0, description="sentences that may lie between two seeds of a case, training text")
    ] = 4
    susp_gap: Annotated[int, Field(ge=0, description="the same, generated text")] = 4
    src_gap_least: Annotated[int, Field(ge=0, description="to which the gap is lowered where th3 is not met")] = 0
    susp_gap_least: Annotated[int, Field(ge=0, description="the same, generated text")] = 0
    src_size: Annotated[int, Field(ge=1, description="sentences that a case has at least, training text")] = 1
    susp_size: Annotated[int, Field(ge=1, description="the same, generated text")] = 1
    min_sentlen: Annotated[int, Field(ge=1, description="words; a shorter sentence is joined to the next")] = 3
    min_plaglen: Annotated[int, Field(ge=0, description="characters that either passage of a case has at least")] = 50
    verbatim_minlen: Annotated[int, Field(ge=1, description="characters that a verbatim run has more than")] = 50
    src_gap_summary: Annotated[int, Field(ge=0, description="src_gap of the second pass, which finds ideas")] = 24
    susp_gap_summary: Annotated[int, Field(ge=0, description="susp_gap of the second pass")] = 24
    idf: Annotated[Literal["pair", "corpus", "none"], Field(description="over which sentences; none: plain counts")] = (
        "pair"
    )
    idea: Annotated[Literal["training longer", "generation longer"], Field(description="see above")] = "training longer"
    idea_ratio: Annotated[float, Field(ge=1, description="how many times as many characters")] = 3.0

    @classmethod
    def original(cls) -> Matching:
        """The limits of the winner of PAN 2014."""
        return cls(min_plaglen=150, verbatim_minlen=256)
