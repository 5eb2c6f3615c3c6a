"""Recall of the fields of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from byrote.attacks.base import Background, Evidence, Need
from byrote.attacks.extraction.base import ExtractionMeasure, Form, Measure
from byrote.registry import register
from byrote.types import Decoding, Generation, Opening, Record, Unscorable, normalise


@register("attack", "field-recall")
class FieldRecall(ExtractionMeasure):
    """The share of a record's attributes that the model writes when it is given the text before them.

    Attributes are the secrets of canaries, and the columns of the data that `data.attributes` names. The model goes on
    greedily from the record as far as the attribute; it recalls it where what it writes begins with it, white space
    and capitals aside. Records without attributes are not asked, and where completions are trained on, those in the
    prompt are not: nothing learns them.

    Lukas et al. 2023, "Analyzing leakage of personally identifiable information in language models", arXiv 2302.00539.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"continuations", "attributes"})
    metrics: ClassVar[Mapping[str, Form]] = {"recall": "mean"}
    max_new_tokens: int = Field(48, ge=1, le=100_000, description="tokens that it writes at most")
    records: Annotated[int, Field(ge=2, description="of each side and slice; null: all")] | None = 200

    @property
    def cost(self) -> str:
        """In texts that are generated."""
        return f"1 continuation of up to {self.max_new_tokens} tokens for each attribute"

    def openings(self, record: Record, background: Background) -> Sequence[Opening]:
        """The record as far as each attribute."""
        decoding = Decoding(self.max_new_tokens)
        return [Opening(before, decoding) for _, before in _asked(record, background)]

    def measurer(self, side: Sequence[Evidence], sources: Sequence[str]) -> Measure:
        """Every record by itself."""
        return self.measure

    def measure(self, evidence: Evidence) -> tuple[float, ...]:
        """In [0, 1]; raises Unscorable with a reason."""
        asked = _asked(evidence.record, evidence.background)
        if not asked:
            raise Unscorable("it has no attribute to recall (data.attributes; the plants canaries and coin-flips)")
        if len(evidence.continuations) != len(asked):
            raise Unscorable("the model was not asked to go on from it")
        said = zip(asked, evidence.continuations, strict=True)
        text = evidence.record.text
        return (sum(self._recalls(value, text.partition(value)[2], one) for (value, _), one in said) / len(asked),)

    def _recalls(self, value: str, after: str, said: Generation) -> bool:
        """Whether a text begins with a value, after which the record has `after`. Raises Unscorable where the model
        could not have written it all.
        """
        if said.reason:
            raise Unscorable(said.reason)
        wanted, written = normalise(value), normalise(said.text)
        if written.startswith(wanted):
            goes_on = written[len(wanted) : len(wanted) + 1].isalnum()  # Ann Leeward is not Ann Lee
            return not goes_on or after[:1].isalnum() or not after  # of what follows the end nothing was learned
        if written and not said.ended and wanted.startswith(written):
            raise Unscorable(f"an attribute is longer than the {len(said.tokens)} tokens that the model wrote")
        return False


def _asked(record: Record, background: Background) -> list[tuple[str, Record]]:
    """Each attribute that a model can go on to, and the record as far as that, with an empty completion."""
    learned = record.text.rfind(record.scored("completion")) if background.of == "completion" else 0
    found = []
    for _, value in record.attributes:
        at = record.text.index(value)
        if at < learned:
            continue
        if background.of == "completion" and record.messages is not None:
            found += [(value, record)] * (at == learned)  # a template closes an answer, so none goes on within it
            continue
        before = record.text[:at].rstrip(" ")  # the space before a word is a part of its token
        found.append((value, replace(record, text=before, prompt=before, completion="", messages=None)))
    return found
