"""Two ways to group the same records, joined into one that keeps the groups of both whole."""

from __future__ import annotations

import numpy as np

from byrote.statistics.groups import joined


def pairs(groups: tuple[str, ...]) -> set[tuple[int, int]]:
    """Which records stand together."""
    return {(i, j) for i, one in enumerate(groups) for j, other in enumerate(groups) if i < j and one == other}


def test_what_stands_together_in_one_way_stands_together() -> None:
    persons, sets = tuple("aabbcc"), tuple("xyyzzw")  # a - b through y, b - c through z
    assert pairs(joined(persons, sets)) == pairs(tuple("111111"))
    assert pairs(joined(tuple("aabbcd"), tuple("uvwxyy"))) == {(0, 1), (2, 3), (4, 5)}


def test_ways_that_nest_give_the_coarser_one() -> None:
    alone, persons = tuple("012345"), tuple("aabbbc")
    assert joined(alone, persons) == persons and joined(persons, persons) == persons
    assert joined(alone, alone) == alone
    assert pairs(joined(persons, tuple("aabbbb"))) == pairs(tuple("aabbbb"))


def test_joined_is_the_transitive_closure() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ways = [tuple(map(str, rng.integers(0, 25, 30))) for _ in range(3)]
        near = np.eye(30)
        for way in ways:
            for i, j in pairs(way):
                near[i, j] = near[j, i] = 1.0
        reach = np.linalg.matrix_power(near, 30) > 0
        assert pairs(joined(*ways)) == {(i, j) for i in range(30) for j in range(i + 1, 30) if reach[i, j]}
