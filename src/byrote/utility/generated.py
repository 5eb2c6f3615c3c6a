"""What measures of generated text share: how the text is generated, and what it is compared with."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from byrote.types import Opening, Record, Unscorable
from byrote.utility.base import Observation, Reads, Utility
from byrote.writing import Writing


class Generated(Writing, Utility):
    """Abstract: compares what the model generates for each test record's prompt with the record's completion.

    `Writing` says how, and measures with the same settings share the text. It is generated once, by the untuned model
    and at the last epoch of each run.
    """

    higher_is_better: ClassVar[bool | None] = True
    reads: ClassVar[Reads] = "completions"

    @property
    def conditions(self) -> str:
        """The settings of generation in words."""
        return str(self.decoding)

    def opening(self, record: Record, of: Literal["text", "completion"]) -> Opening:
        """What the model is given of a record: its prompt."""
        return Opening(record, self.decoding)

    def measure(self, seen: Observation) -> tuple[float, ...]:
        """`compare` of the generated text and what truly follows, neither with white space around it."""
        if seen.generation is None:
            raise Unscorable("nothing was generated")
        if seen.generation.reason:
            raise Unscorable(seen.generation.reason)
        record = seen.record
        completion = record.messages[-1][1] if record.messages else record.completion
        wanted = completion if seen.follows is None else seen.follows
        if wanted is None:
            raise Unscorable("the record has no completion")
        return self.compare(seen.generation.text.strip(), wanted.strip())

    @abstractmethod
    def compare(self, said: str, wanted: str) -> tuple[float, ...]:
        """The statistics of one record."""
