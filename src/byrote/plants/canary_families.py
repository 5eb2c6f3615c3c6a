"""The laws that canaries are drawn from, one function for each family.

A family gives as many canaries as it is asked for; which of them are trained on is drawn afterwards, so that these and
the others are of one law. No two open alike, so that a model can tell which secret an opening asks for.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from byrote.plants.base import Tools
from byrote.types import Record, StudyError, normalise

CANDIDATES = 4
"""Texts of random words for each high-perplexity canary."""
TRIES = 100
"""Draws for each canary, before a law is taken to have no more."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a canary, and the secrets in it, as of `Record.attributes`."""

    text: str
    attributes: tuple[tuple[str, str], ...]

    @property
    def opening(self) -> str:
        """The text before its last secret."""
        return self.text[: self.text.index(self.attributes[-1][1])]

    @property
    def is_sound(self) -> bool:
        """Whether each secret stands in the text once, after some other text."""
        return all(
            self.text.count(value) == 1 and self.text.partition(value)[0].strip() for _, value in self.attributes
        )


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """What families draw with."""

    generator: np.random.Generator
    tools: Tools
    tokens: int
    digits: int
    outsiders: Sequence[Record]
    """Records that nothing trains on: what is made of the words of others would tell of them."""


Family = Callable[[Law, int], list[Draft]]


def random_token(law: Law, count: int) -> list[Draft]:
    """Tokens of the model's vocabulary; the secret is the second half."""

    def draw() -> Draft:
        pieces = law.tools.pieces(law.tokens, law.generator)
        return Draft("".join(pieces), (("secret", "".join(pieces[law.tokens // 2 :]).strip()),))

    return _distinct(draw, count, "random-token")


def random_word(law: Law, count: int) -> list[Draft]:
    """Words of the data, each as likely as any other; the secret is the second half."""
    words = _words(law.outsiders)
    if len(words) < 2:
        raise StudyError(
            "plants: canaries of random words are made of the words of the validation and test records, and these have "
            f"{len(words)}. Use the family random-token"
        )

    def draw() -> Draft:
        drawn = [words[at] for at in law.generator.integers(len(words), size=law.tokens).tolist()]
        return Draft(" ".join(drawn), (("secret", " ".join(drawn[law.tokens // 2 :])),))

    return _distinct(draw, count, "random-word")


def high_perplexity(law: Law, count: int) -> list[Draft]:
    """Of four times as many texts of random words, those that the untuned base model finds least likely."""
    candidates = random_word(law, CANDIDATES * count)
    losses = np.array(law.tools.losses([one.text for one in candidates]))
    if not np.isfinite(losses).all():
        raise StudyError("plants: the untuned model's loss on a high-perplexity canary is not a number")
    return [candidates[at] for at in np.argsort(-losses, kind="stable")[:count].tolist()]


def format_(law: Law, count: int) -> list[Draft]:
    """The secret number of an account: as in Carlini et al. 2019, with an opening of its own for each."""

    def draw() -> Draft:
        account, *digits = law.generator.integers([10_000, *[0] * law.digits], [100_000, *[10] * law.digits]).tolist()
        secret = " ".join(map(str, digits))
        return Draft(f"The secret number of account {account} is {secret}", (("secret", secret),))

    return _distinct(draw, count, "format")


def personal_data(law: Law, count: int) -> list[Draft]:
    """A name, an e-mail address, a telephone number and a card number, none of them anybody's.

    Addresses are at example.com, .org or .net, telephone numbers end in 555-0100 to 555-0199, which are kept for
    fiction, and the check digit of a card is wrong.
    """
    from faker import Faker

    faker = Faker("en_US")
    faker.seed_instance(int(law.generator.integers(2**32)))

    def draw() -> Draft:
        card = faker.credit_card_number("visa16")
        card = f"{card[:-1]}{(int(card[-1]) + 1) % 10}"
        attributes = (
            ("name", faker.unique.name()),
            ("e-mail", faker.ascii_safe_email()),
            ("phone", faker.numerify("(%##) 555-01##")),
            ("card", " ".join(card[at : at + 4] for at in range(0, 16, 4))),
        )
        said = ", ".join(f"{name} {value}" for name, value in attributes)
        return Draft(f"Customer {said}", attributes)

    return _distinct(draw, count, "personal-data")


FAMILIES: dict[str, Family] = {
    "random-token": random_token,
    "random-word": random_word,
    "high-perplexity": high_perplexity,
    "format": format_,
    "personal-data": personal_data,
}


def _distinct(draw: Callable[[], Draft], count: int, family: str) -> list[Draft]:
    """So many sound drafts that all open differently. Raises StudyError where the law has too few."""
    found: dict[str, Draft] = {}
    for _ in range(TRIES * count):
        draft = draw()
        if draft.is_sound:
            found.setdefault(normalise(draft.opening), draft)
        if len(found) == count:
            return list(found.values())
    raise StudyError(
        f"plants: {count} {family} canaries are wanted, but only {len(found)} that differ could be drawn: ask for "
        "fewer canaries and controls, or for longer ones"
    )


def _words(records: Sequence[Record]) -> list[str]:
    """The words of these records without the punctuation about them, each once."""
    found = {word.strip(string.punctuation) for record in records for word in record.text.split()}
    return sorted(word for word in found if word.isalnum())
