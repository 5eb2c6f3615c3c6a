"""In-context learning: who is shown beside whom."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from byrote.methods.in_context import DemonstrationSet, InContext
from byrote.types import Record, Splits


def part(name: str, size: int, group: int = 1) -> tuple[Record, ...]:
    """Records in groups of so many."""
    return tuple(Record(f"{name}{at}", f"{name} {at}", group=f"{name} group {at // group}") for at in range(size))


def splits(*sizes: int, group: int = 1) -> Splits:
    return Splits(*(part(name, size, group) for name, size in zip("mnvt", sizes, strict=True)))


def counts(sets: tuple[DemonstrationSet, ...], letter: str) -> list[int]:
    return [sum(record.id.startswith(letter) for record in one.scored) for one in sets]


@pytest.mark.parametrize(
    ("sizes", "shown"), [((10, 10, 5, 5), 3), ((7, 30, 0, 1), 8), ((200, 200, 9, 40), 8), ((9, 2, 2, 2), 1)]
)
def test_every_record_is_in_one_set_and_every_member_is_shown_once(sizes: tuple[int, ...], shown: int) -> None:
    given = splits(*sizes)
    sets = InContext(demonstrations=shown).sets(given, 3)
    assert sorted(r.id for one in sets for r in one.scored) == sorted(r.id for r in given.all())
    assert sorted(r.id for one in sets for r in one.demonstrations) == sorted(r.id for r in given.members)
    assert len(sets) == math.ceil(sizes[0] / shown) and max(counts(sets, "m")) <= shown
    for letter in "mnvt":
        assert max(counts(sets, letter)) - min(counts(sets, letter)) <= 1
    assert InContext(demonstrations=shown).sets(given, 3) == sets != InContext(demonstrations=shown).sets(given, 4)


@pytest.mark.parametrize(("group", "shown"), [(3, 8), (3, 2), (5, 5), (40, 8)])
def test_groups_stay_together_whatever_their_size(group: int, shown: int) -> None:
    given = splits(40, 40, 10, 10, group=group)
    sets = InContext(demonstrations=shown).sets(given, 0)
    homes: dict[str, set[int]] = {}
    for number, one in enumerate(sets):
        assert one.demonstrations
        for record in one.scored:
            homes.setdefault(record.group_id, set()).add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())
    assert max(counts(sets, "m")) - min(counts(sets, "m")) <= group
    assert sum(counts(sets, "m")) == 40 and len(sets) <= math.ceil(40 / shown)


def test_planted_copies_stand_in_one_context_and_take_places() -> None:
    given = splits(20, 20, 5, 5)
    given = replace(given, members=tuple(replace(r, copies=1 + 3 * (at < 4)) for at, r in enumerate(given.members)))
    sets = InContext(demonstrations=8).sets(given, 0)
    assert [len(one.demonstrations) for one in sets] == [8, 8, 8, 8]
    assert sum(one.demonstrations.count(given.members[0]) == 4 for one in sets) == 1
    assert sorted(r.id for one in sets for r in one.scored) == sorted(r.id for r in given.all())
    # A record of more copies than fit still stands in one context.
    given = replace(given, members=(replace(given.members[0], copies=20), *given.members[4:]))
    sizes = sorted(len(one.demonstrations) for one in InContext(demonstrations=8).sets(given, 0))
    assert sizes == [4, 4, 4, 4, 20]


def test_company_and_order_are_random() -> None:
    """Any other member stands beside the first with chance (k - 1) / (N - 1), and any record is beside any set."""
    together, first, beside = [], [], []
    for seed in range(600):
        sets = InContext(demonstrations=4).sets(splits(12, 12, 2, 2), seed)
        home = next(one for one in sets if any(record.id == "m0" for record in one.demonstrations))
        ids = [record.id for record in home.demonstrations]
        together.append("m1" in ids)
        first.append(ids.index("m0"))
        beside.append("n0" in {record.id for record in home.others})
    assert np.mean(together) == pytest.approx(3 / 11, abs=4 * math.sqrt(0.2 / 600))
    assert np.mean(beside) == pytest.approx(1 / 3, abs=4 * math.sqrt(0.22 / 600))
    assert np.bincount(first, minlength=4) == pytest.approx(np.full(4, 150), abs=4 * math.sqrt(112))


def test_it_has_no_rate_and_takes_none() -> None:
    with pytest.raises(ValueError, match="trains nothing, so it has no learning rate"):
        InContext(learning_rate=0.1)
