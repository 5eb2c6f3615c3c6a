"""In-context learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import chain
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from byrote.methods.base import Attached, Method, NotForThisModel, classifies
from byrote.registry import register
from byrote.types import Record, Splits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class DemonstrationSet:
    """Members that are shown together, and the other records that are scored after them as the members are."""

    demonstrations: tuple[Record, ...]
    """What stands in the context, in this order; a member that was planted several times stands there as often."""
    others: tuple[Record, ...]

    @property
    def scored(self) -> tuple[Record, ...]:
        """Every record that is scored with these demonstrations before it, once."""
        return (*dict.fromkeys(self.demonstrations), *self.others)


@register("method", "in-context")
class InContext(Method):
    """Members stand before every text as demonstrations; nothing is trained.

    Brown et al. 2020 (2005.14165); that the demonstrations leak is shown by Duan et al. 2024 (2411.10512). The members
    are shown in sets of at most `demonstrations` records, as equal as they can be, and every other record belongs to
    one of the sets too. A record is scored behind the demonstrations of its set, a member therefore behind a context
    that holds itself: what the model copies from its context is the leak. A model that can hardly copy hardly leaks:
    with 8 demonstrations the reference attack has AUC 1.00 on SmolLM2-135M and about 0.57 on `builtin:tiny`.

    The tokens that are scored are those of the untuned model's pass, and each record is tokenised by itself. Records of
    one group share a set, and planted copies stand in one context, even where they are more than `demonstrations`.
    Records of a set share a context, so whole sets are resampled for intervals, and rates count sets: below 20 sets the
    intervals are wide, and TPR at 10% FPR needs 100 sets.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "prompt"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "prompt"
    learning_rates: ClassVar[tuple[float, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("lm", "completion")
    is_adapter: ClassVar[bool] = False
    starts_as_base: ClassVar[bool] = False
    not_private: ClassVar[str] = "in-context shows members to the model word for word, and no noise hides them"

    demonstrations: Annotated[int, Field(ge=1)] = 8
    separator: str = "\n\n"
    """What stands after each demonstration."""

    @model_validator(mode="after")
    def _without_a_rate(self) -> InContext:
        if self.learning_rate is not None or self.private_learning_rate is not None:
            raise ValueError("in-context trains nothing, so it has no learning rate")
        return self

    def attach(self, model: PreTrainedModel) -> Attached:
        """The model as it is, with nothing trainable."""
        if classifies(model):
            raise NotForThisModel("in-context: a classifier reads one text; use a language model")
        model.requires_grad_(False)
        return Attached(model)

    def sets(self, splits: Splits, seed: int) -> tuple[DemonstrationSet, ...]:
        """All records of a split in sets: each record in one, each set with a member; the same for the same seed."""
        generator = np.random.default_rng(seed)
        places = sum(record.copies for record in splits.members)
        groups = len({record.group_id for record in splits.members})
        count = min(-(-places // self.demonstrations), groups)
        sets = []
        for shown, *others in zip(*(_shared_out(part, count, generator) for _, part in splits.parts()), strict=True):
            context = [record for record in shown for _ in range(record.copies)]
            order = generator.permutation(len(context))
            sets.append(DemonstrationSet(tuple(context[at] for at in order), tuple(chain.from_iterable(others))))
        return tuple(sets)


def _shared_out(records: Sequence[Record], count: int, generator: np.random.Generator) -> list[list[Record]]:
    """Whole groups shared out at random over `count` sets that take about as many places each.

    Large groups go first and each to the smallest set, so that sets of single records differ by one at most.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.group_id, []).append(record)
    families = list(groups.values())
    sizes = [sum(record.copies for record in family) for family in families]
    sets: list[list[Record]] = [[] for _ in range(count)]
    smallest = [(0, at) for at in range(count)]
    for index in sorted(generator.permutation(len(families)).tolist(), key=lambda index: -sizes[index]):
        size, at = smallest[0]
        sets[at] += families[index]
        heapreplace(smallest, (size + sizes[index], at))
    return sets
