"""How a model writes text: what attacks and utility measures that have it write share as settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from byrote.registry import Settings
from byrote.types import Decoding


class Writing(Settings):
    """By transformers' names. Decoding is greedy unless `do_sample` asks for draws, each text's by a generator of its
    own; what has the same settings shares the text.
    """

    max_new_tokens: int = Field(128, ge=1, le=100_000, description="tokens that it writes at most")
    do_sample: bool = Field(False, description="draw each token, instead of taking the likeliest")
    temperature: float = Field(1.0, gt=0, description="of the draws")
    top_k: Annotated[int, Field(ge=1, description="draw among so many of the likeliest tokens")] | None = None
    top_p: float = Field(1.0, gt=0, le=1, description="draw among those that together reach this probability")
    seed: int = Field(0, ge=0, lt=2**63, description="of the draws")

    @model_validator(mode="after")
    def _nothing_drawn_greedily(self) -> Writing:
        if not self.do_sample and self.decoding != Decoding(self.max_new_tokens):
            raise ValueError("temperature, top_k, top_p and seed need do_sample: true; without it decoding is greedy")
        return self

    @property
    def decoding(self) -> Decoding:
        """How the text is generated."""
        return Decoding(self.max_new_tokens, self.do_sample, self.temperature, self.top_k, self.top_p, self.seed)
