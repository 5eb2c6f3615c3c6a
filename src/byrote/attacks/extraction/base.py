"""What an extraction measure is: some numbers for each record, on how much of it comes out of a model.

The same is measured on members and on nonmembers, and on the untuned model too: what comes out of a nonmember, or of a
model that was never tuned, was not learned by rote. What is reported is members less nonmembers, beside both.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from byrote.attacks.base import NOT_FINITE, Attack, Background, Evidence, Need, need_numbers, reason_of
from byrote.types import Opening, Record, Unscorable, nothing_follows
from byrote.writing import Writing

Form = Literal["share", "mean"]
"""Of a metric: the share of records of which something is so (1 or 0), or the mean of a number in [0, 1]."""
Measure = Callable[[Evidence], tuple[float, ...]]
Measured = tuple[float, ...] | str
"""One number for each metric; or the reason why there are none."""


class ExtractionMeasure(Attack):
    """Abstract: how much of a record comes out. Subclasses are final, frozen, and registered with `@register`.

    To add one, write one file in this folder: the fields are its settings, `metrics` names its numbers, and `measurer`
    gives what makes them of one record.
    """

    kind: ClassVar[str] = "extraction"
    access: ClassVar[str] = "generated text"
    records: Annotated[int, Field(ge=2, description="of each side and slice; null: all")] | None = None

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Form]:
        """The numbers of each record, each in [0, 1] and higher for "more comes out"."""

    @abstractmethod
    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """What gives one record its numbers, once all the evidence is there on the records of its side that are asked
        about: those that have no numbers yet.

        `sources` are what truly follows what the model is given, in all records of that side: members for members, and
        for nonmembers nonmembers, which resemble one another as much without anyone having learned them. What is
        returned raises Unscorable with a reason.
        """


def measure_all(measure: ExtractionMeasure, side: Sequence[Evidence], sources: Sequence[str]) -> list[Measured]:
    """The numbers of each record of one side, in their order, or the reason why it has none."""
    found: list[Measured] = [one.failure for one in side]
    usable = [at for at, one in enumerate(side) if not one.failure]
    try:
        measure_one = measure.measurer([side[at] for at in usable], sources)
    except Exception as error:
        return [reason or reason_of(error) for reason in found]
    for at in usable:
        try:
            need_numbers(side[at])
            numbers = tuple(map(float, measure_one(side[at])))
        except Exception as error:  # one record must not cost the others their numbers
            found[at] = reason_of(error)
            continue
        found[at] = numbers if all(map(math.isfinite, numbers)) else f"the measure gives {numbers}: {NOT_FINITE}"
    return found


def chosen(measure: ExtractionMeasure, side: Sequence[Record]) -> list[Record]:
    """The records of one side that it asks about: the first of all that the data has, and the first of each slice.

    Their order is that of the draw. Numbers of all records are of the former alone, among whom each slice is as
    frequent as it is in the data.
    """
    taken: dict[str, int] = {}
    found = []
    for record in side:
        of = {record.slice, record.family}  # the empty name stands for all that the data has
        taken |= {name: taken.get(name, 0) + 1 for name in of}
        if measure.records is None or min(taken[name] for name in of) <= measure.records:
            found.append(record)
    return found


class SuffixMeasure(ExtractionMeasure):
    """Abstract: reads how the tokens that follow a prefix are predicted, each after the true ones before it.

    The prefix is the first `prefix_tokens` tokens of the text, one that marks its beginning counted; where completions
    are trained on, it is the prompt. The suffix is the next `suffix_tokens` tokens, or all that follow (null).
    """

    prefix_tokens: int = Field(50, ge=1, description="tokens that the model is given")
    suffix_tokens: Annotated[int, Field(ge=1, description="that must come out; null: all that follow")] | None = 50

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """Every record by itself."""
        return self.measure

    @abstractmethod
    def measure(self, evidence: Evidence) -> tuple[float, ...]:
        """One number for each of `metrics`; raises Unscorable with a reason."""

    def suffix(self, evidence: Evidence) -> slice:
        """The places of its tokens among the targets. Raises Unscorable where the text is too short."""
        start = 0 if evidence.of == "completion" else self.prefix_tokens - 1
        wanted = 1 if self.suffix_tokens is None else self.suffix_tokens
        length = len(evidence.target)
        if length < start + wanted:
            before, where = ("", "completion") if evidence.of == "completion" else (
                f"prefix_tokens {self.prefix_tokens} and ", "text"
            )  # fmt: skip
            has = length if evidence.of == "completion" else length + 1
            raise Unscorable(f"its {where} has {has} tokens, fewer than {before}suffix_tokens {wanted}")
        return slice(start, None if self.suffix_tokens is None else start + wanted)


class WrittenMeasure(Writing, ExtractionMeasure):
    """Abstract: reads what the model writes when it is given the beginning of a record.

    That is its first `prefix_tokens` tokens; where completions are trained on, it is the prompt. `Writing`
    says how it writes.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"continuations"})
    prefix_tokens: int = Field(50, ge=1, description="tokens that the model is given")
    max_new_tokens: int = Field(50, ge=1, le=100_000, description="tokens that it writes at most")
    records: Annotated[int, Field(ge=2, description="of each side and slice; null: all")] | None = 200

    @property
    def conditions(self) -> str:
        """In words, for the report."""
        return str(self.decoding).capitalize()

    @property
    def cost(self) -> str:
        """In texts that are generated."""
        return f"1 continuation of up to {self.max_new_tokens} tokens"

    def openings(self, record: Record, background: Background) -> Sequence[Opening]:
        """The beginning of the record."""
        prefix = None if background.of == "completion" else self.prefix_tokens
        return [Opening(record, self.decoding, prefix)]

    def written(self, evidence: Evidence) -> tuple[str, str]:
        """What the model wrote, and what truly follows. Raises Unscorable."""
        if len(evidence.continuations) != 1:
            raise Unscorable("the model was not asked to go on from it")
        if evidence.continuations[0].reason:
            raise Unscorable(evidence.continuations[0].reason)
        if not evidence.follows[0].strip():
            raise Unscorable(nothing_follows(self.prefix_tokens))
        return evidence.continuations[0].text, evidence.follows[0]
