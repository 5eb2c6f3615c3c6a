"""What a plant is: it changes some records of a split on purpose, and marks them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from byrote.registry import Component
from byrote.types import Record, Splits

STREAM = 0x91A27  # keeps these generators apart from the others that start from the same seed


class Plant(Component):
    """Abstract: changes members, and nonmembers as their control; validation and test records stay as they are.

    A subclass is final, frozen, and registered with `@register`. What it changes carries `planted_by` and `slice`,
    so that every number can be given for that slice.
    """

    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"
    """What must be predicted for the plant to make sense."""

    @abstractmethod
    def plant(self, splits: Splits, labels: Sequence[str], generator: np.random.Generator) -> Splits:
        """The splits with this plant in them; records that another plant marked are left alone. Raises StudyError."""

    def added(self) -> int:
        """How many training records it adds, by its settings alone: the size of private data may not depend on them."""
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


def plant_all(plants: Sequence[Plant], splits: Splits, labels: Sequence[str], seed: int) -> Splits:
    """The splits with every plant in them, in the order given; the same seed plants the same."""
    for place, plant in enumerate(plants):
        splits = plant.plant(splits, labels, np.random.default_rng(np.random.SeedSequence([seed, STREAM, place])))
    return splits
