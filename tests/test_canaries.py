"""Canaries: the laws they are drawn from, that they are kept apart from the data, and what a study says of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare, ks_2samp

from byrote.plants.base import Made, Plant, Tools
from byrote.plants.canaries import Canaries
from byrote.plants.canary import shaped
from byrote.plants.canary_families import FAMILIES, Draft, Law
from byrote.plants.coin_flips import CoinFlips
from byrote.runner.context import Context
from byrote.runner.plant_tools import StoredTools
from byrote.runner.progress import Interrupted, Progress
from byrote.store import Store
from byrote.types import CANARY, COIN_FLIP, Record, Splits, StudyError, family_of, ordinary
from small_study import make_folder, study_of

SMALL = {"name": "canaries", "families": ["random-token", "random-word"], "copies": [1, 8], "canaries": 6}
SMALL |= {"controls": 12, "tokens": 8}
CANARY_SLICES = ["copies=1", "copies=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("canaries"))


def context_of(folder: Path, store: Path, **changes: Any) -> Context:
    return Context(study_of(folder, **changes), Path(), Store(store), Progress())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The shipped model, whose tokenizer cuts words into pieces, and every family."""
    data = {"source": "builtin:aws-docs", "members": 20, "nonmembers": 20, "validation": 50, "test": 50}
    plant = {"name": "canaries", "families": list(FAMILIES), "canaries": 5, "controls": 15}
    root = tmp_path_factory.mktemp("tiny")
    return context_of(root, root / "runs", model="builtin:tiny", data=data, plants=[plant], max_length=128)


def canaries_of(records: Sequence[Record], family: str) -> list[Record]:
    return [record for record in records if record.slice.startswith(f"{CANARY}{family}")]


class Fake(Tools):
    """A tokenizer of whole words, of which there are a thousand; a loss that is the sum of their numbers."""

    def __init__(self, max_length: int = 64) -> None:
        self.max_length = max_length
        self.shape = "text"

    def pieces(self, count: int, generator: np.random.Generator) -> list[str]:
        drawn = generator.integers(1000, size=count).tolist()
        return [f"t{drawn[0]}", *(f" t{number}" for number in drawn[1:])]

    def losses(self, texts: Sequence[str]) -> list[float]:
        return [float(sum(int(word[1:]) for word in text.split())) for text in texts]

    def tokens(self, records: Sequence[Record]) -> list[tuple[int, ...]]:
        words = sorted({word for record in records for word in record.text.split()})
        return [tuple(words.index(word) for word in record.text.split()) for record in records]

    def kept(self, plant: Plant, make: Callable[[], Made]) -> Made:
        return make()


def few_splits() -> Splits:
    def part(name: str, words: range) -> tuple[Record, ...]:
        return tuple(Record(f"{name}{at}", f"w{at}, (w{at + 1})") for at in words)

    return Splits(*(part(*each) for each in (("m", range(0, 9)), ("n", range(10, 19)), ("v", range(20, 49)),
                                             ("t", range(50, 89)))))  # fmt: skip


# --- laws ----------------------------------------------------------------------------------------


def test_random_tokens_are_read_back(tiny: Context) -> None:
    found = canaries_of(tiny.splits(0).members + tiny.splits(0).nonmembers, "random-token")
    assert len(found) == 3 * 5 + 15
    known = set(tiny.tokenizer.all_special_ids)
    for record in found:
        ids = tiny.tokenizer(record.text, add_special_tokens=False)["input_ids"]
        assert len(ids) == 16 and not known & set(ids)
        opening = record.text[: record.text.index(record.attributes[0][1])].rstrip()
        assert tiny.tokenizer(opening, add_special_tokens=False)["input_ids"] == ids[:8]


def test_random_tokens_are_drawn_evenly(folder: Path, tmp_path: Path) -> None:
    """Where every text of known words reads back, no token is likelier than another."""
    tools = StoredTools(context_of(folder, tmp_path), 0)
    generator = np.random.default_rng(0)
    counts = Counter(piece.strip() for _ in range(400) for piece in tools.pieces(10, generator))
    assert set(counts) == {"<bos>", "<x>", *(f"w{number}" for number in range(60))}
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_random_words_are_those_of_records_that_nothing_trains_on() -> None:
    plant = Canaries(families=("random-word",), tokens=6, canaries=100, copies=(1,))
    made = plant.made(few_splits(), np.random.default_rng(0), Fake())
    counts = Counter(word for record in made.members + made.nonmembers for word in record.text.split())
    assert set(counts) == {f"w{number}" for number in [*range(20, 50), *range(50, 90)]}
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_high_perplexity_takes_the_least_likely() -> None:
    outsiders = (Record("v", " ".join(f"w{number}" for number in range(100))),)
    law = Law(np.random.default_rng(0), Fake(), 6, 6, outsiders)
    again = Law(np.random.default_rng(0), Fake(), 6, 6, outsiders)
    taken = {draft.text for draft in FAMILIES["high-perplexity"](law, 20)}
    losses = {draft.text: Fake().losses([draft.text])[0] for draft in FAMILIES["random-word"](again, 80)}
    assert taken == set(sorted(losses, key=lambda text: -losses[text])[:20])


@pytest.mark.parametrize("family", ["random-token", "random-word", "high-perplexity"])
def test_what_is_trained_on_and_its_controls_are_of_one_law(folder: Path, tmp_path: Path, family: str) -> None:
    """By the loss of the untuned model, which never saw either; the upper and the lower half would be told apart."""
    plant = {"name": "canaries", "families": [family], "copies": [1], "canaries": 100, "controls": 100, "tokens": 6}
    context = context_of(folder, tmp_path, plants=[plant], data={"validation": 20, "test": 20})
    splits = context.splits(0)
    sides = [canaries_of(part, family) for part in (splits.members, splits.nonmembers)]
    inserted, controls = (StoredTools(context, 0).losses([record.text for record in side]) for side in sides)
    assert len(inserted) == len(controls) == 100
    assert ks_2samp(inserted, controls).pvalue > 0.01
    both = sorted(inserted + controls)
    assert ks_2samp(both[:100], both[100:]).pvalue < 1e-9


def test_numbers_and_ids_say_nothing_of_the_tier() -> None:
    """Ids are dealt before it is drawn which of them are trained on."""
    places = Counter[str]()
    for seed in range(200):
        made = Canaries(families=("format",), canaries=2, copies=(1, 4), controls=4).made(
            few_splits(), np.random.default_rng(seed), Fake()
        )
        places.update(record.id.rpartition(":")[2] for record in made.members)
        tiers = Counter(record.slice for record in made.members)
        assert tiers == {"canary:format copies=1": 2, "canary:format copies=4": 2}
        assert [record.copies for record in made.members] == [1, 1, 4, 4]
        assert {record.slice for record in made.nonmembers} == {"canary:format"}
    assert chisquare([places[f"{at:04d}"] for at in range(8)]).pvalue > 1e-3


def test_coins_are_fair_and_independent() -> None:
    """20 coins over 400 seeds: each falls like any other, and their number is binomial."""
    plant = CoinFlips(canaries=20, tokens=4)
    flips = np.zeros((400, 20))
    for seed in range(400):
        made = plant.made(few_splits(), np.random.default_rng(seed), Fake())
        assert len(made.members) + len(made.nonmembers) == 20
        assert {record.slice for record in (*made.members, *made.nonmembers)} == {"coin-flip:random-token"}
        assert all(record.copies == 1 for record in made.members)
        again = plant.model_copy(update={"copies": 3}).made(few_splits(), np.random.default_rng(seed), Fake())
        assert [replace(one, copies=1) for one in again.members] == list(made.members), "copies move no coin"
        assert {record.copies for record in again.members} <= {3} and again.nonmembers == made.nonmembers
        for record in made.members:
            flips[seed, int(record.id.rpartition(":")[2])] = 1
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / np.sqrt(flips.size)
    assert np.abs(flips.mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(400)
    assert 5 * 0.7 < flips.sum(1).var() < 5 * 1.3  # 20 / 4; standard deviation of its estimate 7%
    between = np.corrcoef(flips.T)[np.triu_indices(20, 1)]
    assert np.abs(between).max() < 4.5 / np.sqrt(400)


def test_personal_data_is_nobodys(tiny: Context) -> None:
    splits, state = tiny.splits(0), random.getstate()
    found = canaries_of(splits.members + splits.nonmembers, "personal-data")
    assert len({dict(record.attributes)["name"] for record in found}) == len(found) == 30
    for record in found:
        of = dict(record.attributes)
        assert list(of) == ["name", "e-mail", "phone", "card"]
        assert re.fullmatch(r"[\w.]+@example\.(com|org|net)", of["e-mail"])
        assert re.fullmatch(r"\(\d{3}\) 555-01\d\d", of["phone"])
        digits = [int(digit) for digit in of["card"].replace(" ", "")]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[::2]]
        assert len(digits) == 16 and (sum(doubled) + sum(digits[1::2])) % 10 != 0  # the check of Luhn fails
    FAMILIES["personal-data"](Law(np.random.default_rng(0), Fake(), 16, 6, ()), 5)
    assert random.getstate() == state


@pytest.mark.parametrize("shape", ["text", "completion", "messages"])
def test_every_secret_stands_in_its_text_once(tiny: Context, shape: Any) -> None:
    for family, draw in FAMILIES.items():
        law = Law(np.random.default_rng(3), StoredTools(tiny, 0), 10, 8, tiny.splits(0).validation)
        for draft in draw(law, 20):
            record = shaped(draft, Record("id", ""), shape)
            assert record.attributes == draft.attributes and len(record.attributes) == 1 + 3 * (
                family == "personal-data"
            )
            for _, value in record.attributes:
                assert record.text.count(value) == 1 and record.text.partition(value)[0].strip()
            secret = record.attributes[-1][1]
            if shape == "completion":
                assert record.prompt == record.prompt.strip() and record.completion == secret  # type: ignore[union-attr]
                assert record.text == f"{record.prompt}\n{record.completion}"
            if shape == "messages":
                assert record.messages is not None and record.scored("completion") == secret
                assert record.rewritten(str.upper, "completion").text.endswith(secret.upper())


def test_an_unsound_draft_is_seen() -> None:
    assert Draft("a number 4 2", (("secret", "4 2"),)).is_sound
    assert not Draft("4 2", (("secret", "4 2"),)).is_sound
    assert not Draft("a 4 2 and 4 2", (("secret", "4 2"),)).is_sound


# --- which there are -----------------------------------------------------------------------------


def test_a_seed_plants_the_same_and_what_was_planted_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plants = [{**SMALL, "families": ["high-perplexity", "random-token"]}, {"name": "coin-flips", "canaries": 9}]
    changes: dict[str, Any] = {"plants": plants, "data": {"validation": 20, "test": 20}}
    first = context_of(folder, tmp_path / "a", **changes).splits(0)
    assert context_of(folder, tmp_path / "b", **changes).splits(0) == first
    assert context_of(folder, tmp_path / "b", **changes).splits(1).members[-1] != first.members[-1]
    monkeypatch.setattr(Canaries, "made", lambda *_: 1 / 0)
    assert context_of(folder, tmp_path / "a", **changes).splits(0) == first
    with pytest.raises(ZeroDivisionError):  # another number of canaries is another plant
        context_of(folder, tmp_path / "a", plants=[{**SMALL, "canaries": 5}]).splits(0)


def test_the_split_of_the_data_is_the_same_with_canaries_and_without(folder: Path, tmp_path: Path) -> None:
    planted = context_of(folder, tmp_path, plants=[SMALL]).splits(0)
    plain = context_of(folder, tmp_path).splits(0)
    assert (ordinary(planted.members), ordinary(planted.nonmembers)) == (plain.members, plain.nonmembers)
    assert (planted.validation, planted.test) == (plain.validation, plain.test)


def test_canaries_and_other_plants_leave_each_other_alone(folder: Path, tmp_path: Path) -> None:
    copied = {"name": "duplicates", "copies": [2], "members": 4}
    for plants in ([SMALL, copied], [copied, SMALL]):
        slices = Counter(record.slice for record in context_of(folder, tmp_path, plants=plants).splits(0).members)
        tiers = {f"canary:{family} {tier}": 6 for family in SMALL["families"] for tier in CANARY_SLICES}  # type: ignore[attr-defined]
        assert slices == {"": 6, "copies=2": 4, **tiers}


@pytest.mark.parametrize(
    ("plant", "added"),
    [(Canaries(), 2 * 10 * 21), (Canaries(families=("format",), copies=(3,), canaries=7, controls=1), 21)]
    + [(CoinFlips(canaries=count), half) for count, half in ((1, 1), (2, 1), (101, 51), (1000, 500))],
)
def test_how_many_records_are_declared_follows_from_the_settings(plant: Canaries | CoinFlips, added: int) -> None:
    assert plant.added() == added
    if isinstance(plant, Canaries):
        made = plant.made(few_splits(), np.random.default_rng(0), Fake())
        assert sum(record.copies for record in made.members) == added
        assert len(made.nonmembers) == plant.controls * len(plant.families)


# --- errors for people ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plants": [{**SMALL, "families": ["random-tokens"]}]}, "unknown family of canaries 'random-tokens'. Did you"),
        ({"plants": [{**SMALL, "canaries": 0}]}, "canaries: Input should be greater than or equal to 1"),
        ({"plants": [{**SMALL, "copies": [4, 4]}]}, "one stands twice"),
        ({"plants": [{"name": "coin-flips", "canaries": 0}]}, "greater than or equal to 1"),
        ({"plants": [SMALL], "attacks": ["lira"]}, "lira reads shadow models.*leave out the plant canaries"),
        (
            {"plants": [SMALL], "objective": "classification", "attacks": ["loss"]},
            "canaries reads tokens, but objective: classification gives labels. Use objective: lm or completion",
        ),
    ],
)
def test_mistakes_in_a_study_are_explained(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises((StudyError, ValidationError), match=words):
        study_of(folder, **changes)


@pytest.mark.parametrize(
    ("plants", "words"),
    [
        ([{**SMALL, "tokens": 40}], "a random-token canary has 40 tokens, but training reads 32.*max_length: 40"),
        ([{**SMALL, "families": ["format"]}], "reads two format canaries as the same tokens"),
        ([SMALL, {**SMALL, "tokens": 5}], "two of them make canary:random-token canaries"),
    ],
)
def test_what_cannot_be_planted_is_explained(folder: Path, tmp_path: Path, plants: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        context_of(folder, tmp_path, plants=plants).splits(0)


def test_a_law_of_too_few_is_explained() -> None:
    def planted(splits: Splits, **settings: Any) -> Made:
        return Canaries.model_validate(settings).made(splits, np.random.default_rng(0), Fake())

    splits = few_splits()
    wordless = replace(splits, validation=(Record("v", "w1 ..."),), test=())
    with pytest.raises(StudyError, match=r"these have 1\. Use the family random-token"):
        planted(wordless, families=["random-word"])
    two = replace(wordless, validation=(Record("v", "w1 w2"),))
    with pytest.raises(StudyError, match=r"but only .* that differ could be drawn: ask for fewer"):
        planted(two, families=["random-word"], tokens=4)


def test_slices_are_told_by_how_they_begin() -> None:
    assert family_of(f"{CANARY}format copies=1") == family_of(f"{CANARY}format") == "canary:format"
    assert family_of(f"{COIN_FLIP}format") == "coin-flip:format"
    assert [family_of(slice_) for slice_ in ("", "copies=8", "mislabelled")] == ["", "", ""]


def test_looking_for_candidates_can_be_stopped(folder: Path, tmp_path: Path) -> None:
    context = context_of(folder, tmp_path)
    context.progress.stop_requested = True
    with pytest.raises(Interrupted):
        StoredTools(context, 0).losses(["w1 w2 w3", "w4 w5"])
