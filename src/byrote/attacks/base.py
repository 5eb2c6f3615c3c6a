"""What an attack is: a pure function from the evidence on one record to one score.

An attack says what it `needs`, and which further texts it wants scored (`queries`). The runner collects the queries of
all attacks, asks each distinct one once, and hands each attack the answers; no attack touches a model.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from byrote.registry import Component
from byrote.types import Decoding, Floats, Generation, Opening, Query, Record, Scores, TokenStats, Unscorable

Need = Literal[
    "base", "tokens", "attributes", "population", "neighbours", "queries", "continuations", "chances", "gradients",
    "shadows", "peers",
]  # fmt: skip
"""What an attack reads beside the tuned model's own statistics of the record:

- base: the untuned base model's statistics of the same texts
- tokens: which tokens the record has
- attributes: parts of the record that are a secret, and what they are in other records
- population: the evidence on other records, which were not trained on and are never scored
- neighbours: texts that differ from the record in a few words, made by the base model
- queries: the model's statistics of further texts
- continuations: what the model writes when it is given the beginning of the record
- chances: how likely each token of the record is to be drawn, in one way of drawing text
- gradients: the size of the loss's gradient in the weights
- shadows: statistics by models trained as the target was, on other halves of the same records
- peers: the evidence on all records in question, whose membership is not told: what shadows make of such records
"""
COSTLY: frozenset[Need] = frozenset({"queries", "continuations", "chances", "gradients", "shadows"})
"""What is made for the last epoch alone: it takes passes, or trainings, of its own."""


Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts as vectors (N, d) of length one, whose dot products are cosines."""


Judge = Callable[[Sequence[tuple[str, str]]], Floats]
"""Pairs of sentences as probabilities (P,) that one says the same as the other."""


def no_judge(name: str) -> Judge:
    """Where no classifier of pairs can be had. Raises Unscorable."""
    raise Unscorable(f"no classifier of sentence pairs {name} is at hand")


def no_encoder(name: str) -> Embed:
    """Where no sentence encoder can be had. Raises Unscorable."""
    raise Unscorable(f"no sentence encoder {name} is at hand")


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What an attacker has beside the record in question."""

    outsiders: tuple[Record, ...] = ()
    """Records of the same population that were not trained on and are never scored: validation and test."""
    insiders: tuple[Record, ...] = ()
    """The members. An attack may take some of them as known, and may then not score those."""
    of: Literal["text", "completion"] = "text"
    """What of a record is scored."""
    neighbours: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By record id: what is scored of it with a few words replaced by others that the base model finds likely."""
    values: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """By family of canaries (empty: the data's own records) and attribute: what it is in all records that have it."""
    no_neighbours: str = ""
    """Why there are none, where none can be made."""
    encoder: Callable[[str], Embed] = no_encoder
    """A sentence encoder by its name, one of the attack's `encoders`. Raises Unscorable where it cannot be had."""
    judge: Callable[[str], Judge] = no_judge
    """A classifier of sentence pairs by its name, one of the attack's `judges`. Raises Unscorable."""
    drawn: dict[tuple[str, int, int], tuple[Record, ...]] = field(default_factory=dict)
    """What attacks drew of these records, kept as long as the background itself: who, how many and by which seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """What a shadow model says of one record."""

    is_in: bool
    """Whether the shadow was trained on the record."""
    stats: TokenStats


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of one record: its text, and how the tuned and the untuned base model predict its tokens."""

    record: Record
    target: TokenStats
    base: TokenStats | None = None
    of: Literal["text", "completion"] = "text"
    """What of the record the statistics cover: under `objective: completion` its completion alone."""
    tokens: NDArray[np.int32] | None = None
    """(T,) the target tokens."""
    background: Background = Background()
    answers: Mapping[str, TokenStats] = field(default_factory=dict)
    """The tuned model's statistics of the attack's queries, by their keys."""
    base_answers: Mapping[str, TokenStats] = field(default_factory=dict)
    """The untuned base model's."""
    shadows: tuple[Shadow, ...] = ()
    continuations: tuple[Generation, ...] = ()
    """What the model wrote to each of the attack's openings, in their order."""
    given: tuple[str, ...] = ()
    """The text that it went on from each time."""
    follows: tuple[str, ...] = ()
    """What truly follows that in the record, as many tokens as the model may write."""
    as_long: tuple[str, ...] = ()
    """What the model wrote, no further than as many tokens as truly follow: nothing says where a text ends that was
    trained on whole, so a model that knows it by heart goes on."""
    rests: tuple[str, ...] = ()
    """All that truly follows it."""
    sources: int | None = None
    """Of so many records the smaller side consists, members or nonmembers, where an extraction measure is asked."""
    chances: Floats | None = None
    """(T,) log-probability, in nats, of drawing each target token after those before it (see `Attack.drawing`)."""
    gradient_norm: float | None = None
    failure: str = ""
    """Why the model could not be asked what the attack needs of this record."""

    @property
    def text(self) -> str:
        """The text that the statistics cover."""
        return self.record.scored(self.of)

    def untuned(self) -> TokenStats:
        """The untuned base model's statistics of the same tokens. Raises Unscorable."""
        if self.base is None:
            raise Unscorable("the base model did not score this text")
        if len(self.base) != len(self.target):
            raise Unscorable(f"{len(self.target)} tokens here but {len(self.base)} for the base model")
        return self.base

    def answer(self, query: Query, *, by: Literal["target", "base"] = "target") -> TokenStats:
        """What the model says of a query. Raises Unscorable where it could not be asked."""
        stats = (self.answers if by == "target" else self.base_answers).get(query.key)
        if stats is None:
            raise Unscorable("the model was not asked what this attack needs")
        if not len(stats) and query.context and len(self.target):
            raise Unscorable("the texts before it and the text itself do not fit the model's positions: show it fewer")
        return stats


NOT_FINITE = "the model gives a log-probability that is not finite"
LEAST_LOSS = 1e-6
"""Nats per token: a ratio of losses is taken of no less, so that a text which is known by heart has one too."""


def of_losses(above: float, below: float) -> float:
    """The ratio of two mean losses, each of at least LEAST_LOSS."""
    return max(above, LEAST_LOSS) / max(below, LEAST_LOSS)


def label_and_others(stats: TokenStats) -> tuple[float, Floats]:
    """The log-probability of the record's own label, and (K - 1,) those of the other classes. Raises Unscorable."""
    if stats.classes is None:
        raise Unscorable("there are no class probabilities")
    logs, right = stats.classes.astype(np.float64), float(stats.log_prob[0])
    return right, np.delete(logs, int(np.argmin(np.abs(logs - right))))


class Attack(Component):
    """Abstract: what every attack says of itself, however it comes to its scores."""

    kind: ClassVar[str] = "membership"
    access: ClassVar[str]
    """What the attacker needs, in words: "log-probs", "log-probs and base model", "text", ..."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "tokens"
    """What the evidence must be of: a text's tokens, a record's label and its classes' probabilities, or either."""

    @property
    def compares_with_base(self) -> bool:
        """Whether it reads the untuned base model's statistics beside the tuned model's."""
        return "base" in self.needs

    @property
    def at_the_end(self) -> bool:
        """Whether it is made at the last epoch alone."""
        return bool(self.needs & COSTLY)

    @property
    def trainings(self) -> int:
        """How many shadow models it reads."""
        return 0

    def weaker(self) -> Sequence[Attack]:
        """The same attack with less, whose strength is shown beside its own; made from the same evidence."""
        return ()

    @property
    def null_is_stated(self) -> bool:
        """True where the null is 0.5 by construction, so that the untuned base model is not attacked to measure it."""
        return self.compares_with_base  # the base model ties with itself

    def parts(self) -> Sequence[Attack]:
        """The attacks that it is made of."""
        return ()

    @property
    def neighbours_read(self) -> int:
        """How many neighbours of a record it reads."""
        return 0

    of_sets: ClassVar[bool] = False
    """Whether it is asked about the whole set too: then the report gives a p-value beside the rest."""
    learns: ClassVar[bool] = False
    """Whether it is fitted to the split. Its null is stated only where that was drawn at random: where it is told,
    whatever else differs between the sides is learned too, and the untuned base model is attacked to measure that."""
    blind: ClassVar[bool] = False
    """Whether it is a control that reads the records and no model: then it is run once, for every study."""
    least_tokens: ClassVar[int] = 1
    """Target tokens without which there is nothing to compare; texts of fewer get a reason."""

    @classmethod
    def paper(cls) -> str:
        """The sources that the docstring ends with: author, year, arXiv id or venue."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[-1].split()).rstrip(".")

    @property
    def cost(self) -> str:
        """What it takes for each record, in words; the first pass is shared by all attacks."""
        return "1 pass, and 1 of the base model" if self.compares_with_base else "1 pass"

    def queries(self, record: Record, background: Background) -> Sequence[Query]:
        """The further texts that it wants scored for a record; the same ones whenever it is asked."""
        return ()

    def openings(self, record: Record, background: Background) -> Sequence[Opening]:
        """What it wants the model to go on from, and how."""
        return ()

    @property
    def encoders(self) -> Sequence[str]:
        """The sentence encoders that it reads texts with: built-in models, folders or Hub ids."""
        return ()

    @property
    def judges(self) -> Sequence[str]:
        """The classifiers of sentence pairs that it asks: folders or Hub ids."""
        return ()

    @property
    def drawing(self) -> Decoding | None:
        """The way of drawing text of which it reads the chances."""
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What an attack wants of the model for one record; nothing, and the reason, where it fails to say."""

    queries: Sequence[Query] = ()
    openings: Sequence[Opening] = ()
    failure: str = ""


def asked_by(attack: Attack, record: Record, background: Background) -> Asked:
    """Its queries and openings. One faulty attack must not cost the others their results."""
    try:
        return Asked(tuple(attack.queries(record, background)), tuple(attack.openings(record, background)))
    except Exception as error:
        return Asked(failure=reason_of(error))


class MembershipAttack(Attack):
    """Abstract: was this record trained on? A subclass is final, frozen, and registered with `@register`.

    To add one, write one file in this folder's `membership/`: the fields are its settings, the
    docstring gives formula and paper, `score` gives one float, higher for "more likely trained on".
    """

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """The score of one record, from its evidence alone; raises Unscorable with a reason."""


class CalibratedAttack(Attack):
    """Abstract: was this record trained on, beside others that were not? Subclasses as of MembershipAttack."""

    @abstractmethod
    def calibrate(self, population: Sequence[Evidence]) -> Callable[[Evidence], float]:
        """What scores a record, once the evidence on the population is known. Raises Unscorable with a reason."""


class PoisoningMeasure(Attack):
    """Abstract: what a model makes of the wrong label that a record was given on purpose.

    Measured on the mislabelled members, on the mislabelled nonmembers as their control, and on the same records with
    models that cannot have learned the wrong labels: the nulls.
    """

    kind: ClassVar[str] = "poisoning"
    metric: ClassVar[str]
    """The column `metric` of its mean."""
    is_share: ClassVar[bool]
    """Whether the scores are 0 and 1."""
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """The score of one mislabelled record, higher for "learned the wrong label"; raises Unscorable."""


def score_all(
    attack: MembershipAttack | PoisoningMeasure | CalibratedAttack,
    evidence: Sequence[Evidence],
    population: Sequence[Evidence] = (),
) -> Scores:
    """One score per record, shape (N,): finite, or NaN with the reason."""
    values, reasons = np.full(len(evidence), np.nan), [""] * len(evidence)
    try:
        score = attack.calibrate(population) if isinstance(attack, CalibratedAttack) else attack.score
    except Exception as error:
        return Scores(values, (reason_of(error),) * len(evidence))
    for index, one in enumerate(evidence):
        if one.failure:
            reasons[index] = one.failure
            continue
        try:
            need_numbers(one)
            # inf - inf gives NaN, which is reported below; numpy's warning would name no record.
            with np.errstate(invalid="ignore", over="ignore"):
                value = float(score(one))
        except Exception as error:  # one faulty attack must not cost the others their results
            reasons[index] = reason_of(error)
            continue
        if math.isfinite(value):
            values[index] = value
        else:
            reasons[index] = f"the score is {value}: {NOT_FINITE}"
    return Scores(values, tuple(reasons))


def need_numbers(evidence: Evidence) -> None:
    """Raises Unscorable where a model gives no number at all: sorted or compared, a NaN would pass unseen."""
    said = (evidence.target, evidence.base, *evidence.answers.values(), *evidence.base_answers.values())
    if any(stats is not None and np.isnan(stats.log_prob).any() for stats in said):
        raise Unscorable(f"a log-probability is not a number: {NOT_FINITE}")


def reason_of(error: Exception) -> str:
    """Why a record has no score, from what was raised."""
    if isinstance(error, Unscorable):
        return str(error) or "cannot be scored"
    return f"the attack failed: {type(error).__name__}: {' '.join(str(error).split())}"
