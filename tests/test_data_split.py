"""Who is a member: disjoint, uniform, whole groups, no near-copies across parts."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from byrote.data.duplicates import bands, distinct, jaccard, remove_duplicates, shingles
from byrote.data.split import fewest, largest_members, sizes, split
from byrote.types import Record, Splits, StudyError, normalise

WORDS = [f"word{number}" for number in range(300)]


def texts(count: int, seed: int = 0, length: int = 40) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=length)) for _ in range(count)]


def population(count: int, group_size: int = 1) -> list[Record]:
    group = (lambda n: None) if group_size == 1 else (lambda n: f"g{n // group_size}")
    return [Record(str(n), f"record number {n}", group=group(n)) for n in range(count)]


def ids(splits: Splits) -> list[list[str]]:
    return [[record.id for record in part] for _, part in splits.parts()]


def naive_jaccard(a: str, b: str) -> float:
    """Straight from the definition, with tuples of words."""

    def runs(text: str) -> set[tuple[str, ...]]:
        words = normalise(text).split()
        return {tuple(words[n : n + 3]) for n in range(max(1, len(words) - 2))}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 15), st.integers(0, 15), st.integers(0, 30))
def test_parts_are_disjoint_and_of_the_asked_sizes(
    seed: int, members: int, validation: int, test: int, spare: int
) -> None:
    records = population(2 * members + validation + test + spare)
    splits = split(records, members=members, validation=validation, test=test, seed=seed)
    drawn = ids(splits)
    assert [len(part) for part in drawn] == [members, members, validation, test]
    assert len({name for part in drawn for name in part}) == sum(map(len, drawn))
    assert splits.dropped == ({"not drawn": spare} if spare else {})
    assert ids(split(records, members=members, validation=validation, test=test, seed=seed)) == drawn


def test_another_seed_draws_another_split() -> None:
    records = population(200)
    members = {frozenset(r.id for r in split(records, members=50, seed=seed).members) for seed in range(20)}
    assert len(members) == 20


def test_the_draw_is_uniform() -> None:
    """Each record is in each part equally often: chi-square over seeds, and pairs as often as chance says."""
    records, seeds, wanted = population(20), 4000, (6, 6, 3, 2)
    counts = np.zeros((4, 20))
    together = np.zeros((20, 20))
    for seed in range(seeds):
        drawn = ids(split(records, members=6, nonmembers=6, validation=3, test=2, seed=seed))
        for part, names in enumerate(drawn):
            counts[part, [int(name) for name in names]] += 1
        together[np.ix_(*[[int(name) for name in drawn[0]]] * 2)] += 1
    for part, size in enumerate(wanted):
        rate = size / 20
        # Fixed part sizes make the counts negatively correlated: the statistic is (N-1)/N times a chi-square(N-1).
        statistic = ((counts[part] - seeds * rate) ** 2).sum() / (seeds * rate * (1 - rate)) * 19 / 20
        assert chi2.ppf(1e-4, 19) < statistic < chi2.ppf(1 - 1e-4, 19)
    pairs = together[np.triu_indices(20, 1)] / seeds
    assert np.abs(pairs - 6 * 5 / (20 * 19)).max() < 5 * np.sqrt(0.079 * 0.921 / seeds)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 8), min_size=60, max_size=90))
def test_groups_never_straddle_and_sizes_are_never_exceeded(seed: int, group_sizes: list[int]) -> None:
    records = [Record(f"{g}-{n}", f"{g} {n}", group=f"g{g}") for g, size in enumerate(group_sizes) for n in range(size)]
    wanted = (len(records) // 4, len(records) // 4, len(records) // 8, len(records) // 8)
    splits = split(records, members=wanted[0], nonmembers=wanted[1], validation=wanted[2], test=wanted[3], seed=seed)
    homes: dict[str, set[str]] = {}
    for name, part in splits.parts():
        for record in part:
            homes.setdefault(record.group_id, set()).add(name)
    assert all(len(names) == 1 for names in homes.values())
    for (_, part), size in zip(splits.parts(), wanted, strict=True):
        assert size - 7 <= len(part) <= size
    drawn = {record.id for record in splits.all()}
    assert all(len([r for r in records if r.group == group and r.id not in drawn]) == 0 for group in homes)
    assert splits.dropped.get("not drawn", 0) == len(records) - len(drawn)


def test_no_part_is_told_by_the_size_of_its_groups() -> None:
    """Large groups land in every part, drawn or not, in proportion to its size; small ones then fill every gap."""
    records = [Record(f"{g}-{n}", f"{g} {n}", group=str(g)) for g in range(60) for n in range(1 if g % 3 else 5)]
    seeds, wanted = 600, {"member": 50, "nonmember": 50, "validation": 15, "test": 5}
    large = dict.fromkeys(wanted, 0)
    for seed in range(seeds):
        splits = split(records, members=50, validation=15, test=5, seed=seed)
        for name, part in splits.parts():
            assert len(part) == wanted[name]
            large[name] += sum(record.id.endswith("-4") for record in part)
    expected = {name: 20 * size / len(records) * seeds for name, size in wanted.items()}
    # The last place of a small part is too narrow for a group of five, so only the larger parts are proportional.
    for name in ("member", "nonmember"):
        assert abs(large[name] / expected[name] - 1) < 0.1
    assert abs(large["member"] - large["nonmember"]) < 4 * np.sqrt(large["member"] + large["nonmember"])
    assert 0.5 < large["validation"] / expected["validation"] < 1.1


def test_one_giant_group_is_left_out_or_refused() -> None:
    giant = [Record(f"x{n}", f"giant {n}", group="giant") for n in range(100)]
    splits = split(giant + population(100), members=20, seed=0)
    assert len(splits.members) == 20 and splits.dropped["not drawn"] >= 100
    with pytest.raises(StudyError, match="whole groups stay together and the largest group has 100 records"):
        split(giant + population(100), members=80, seed=0)


def test_sizes_left_open_are_filled() -> None:
    assert sizes(4000, 1000) == (1000, 1000, 1000, 1000)
    assert sizes(400, 120) == (120, 120, 80, 80)
    assert sizes(400, 120, test=60) == (120, 120, 100, 60)
    assert sizes(400, 120, nonmembers=200) == (120, 200, 40, 40)
    assert sizes(10, 4) == (4, 4, 1, 1)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3000), st.none() | st.integers(1, 500), st.none() | st.integers(0, 300))
def test_the_advised_number_of_members_works_and_is_the_largest(
    available: int, nonmembers: int | None, validation: int | None
) -> None:
    largest = largest_members(available, nonmembers, validation, None)
    if largest:
        filled = sizes(available, largest, nonmembers, validation)
        assert sum(filled) <= available and all(
            a >= b for a, b in zip(filled, fewest(largest, nonmembers, validation, None), strict=True)
        )
    with pytest.raises(StudyError):
        sizes(available, largest + 1, nonmembers, validation)


def test_too_few_records_says_how_many_and_what_works() -> None:
    records = population(300) + population(10)
    with pytest.raises(StudyError) as error:
        split([Record(f"{n}", r.text) for n, r in enumerate(records)], members=500, seed=0, near_duplicates=1.0)
    message = str(error.value)
    assert "1040 are needed (500 members, 500 nonmembers, 20 validation, 20 test)" in message
    assert "there are 300 (left out: 10 duplicate). Set 'members' to 130 or less" in message
    assert len(split(population(300), members=130, seed=0).members) == 130
    for wrong in ({"members": 0}, {"members": 5, "nonmembers": 0}, {"members": 5, "test": -1}):
        with pytest.raises(StudyError, match="must be at least"):
            split(population(300), seed=0, **wrong)


def test_planted_copies_are_left_out_and_the_first_is_kept() -> None:
    originals = texts(100)
    words = originals[7].split()
    planted = [
        originals[3].upper().replace(" ", "  "),  # the same when normalised
        " ".join([*words[:-1], "changed"]),  # 37 of 39 runs of three words shared
        " ".join([*words[:20], "changed", *words[21:]]),  # 35 of 41
    ]
    records = [Record(str(n), text) for n, text in enumerate(originals + planted)]
    kept, counts = remove_duplicates(records, 0.8)
    assert counts == {"duplicate": 1, "near-duplicate": 2}
    assert [record.id for record in kept] == [str(n) for n in range(100)]
    assert remove_duplicates(records, 0.8) == (kept, counts)
    kept, counts = remove_duplicates(records, 1.0)
    assert counts == {"duplicate": 1} and len(kept) == 102
    splits = split(records, members=20, seed=0, near_duplicates=0.8, dropped={"bad row": 2, "duplicate": 1})
    expected = {"bad row": 2, "duplicate": 2, "near-duplicate": 2}
    assert {name: splits.dropped[name] for name in expected} == expected


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 0.95])
def test_exactly_the_near_duplicates_are_left_out(threshold: float) -> None:
    """Against the naive loop over all pairs, on texts with planted edits of every strength."""
    rng = random.Random(int(threshold * 100))
    pool = texts(60, seed=1, length=30 if threshold < 0.9 else 150)
    for _ in range(140):
        words = rng.choice(pool).split()
        for _ in range(rng.randint(1, 6)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        pool.append(" ".join(words))
    pool += ["short", "short one", "short one here"]
    expected: list[int] = []
    for index, text in enumerate(pool):
        if all(naive_jaccard(text, pool[other]) < threshold for other in expected):
            expected.append(index)
    assert distinct(pool, threshold) == expected
    assert len(expected) < len(pool) - 5
    records = [Record(str(n), text) for n, text in enumerate(pool)]
    drawn = split(records, members=10, seed=0, near_duplicates=threshold).all()
    assert all(naive_jaccard(a.text, b.text) < threshold for a, b in combinations(drawn, 2))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "d", "é"]), min_size=1, max_size=12),
    st.lists(st.sampled_from(["a", "b", "c", "d", "é"]), min_size=1, max_size=12),
)
def test_jaccard_equals_its_definition(a: list[str], b: list[str]) -> None:
    words: dict[str, int] = {}
    found = jaccard(shingles(" ".join(a), words), shingles(" ".join(b), words))
    assert found == naive_jaccard(" ".join(a), " ".join(b))


def test_banding_misses_at_most_one_pair_in_a_hundred_thousand() -> None:
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        count, rows = bands(threshold)
        assert count * rows <= 128
        assert (1 - threshold**rows) ** count <= 1e-5
    for wrong in (0, -0.5, 1.5):
        with pytest.raises(StudyError, match="near_duplicates"):
            remove_duplicates(population(3), wrong)


def test_splits_refuse_an_overlap() -> None:
    a, b = Record("a", "The same text"), Record("b", "the  SAME text")
    with pytest.raises(StudyError, match="repeats the text"):
        Splits((a,), (b,), (), ())
    with pytest.raises(StudyError, match="both member and validation"):
        Splits((a,), (), (Record("a", "other"),), ())
    with pytest.raises(StudyError, match="repeats the text"):  # copies that nobody removed
        split([Record(str(n), "one text") for n in range(50)], members=10, seed=0)


def test_each_part_is_in_random_order() -> None:
    records = [Record(str(n), f"text {n}", group=str(n // 4) if n < 200 else None) for n in range(400)]
    order = [int(record.id) for record in split(records, members=100, seed=3).members]
    assert (
        10 < sum(number < 200 for number in order[:50]) < 40
    )  # groups of four are drawn first, but do not stand first
    rising = Counter(a < b for a, b in pairwise(order))[True]
    assert 30 < rising < 69
