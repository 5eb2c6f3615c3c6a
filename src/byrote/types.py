"""The nouns of byrote. numpy only, so that every room can speak them without loading torch.

Units: log-probabilities are in nats, rates and AUCs in [0, 1], times in seconds, sizes in bytes.
One sign everywhere: a higher score means "more likely trained on".
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ByroteError(Exception):
    """Something a person can mend: the message says what is wrong, where, and what to do."""


class StudyError(ByroteError):
    """The study file, the command line or the data it names cannot be used (exit code 2)."""


class Diverged(ByroteError):
    """Training at this learning rate leads nowhere: a fact of the run, which is kept like any other."""


class Unscorable(ByroteError):
    """One record cannot be scored by one attack; the message is the reason shown beside it."""


NO_TARGET = "no target token: the text is shorter than two tokens"


def nothing_follows(prefix_tokens: int) -> str:
    """Why a text cannot be gone on from after so many tokens."""
    return f"nothing of it follows its first {prefix_tokens} tokens (prefix_tokens)"


def normalise(text: str) -> str:
    """The form in which two texts count as the same: NFKC, case-folded, runs of white space folded."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(text: str) -> str:
    """A short content hash (32 hex digits) of the exact text; keys the statistics in the store."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


MISLABELLED = "mislabelled"
"""The slice of records that carry a wrong label on purpose."""


@dataclass(frozen=True, slots=True)
class Record:
    """One training example.

    `text` is always the whole text. Where the data has a prompt and a completion, `text` is
    `prompt + "\\n" + completion` and both parts are kept. `group` is shared by copies and
    near-copies; a record without one is its own group. `where` is "file:line" for messages.
    """

    id: str
    text: str
    prompt: str | None = None
    completion: str | None = None
    label: str | None = None
    group: str | None = None
    planted_by: str | None = None
    """The plant that changed or repeated it; None for records as the data has them."""
    slice: str = ""
    """Which of a plant's records it is: MISLABELLED, "copies=8", ...; empty where nothing was planted."""
    truth: str | None = None
    """The label that the data gave it, where a plant gave it another one."""
    copies: int = 1
    """How often it is trained on in each epoch; it is scored once."""
    where: str | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    """A chat as (role, content) pairs, the last one the assistant's; `text` is then its plain writing."""

    @property
    def score_id(self) -> str:
        """What its scores are kept under: judged by a wrong label, a record is another question."""
        return self.id if self.truth is None else f"{self.id} as {self.label}"

    @property
    def rightly_labelled(self) -> Record:
        """It as the data has it, where a plant gave it a wrong label."""
        return self if self.truth is None else replace(self, label=self.truth, truth=None, planted_by=None, slice="")

    @property
    def group_id(self) -> str:
        return self.id if self.group is None else self.group

    def scored(self, of: Literal["text", "completion"] = "text") -> str:
        """What is scored of it: the whole text, or its completion alone."""
        if of == "text":
            return self.text
        return self.messages[-1][1] if self.messages is not None else self.completion or self.text

    def rewritten(self, change: Callable[[str], str], of: Literal["text", "completion"] = "text") -> Record:
        """It with other words in what is scored of it: the whole text, or its completion alone."""
        if of == "completion" and self.messages is not None:
            *before, (role, content) = self.messages
            said = change(content)
            kept = self.text[: len(self.text) - len(content)] if self.text.endswith(content) else ""
            return replace(self, text=kept + said, messages=(*before, (role, said)))
        if of == "completion" and self.completion is not None:
            said = change(self.completion)
            return replace(self, text=self.text[: len(self.text) - len(self.completion)] + said, completion=said)
        return replace(self, text=change(self.text))


CONTEXT_END = "\n\n"
"""What closes each text of a context, so that the next one begins anew."""


@dataclass(frozen=True, slots=True)
class Query:
    """A text that a model is asked how likely it is, after other texts or after nothing.

    `record` keeps the id of the record that the question is about, whatever its text says.
    """

    record: Record
    context: tuple[Record, ...] = ()

    @property
    def key(self) -> str:
        """What its statistics are kept under: for a record's own text, what the record's are."""
        if not self.context:
            return text_key(self.record.text)
        return text_key("\x1f".join(record.text for record in (*self.context, self.record)))


SPLIT_NAMES = ("member", "nonmember", "validation", "test")


@dataclass(frozen=True, slots=True)
class Splits:
    """Members, nonmembers, validation and test records, drawn at random from one population.

    Raises StudyError where two parts share an id or a normalised text: such an overlap turns
    every membership number into nonsense, so it cannot be built at all.
    """

    members: tuple[Record, ...]
    nonmembers: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many records were left out, by reason: "bad row", "duplicate", "near-duplicate", ..."""

    def __post_init__(self) -> None:
        ids: dict[str, str] = {}
        texts: dict[str, str] = {}
        for name, records in self.parts():
            part_texts: set[str] = set()
            for record in records:
                if record.id in ids:
                    raise StudyError(f"record {record.id} is in both {ids[record.id]} and {name}; ids must be unique")
                ids[record.id] = name
                key = normalise(record.text)
                if key in texts:
                    raise StudyError(
                        f"record {record.id} of {name} repeats the text of a record of {texts[key]}: "
                        "members and nonmembers must not share text"
                    )
                part_texts.add(key)
            texts.update(dict.fromkeys(part_texts, name))

    def parts(self) -> Iterator[tuple[str, tuple[Record, ...]]]:
        yield from zip(SPLIT_NAMES, (self.members, self.nonmembers, self.validation, self.test), strict=True)

    def all(self) -> tuple[Record, ...]:
        return self.members + self.nonmembers + self.validation + self.test


@dataclass(frozen=True, slots=True, eq=False)
class TokenStats:
    """What one forward pass says about the T target tokens of one text. Arrays of shape (T,).

    A target token is one that has a token before it, so a text of one token has T = 0 unless
    the tokenizer adds a beginning-of-text token. `mean` and `std` are those of the log-probability
    over the vocabulary, weighted by the model's own distribution (Zhang 2025, 2404.02936);
    `rank` counts the vocabulary entries that are strictly more likely than the target. Of a
    labelled record the one target is its label, and the vocabulary its classes.
    """

    log_prob: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    rank: NDArray[np.int32]
    truncated_tokens: int = 0
    """Tokens of the text beyond max_length that were not scored."""
    classes: NDArray[np.float32] | None = None
    """(K,) log-probability of every class, where the one target is a label."""

    def __len__(self) -> int:
        return len(self.log_prob)

    def of_class(self, index: int) -> TokenStats:
        """The same prediction read for another label, by its place among the classes: no pass is needed for that."""
        if self.classes is None:
            raise ValueError("there are no class probabilities")
        log_prob = self.classes[index : index + 1]
        rank = np.array([(self.classes > log_prob).sum()], np.int32)
        return replace(self, log_prob=log_prob, rank=rank)

    @property
    def loss(self) -> float:
        """Mean negative log-probability per target token, in nats."""
        if not len(self):
            raise Unscorable(NO_TARGET)
        return -float(self.log_prob.mean(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is generated: the likeliest token each time (greedily), or one drawn from the model's distribution."""

    max_new_tokens: int = 128
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    """Draw among so many of the likeliest tokens; None: among all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together reach this probability."""
    seed: int = 0
    """Of the draws; each prompt has its own, whatever its neighbours."""

    def __str__(self) -> str:
        words = [f"at most {self.max_new_tokens} new tokens"]
        if not self.do_sample:
            return f"greedy decoding, {words[0]}"
        words += [f"top_k {self.top_k}"] if self.top_k is not None else []
        words += [f"top_p {self.top_p:g}"] if self.top_p < 1.0 else []
        return f"sampled at temperature {self.temperature:g}, {', '.join(words)}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a model is to go on from, and how."""

    record: Record
    decoding: Decoding
    prefix_tokens: int | None = None
    """How many of its tokens are given, one that marks the beginning of a text counted; None: the record's prompt."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model said after one prompt."""

    text: str
    """Without special tokens."""
    tokens: tuple[int, ...]
    """With the one that ended it, where `ended`."""
    ended: bool
    """Whether the model ended by itself; else it was cut off by the limit of new tokens, or of max_length."""
    reason: str = ""
    """Why nothing could be generated; empty where something was."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One attack's score per record, shape (N,). Where a score is NaN, `reasons` says why."""

    values: Floats
    reasons: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.reasons):
            raise ValueError(f"{len(self.values)} scores but {len(self.reasons)} reasons")
        for value, reason in zip(self.values, self.reasons, strict=True):
            if math.isfinite(value) == bool(reason):
                raise ValueError("a score is finite, or has a reason, and never both")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, sample size and null.

    `value` is None where it cannot be resolved from the sample, and then `reason` says why.
    `low` and `high` bound the 95% interval; `interval` names how it was made. `n` counts what
    the estimate rests on (records, or seeds for a pooled one). `null_value` is what the same
    number would be had nothing been learned by rote.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str = ""
    null_value: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "null_value"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} is {number}: what cannot be computed is absent, with a reason")
        if self.value is None and not self.reason:
            raise ValueError("an estimate without a value needs a reason")

    @classmethod
    def absent(cls, reason: str, n: int | None = None) -> Estimate:
        return cls(value=None, reason=reason, n=n)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The privacy account of one training run, as it stands after `steps` steps.

    The guarantee is (epsilon, delta) for one `unit` under `relation`, for everything that the
    training released. Every field but `steps`, `epsilon`, `profile` and `epochs` is a public
    constant that was fixed before the first step.
    """

    epsilon: float
    """Spent so far."""
    delta: float
    unit: str
    """"record" or "group"."""
    units: int
    """How many units the private records were declared to have."""
    expected_batch_size: int
    noise_multiplier: float
    clip_norm: float
    clipping: str
    steps: int
    """Steps done, those with an empty batch included."""
    planned_steps: int
    accountant: str
    """"prv", "rdp", or "gaussian" where every batch holds every unit; the one that `epsilon` is from."""
    accountant_version: str
    engine: str
    """Which per-example gradient engine ran."""
    target_epsilon: float | None = None
    records_per_group: int = 1
    relation: str = "add or remove one"
    sampling: str = "poisson"
    accountant_note: str = ""
    """Why another accountant answered than the one that was asked; empty where it did not."""
    epsilon_rdp: float | None = None
    """The same account by the looser RDP accountant, as a cross-check."""
    profile: tuple[tuple[float, float], ...] = ()
    """The same run at other points: pairs of (epsilon, delta), rising in epsilon."""
    epochs: tuple[tuple[int, int, float], ...] = ()
    """After each epoch: (epoch, steps done, epsilon spent)."""
    refused_engines: tuple[str, ...] = ()
    """Engines that were passed over, each with its reason."""
    trainings: int = 1
    """How often these records were trained on for this run. Whoever saw all results has seen so many runs."""
    private: bool = True
    """False where the noise came from a repeatable generator, as in tests: then nothing is guaranteed."""

    @property
    def sampling_rate(self) -> float:
        """The chance of each unit to be in a batch."""
        return self.expected_batch_size / self.units

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Ledger:
        """From the JSON of its own `dataclasses.asdict`."""
        lists = {"profile", "epochs"}
        rows = {name: tuple(tuple(row) for row in raw[name]) for name in lists if name in raw}
        return cls(**{**raw, **rows, "refused_engines": tuple(raw.get("refused_engines", ()))})
