"""What measures of generated text share: how the text is generated, and what it is compared with."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from byrote.types import Decoding, Opening, Record, Unscorable
from byrote.utility.base import Observation, Reads, Utility


class Generated(Utility):
    """Abstract: compares what the model generates for each test record's prompt with the record's completion.

    The fields are the settings of generation, by transformers' names; measures with the same settings share the
    text. It is generated once, by the untuned model and at the last epoch of each run.
    """

    higher_is_better: ClassVar[bool | None] = True
    reads: ClassVar[Reads] = "completions"

    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    do_sample: bool = False
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _nothing_drawn_greedily(self) -> Generated:
        greedy = Decoding(self.max_new_tokens)
        if not self.do_sample and self.decoding != greedy:
            raise ValueError("temperature, top_k, top_p and seed need do_sample: true; without it decoding is greedy")
        return self

    @property
    def decoding(self) -> Decoding:
        """How the text is generated."""
        return Decoding(self.max_new_tokens, self.do_sample, self.temperature, self.top_k, self.top_p, self.seed)

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
