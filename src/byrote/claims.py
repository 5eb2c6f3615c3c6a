"""What a study claims, as data: which number is compared with which, over which runs, and in which direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from byrote.registry import Settings

KINDS = ("membership", "extraction", "poisoning", "utility", "cost", "privacy")
OWN_KEYS = ("method", "family", "privacy", "epoch", "slice")
"""What a selector may name besides fields of methods and what the study varies."""
UNTUNED = "untuned"
Selector = dict[str, Any]


class Measure(NamedTuple):
    """What is compared: `membership.loss.auc` is the metric "auc" of the attack "loss"."""

    kind: str
    name: str
    metric: str


class Claim(Settings):
    """One statement about the study's results that they support, contradict, or do not resolve.

    `of` and `than` select runs: `{family: parameter}`, `{method: lora, r: 8}`, `{privacy: none}`, `{epoch: 1}`,
    `{slice: copies=16}`, or a value of what the study varies, `{model: builtin:tiny}`. A list of values means each of
    them. Every run of `of` is compared with every run of `than` that is alike in all by which the two do not differ;
    the claim is that each of these comparisons goes the stated way. `rising` states an order instead: each one is
    higher than the one before.
    """

    id: str = Field(min_length=1, max_length=40)
    says: str = Field(min_length=1)
    measure: str
    """KIND.NAME.METRIC, as in the columns of the results: membership.loss.auc, extraction.plagiarism.verbatim."""
    settings: dict[str, Any] = {}
    """Of the attack or measure, where the study has it more than once: {verbatim_minlen: 256}."""
    of: Selector = {}
    direction: Literal["higher", "lower", "equal", "not higher", "not lower"] = "higher"
    than: Selector | float | Literal["untuned"] | None = None
    """Runs, a number, or the untuned model on the same records."""
    rising: list[Selector] = []
    where: Selector = {}
    """What holds for both sides."""
    at: Literal["last", "best", "matched"] = "last"
    """Which epochs are compared: the last ones, those of the lowest validation loss, or those at which both have the
    same validation loss."""
    margin: float | None = Field(default=None, gt=0)
    """How far apart two numbers may lie and still count as equal, or as not higher; of perplexities and costs the
    logarithm of their ratio. The study's equivalence_margin unless given."""
    published: str = ""
    """What the paper found, for readers."""

    @field_validator("measure")
    @classmethod
    def _has_three_parts(cls, value: str) -> str:
        parts = value.split(".", 2)
        if len(parts) < 3 or parts[0] not in KINDS or not all(parts):
            raise ValueError(
                f"a measure is KIND.NAME.METRIC, such as membership.loss.auc, with the kind one of "
                f"{', '.join(KINDS)}; got {value!r}"
            )
        return value

    @field_validator("of", "than", "where", "rising")
    @classmethod
    def _selects_something(cls, value: Any) -> Any:
        for selector in value if isinstance(value, list) else [value]:
            for key, wanted in selector.items() if isinstance(selector, dict) else ():
                if wanted is None or wanted == []:
                    raise ValueError(f"{key} has no value: leave the key out for all runs")
                if key == "epoch" and not all(map(_is_epoch, values_of(wanted))):
                    raise ValueError(f"epoch is a whole number from 1, last or best; got {wanted!r}")
                if key == "slice" and not all(isinstance(one, str) for one in values_of(wanted)):
                    raise ValueError(f"slice is the name of a slice, such as copies=8; got {wanted!r}")
        return value

    @model_validator(mode="after")
    def _chooses_epochs_once(self) -> Self:
        if self.at == "matched" and not self.rising and not isinstance(self.than, dict):
            raise ValueError("at: matched needs runs on both sides, of which each has a validation loss")
        if self.at == "matched" and any("epoch" in selector for _, selector in self.selectors()):
            raise ValueError("at: matched chooses the epochs of both sides: name no epoch beside it")
        return self

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if self.rising and (self.of or self.than is not None or len(self.rising) < 2):
            raise ValueError("rising lists two selectors or more, and stands in place of of and than")
        if not self.rising and self.than is None:
            raise ValueError(
                "say what it is compared with: than: {method: lora}, than: untuned, than: 0.5, or rising: [...]"
            )
        if self.rising and self.direction != "higher":
            raise ValueError("rising has a direction of its own: turn the order round instead")
        if self.margin is not None and self.direction in ("higher", "lower"):
            raise ValueError("margin belongs to direction: equal, not higher or not lower")
        return self

    @property
    def measured(self) -> Measure:
        """The measure in its three parts."""
        kind, name, metric = self.measure.split(".", 2)
        return Measure(kind, name, metric)

    def pairs(self) -> Iterator[tuple[Selector, Selector | float | str]]:
        """What is compared with what, with `where` laid under each selector."""
        given: Sequence[tuple[Selector, Selector | float | str | None]]
        given = [(after, before) for before, after in zip(self.rising, self.rising[1:], strict=False)]
        for one, other in given or [(self.of, self.than)]:
            assert other is not None
            yield {**self.where, **one}, {**self.where, **other} if isinstance(other, dict) else other

    def selectors(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every selector as it is written, with its key."""
        yield "of", self.of
        yield "where", self.where
        if isinstance(self.than, dict):
            yield "than", self.than
        for selector in self.rising:
            yield "rising", selector


def values_of(wanted: Any) -> list[Any]:
    """The values that a selector's key allows."""
    return list(wanted) if isinstance(wanted, list) else [wanted]


def _is_epoch(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("last", "best")
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_value(wanted: Any, value: Any, word: str) -> bool:
    """Whether a selector's value is one of what the study varies: as it is spelt there, by its label, of a mapping by
    some of its keys, or by its source alone."""
    if isinstance(value, Mapping):
        if isinstance(wanted, Mapping):
            return all(key in value and value[key] == part for key, part in wanted.items())
        return wanted in (word, value.get("source"), str(value.get("source", "")).removeprefix("builtin:"))
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    return bool(wanted == value) or wanted == word
