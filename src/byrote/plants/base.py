"""What a plant is: it changes some records of a split on purpose, and marks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from byrote.registry import Component
from byrote.types import Record, Splits

STREAM = 0x91A27  # keeps these generators apart from the others that start from the same seed


class Made(NamedTuple):
    """Records that the data does not have, for either side of the split."""

    members: tuple[Record, ...]
    nonmembers: tuple[Record, ...]


class Tools(ABC):
    """What the runner hands to the plants of one seed: what they may ask of the base model, which they do not know."""

    max_length: int
    """Tokens that training reads of a record."""
    shape: Literal["text", "completion", "messages"]
    """What a record is made of: one text, prompt and completion, or a chat."""

    @abstractmethod
    def pieces(self, count: int, generator: np.random.Generator) -> list[str]:
        """A text of so many random tokens, in one piece for each: the tokenizer reads it back as exactly these."""

    @abstractmethod
    def losses(self, texts: Sequence[str]) -> list[float]:
        """The untuned base model's mean loss on each text, in nats per token."""

    @abstractmethod
    def tokens(self, records: Sequence[Record]) -> list[tuple[int, ...]]:
        """The tokens of each record, however many they are."""

    @abstractmethod
    def kept(self, plant: Plant, make: Callable[[], Made]) -> Made:
        """What this plant made before, or makes now: then it is kept for the next time."""


class Plant(Component):
    """Abstract: changes or adds members, and nonmembers as their control; validation and test records stay as they are.

    A subclass is final, frozen, and registered with `@register`. What it changes carries `planted_by` and `slice`,
    so that every number can be given for that slice.
    """

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"
    """What must be predicted for the plant to make sense."""

    @abstractmethod
    def plant(self, splits: Splits, labels: Sequence[str], generator: np.random.Generator, tools: Tools) -> Splits:
        """The splits with this plant in them; records that another plant marked are left alone. Raises StudyError."""

    def added(self) -> int:
        """How many training records it adds, by its settings alone: that number is declared, and may tell nothing."""
        return 0

    def mislabelled(self) -> int:
        """How many members it gives a wrong label, by its settings alone."""
        return 0


def free(records: Sequence[Record]) -> list[int]:
    """The places of the records that no plant has marked and that stand alone in their group.

    Near-copies of a planted record would carry it too, and make intervals falsely narrow.
    """
    sizes: dict[str, int] = {}
    for record in records:
        sizes[record.group_id] = sizes.get(record.group_id, 0) + 1
    return [at for at, record in enumerate(records) if record.planted_by is None and sizes[record.group_id] == 1]


def plant_all(plants: Sequence[Plant], splits: Splits, labels: Sequence[str], seed: int, tools: Tools) -> Splits:
    """The splits with every plant in them, in the order given; the same seed plants the same."""
    for place, plant in enumerate(plants):
        generator = np.random.default_rng(np.random.SeedSequence([seed, STREAM, place]))
        splits = plant.plant(splits, labels, generator, tools)
    return splits
