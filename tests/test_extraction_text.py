"""Near-verbatim measures against naive ones, and their speed on long texts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.attacks.extraction.rolling import RINGS, Rolling, powers
from byrote.attacks.extraction.text import (
    Unit,
    bleu,
    edit_distance,
    longest_common_subsequence,
    longest_common_substring,
)

TEXTS = st.text(alphabet="ab \n\u00e9\U0001f600\ud800", max_size=14)
UNITS: list[Unit] = ["characters", "words"]


def units(text: str, unit: Unit) -> Sequence[str]:
    return text if unit == "characters" else text.split()


def naive_edits(a: Sequence[str], b: Sequence[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def naive_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def naive_substring(a: Sequence[str], b: Sequence[str]) -> int:
    runs = {tuple(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1)}
    return max((j - i for i in range(len(b)) for j in range(i + 1, len(b) + 1) if tuple(b[i:j]) in runs), default=0)


@given(TEXTS, TEXTS)
def test_they_equal_naive_ones(a: str, b: str) -> None:
    for unit in UNITS:
        ours, theirs = units(a, unit), units(b, unit)
        distance = naive_edits(ours, theirs) / max(len(ours), len(theirs), 1)
        assert edit_distance(a, b, unit=unit) == pytest.approx(distance)
        assert edit_distance(a, b, unit=unit, at_most=0.3) == pytest.approx(distance if distance <= 0.3 else 1.0)
        assert longest_common_subsequence(a, b, unit=unit) == naive_subsequence(ours, theirs)
        assert longest_common_substring(a, b, unit=unit) == naive_substring(ours, theirs)


def test_the_longest_common_substring_of_longer_texts_is_difflibs() -> None:
    generator = np.random.default_rng(4)
    for _ in range(20):
        a, b = ("".join(generator.choice(list("abcd"), 400)) for _ in range(2))
        found = SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size
        assert longest_common_substring(a, b) == found


def test_bleu_is_sacrebleus() -> None:
    assert bleu("the cat sat on the mat", "the cat sat on the mat") == pytest.approx(1.0)
    # Precisions 5/6, 3/5, 1/4, and 0/3 counted as half a match of three; no penalty for being short.
    expected = (5 / 6 * 3 / 5 * 1 / 4 * (1 / 2) / 3) ** 0.25
    assert bleu("the cat sat in the mat", "the cat sat on the mat") == pytest.approx(expected)
    assert bleu("", "a b") == 0.0


def test_a_run_has_the_same_hash_wherever_it_stands() -> None:
    """And the hash is that of its definition: a polynomial modulo each prime."""
    generator = np.random.default_rng(5)
    values = generator.integers(0, 3, 300)
    hashes = Rolling(values)
    seen: dict[int, tuple[int, ...]] = {}
    for size in (1, 2, 7, 40):
        for start, key in enumerate(hashes.windows(size).tolist()):
            run = tuple(values[start : start + size].tolist())
            assert seen.setdefault(key, run) == run
            assert key == Rolling(np.array(run)).windows(size)[0]
    assert len(seen) == len(set(seen.values()))
    for prime, base in RINGS:
        assert powers(base, prime, 70).tolist() == [pow(base, exponent, prime) for exponent in range(70)]


def test_texts_whose_hashes_collide_modulo_a_power_of_two_are_told_apart() -> None:
    """The Thue-Morse text and its negative, of 2048 characters, collide for any base modulo 2^64."""
    bits = np.array([bin(number).count("1") % 2 for number in range(2048)])
    keys = [Rolling(one).windows(2048)[0] for one in (bits, 1 - bits)]
    assert keys[0] != keys[1]


def test_long_texts_take_seconds() -> None:
    words = np.random.default_rng(6).choice(["alpha ", "beta ", "gamma ", "delta "], 90_000)
    a = "".join(words)
    b = "".join(words[::-1])
    assert len(a) > 450_000
    start = time.perf_counter()
    assert 20 < longest_common_substring(a, b) < 200
    assert longest_common_substring(a, a[250_000:]) == len(a) - 250_000
    assert longest_common_substring("a" * 10**6 + "c", "b" + "a" * 10**6) == 10**6
    assert edit_distance(a, a[:-1000], at_most=0.1) == pytest.approx(1000 / len(a))
    assert time.perf_counter() - start < 60
