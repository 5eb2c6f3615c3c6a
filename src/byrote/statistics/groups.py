"""Copies and near-copies share a group, and are drawn together whenever records are resampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from byrote.types import Floats

CHUNK = 200  # replicates held in memory at once


def joined(*ways: Sequence[str]) -> tuple[str, ...]:
    """Of several ways to group the same N records, the finest whose groups hold every group of each way whole."""
    kept = list(dict.fromkeys(tuple(way) for way in ways if len(set(way)) < len(way)))
    if len(kept) < 2:
        return kept[0] if kept else tuple(ways[0])
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    records, ends, found = len(kept[0]), [], len(kept[0])
    for way in kept:  # a record and its group are joined; so are, through their records, groups of two ways
        labels = np.unique(np.asarray(way, dtype=object), return_inverse=True)[1]
        ends.append(found + labels)
        found += int(labels.max()) + 1
    edges = np.tile(np.arange(records), len(kept)), np.concatenate(ends)
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(found, found))
    return tuple(map(str, connected_components(graph, directed=False)[1][:records]))


@dataclass(frozen=True, eq=False)
class Grouping:
    """The group of each member, shape (M,), and of each nonmember, shape (N,), as numbers from 0.

    A record without a group is its own. A group may stand on both sides; it is then drawn for both.
    """

    member: NDArray[np.intp]
    nonmember: NDArray[np.intp]

    @classmethod
    def of(
        cls, members: int, nonmembers: int, member_groups: Sequence[str] | None, nonmember_groups: Sequence[str] | None
    ) -> Grouping:
        """Number the labels; raises ValueError where their count is not that of the records."""
        for side, size, groups in (("member", members, member_groups), ("nonmember", nonmembers, nonmember_groups)):
            if groups is not None and len(groups) != size:
                raise ValueError(f"{size} {side} scores but {len(groups)} groups")
        one, other = (None if groups is None else tuple(groups) for groups in (member_groups, nonmember_groups))
        return _numbered(members, nonmembers, one, other)

    @property
    def repeats(self) -> bool:
        """Whether any group holds more than one record."""
        return self.size < len(self.member) + len(self.nonmember)

    @cached_property
    def size(self) -> int:
        """How many groups there are on both sides together."""
        return int(max(self.member.max(initial=-1), self.nonmember.max(initial=-1))) + 1

    @cached_property
    def counts(self) -> tuple[int, int]:
        """How many groups the members form, and how many the nonmembers."""
        return len(np.unique(self.member)), len(np.unique(self.nonmember))

    def resample(self, seed: int, replicates: int) -> Iterator[tuple[Floats, Floats]]:
        """Bootstrap weights in chunks of R replicates: of the members (R, M) and of the nonmembers (R, N).

        Groups are drawn with replacement within their side (members, nonmembers, or both), so that
        neither side can come out empty.
        """
        rng = np.random.default_rng(seed)
        stratum = np.zeros(self.size, dtype=np.intp)
        stratum[self.member] += 1
        stratum[self.nonmember] += 2  # numpy adds once per distinct index, so 3 means "on both sides"
        for start in range(0, replicates, CHUNK):
            rows = min(CHUNK, replicates - start)
            weights = np.zeros((rows, self.size))
            for kind in (1, 2, 3):
                of_kind = np.flatnonzero(stratum == kind)
                if len(of_kind):
                    weights[:, of_kind] = _draws(rng, rows, len(of_kind))
            yield weights[:, self.member], weights[:, self.nonmember]


@lru_cache(maxsize=64)
def _numbered(
    members: int, nonmembers: int, member_groups: tuple[str, ...] | None, nonmember_groups: tuple[str, ...] | None
) -> Grouping:
    """Kept, as a report asks for the same records again with every attack, metric and epoch."""
    labels: list[tuple[str, str | int]] = []
    for side, size, groups in (("member", members, member_groups), ("nonmember", nonmembers, nonmember_groups)):
        labels += [(side, at) for at in range(size)] if groups is None else [("group", label) for label in groups]
    numbers: dict[tuple[str, str | int], int] = {}
    codes = np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), np.intp, len(labels))
    codes.setflags(write=False)
    return Grouping(codes[:members], codes[members:])


def _draws(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.intp]:
    """How often each of `size` things is drawn in `size` draws with replacement, shape (rows, size)."""
    drawn = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
