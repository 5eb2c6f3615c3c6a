"""Who is a member: one function with one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from byrote.data.duplicates import remove_duplicates
from byrote.types import Record, Splits, StudyError

STREAM = 0x5B117  # keeps this generator apart from the others that start from the same seed
PARTS = ("members", "nonmembers", "validation", "test")
FEWEST = 20  # records of validation and test that a default leaves, where members are at least five times as many


def split(
    records: Sequence[Record],
    *,
    members: int,
    nonmembers: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    seed: int,
    near_duplicates: float | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Splits:
    """Draw members, nonmembers, validation and test at random from one population.

    `near_duplicates` is the threshold of `remove_duplicates`; None says that the caller has called it.
    Sizes that are None are chosen by `sizes`. Whole groups are drawn, so that no person and no family
    of copies is on both sides; the sizes are exact when every record is its own group and are never
    exceeded otherwise. Each way to fill the parts is equally likely when groups have one size, and
    parts of equal size always have the same law. The same records, sizes and seed give the same split.
    `dropped` (reason → count) is passed on, with what is left out here added.
    """
    left_out = dict(dropped or {})
    if near_duplicates is not None:
        records, counts = remove_duplicates(records, near_duplicates)
        for reason, count in counts.items():
            left_out[reason] = left_out.get(reason, 0) + count
    wanted = sizes(len(records), members, nonmembers, validation, test, dropped=left_out)
    generator = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    parts = draw(records, wanted, generator)
    for name, part, size in zip(PARTS, parts, wanted, strict=True):
        if 2 * len(part) < size:
            largest = max(_group_sizes(records).values())
            raise StudyError(
                f"data: only {len(part)} of {size} {name} could be drawn, because whole groups stay together and the "
                f"largest group has {largest} records. Ask for fewer records, or use a finer 'group' column"
            )
    rest = len(records) - sum(map(len, parts))
    if rest:
        left_out["not drawn"] = left_out.get("not drawn", 0) + rest
    return Splits(parts[0], parts[1], parts[2], parts[3], dropped=left_out)


def sizes(
    available: int,
    members: int,
    nonmembers: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    *,
    dropped: Mapping[str, int] | None = None,
) -> tuple[int, int, int, int]:
    """(members, nonmembers, validation, test) with every None filled in.

    As many nonmembers as members; validation and test share what is left equally, up to `members` each.
    Raises StudyError with the largest `members` that would work when `available` records are too few.
    """
    asked = {"members": members, "nonmembers": nonmembers, "validation": validation, "test": test}
    for name, size in asked.items():
        least = 1 if name in ("members", "nonmembers") else 0
        if size is not None and size < least:
            raise StudyError(f"data: {name} is {size}, but must be at least {least}")
    needed = fewest(members, nonmembers, validation, test)
    if sum(needed) > available:
        raise StudyError(_too_few(available, asked, needed, dropped or {}))
    free = available - sum(needed)
    rest = [validation, test].count(None)
    # What is free is shared on top of the floors, so both parts are equal when both are left to us.
    share = free // rest if rest else 0
    filled = [
        min(members, least + share) if size is None else size
        for size, least in zip((validation, test), needed[2:], strict=True)
    ]
    return needed[0], needed[1], filled[0], filled[1]


def fewest(members: int, nonmembers: int | None, validation: int | None, test: int | None) -> tuple[int, int, int, int]:
    """The least size of each part."""
    floor = max(1, min(FEWEST, members // 5))
    return (
        members,
        members if nonmembers is None else nonmembers,
        floor if validation is None else validation,
        floor if test is None else test,
    )


def largest_members(available: int, nonmembers: int | None, validation: int | None, test: int | None) -> int:
    """The largest `members` for which there are enough records; 0 when there is none."""
    low, high = 0, available
    while low < high:
        middle = (low + high + 1) // 2
        if sum(fewest(middle, nonmembers, validation, test)) <= available:
            low = middle
        else:
            high = middle - 1
    return low


def _too_few(available: int, asked: Mapping[str, int | None], needed: Sequence[int], dropped: Mapping[str, int]) -> str:
    parts = ", ".join(f"{size} {name}" for name, size in zip(PARTS, needed, strict=True))
    after = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    after = f" (left out: {after})" if after else ""
    most = largest_members(available, asked["nonmembers"], asked["validation"], asked["test"])
    advice = f"Set 'members' to {most} or less" if most else "Ask for smaller parts"
    return (
        f"data: too few records: {sum(needed)} are needed ({parts}) but there are {available}{after}. "
        f"{advice}, or bring more records"
    )


def _group_sizes(records: Sequence[Record]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        counts[record.group_id] = counts.get(record.group_id, 0) + 1
    return counts


def draw(
    records: Sequence[Record], wanted: Sequence[int], generator: np.random.Generator
) -> tuple[tuple[Record, ...], ...]:
    """Whole groups into parts of at most the wanted sizes; each part in random order.

    Each group goes to a part with the probability of that part's share of the room that is left,
    "not drawn" being a part as well. For groups of one record that is a uniformly random partition.
    Large groups go first, because small ones fill the gaps.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.group_id, []).append(record)
    families = list(groups.values())
    order = sorted(generator.permutation(len(families)).tolist(), key=lambda index: -len(families[index]))
    dice = generator.random(len(order)).tolist()
    room = [*wanted, len(records) - sum(wanted)]
    parts: list[list[Record]] = [[] for _ in room]
    for index, chance in zip(order, dice, strict=True):
        group = families[index]
        part = pick(room, len(group), chance)
        # A group that fits nowhere is not drawn; the room for what is not drawn may then go below
        # zero, which leaves the wanted parts as much room as there are records still to come.
        room[part] -= len(group)
        parts[part].extend(group)
    return tuple(tuple(part[index] for index in generator.permutation(len(part))) for part in parts[: len(wanted)])


def pick(room: Sequence[int], size: int, chance: float) -> int:
    """The part whose share of the room, among parts with room for `size`, holds `chance`; the last when none has."""
    weights = [free if free >= size else 0 for free in room]
    point = chance * sum(weights)
    for index, weight in enumerate(weights):
        if point < weight:
            return index
        point -= weight
    # Rounding can push the point past the last share.
    return max((index for index, weight in enumerate(weights) if weight), default=len(room) - 1)
