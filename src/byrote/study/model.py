"""What a person writes (Study), what it expands to (Experiment), and the identities of both.

An Experiment holds everything that changes the weights and nothing else; its id is the hash of
exactly that. Attacks, utility measures, the store and the device are not in it, so asking a new
question of a trained model costs no training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from byrote.claims import Claim
from byrote.registry import Component, Settings, make
from byrote.study.claims import Asked, problem_with
from byrote.study.experiment import RECIPE, BaseExperiment, Experiment, Training, mislabelled
from byrote.study.fields import (
    AttackField,
    LearningRate,
    MethodField,
    Null,
    Part,
    PlantField,
    TrackerField,
    UtilityField,
    as_spec,
    each_length,
)
from byrote.study.privacy import Privacy, PrivacyLevel


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _trackers(value: Any) -> Any:
    return [] if value in ("none", None, ["none"]) else _as_list(value)


class Data(Settings):
    """Where the records come from, and how many of them take which part."""

    source: str = Field(min_length=1)
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    label: str | None = None
    group: str | None = None
    id: str | None = None
    attributes: Annotated[list[str], BeforeValidator(_as_list)] = []
    """Columns whose values stand in the texts, as secrets that a model may give away."""
    split: str = "train"
    revision: str | None = None
    members: int = Field(ge=2)
    nonmembers: int | None = Field(default=None, ge=2)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    min_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    near_duplicates: float = Field(default=0.8, gt=0, le=1)
    on_bad_rows: Literal["error", "skip"] = "error"

    @model_validator(mode="after")
    def _one_shape(self) -> Data:
        if self.text is not None and (self.prompt is not None or self.completion is not None):
            raise ValueError("give either text, or prompt and completion, not both")
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("prompt and completion go together: name both columns")
        if self.messages is not None and (self.text is not None or self.prompt is not None):
            raise ValueError("give messages, or text, or prompt and completion: one of them")
        if self.min_tokens and self.max_tokens and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self


# What of it matters to a method that trains nothing.
UNTRAINED = ("objective", "max_length", "dtype")

# What is asked where a study does not say: of tokens, and of labels.
ATTACKS = {
    # All from the two passes.
    "tokens": ("loss", "reference", "zlib", "min-k", "min-k++", "ez-mia", "wbc", "extraction-strength"),
    "labels": ("loss", "reference", "confidence-margin", "modified-entropy"),
}
TRAINING_OF: dict[Null, Part] = {"left-out": "rightly labelled", "rightly-labelled": "relabelled"}
"""What the nulls of wrong labels train on."""
POISONING = ("mislabelled-prediction", "mislabelled-loss")
"""Asked as well where a study plants wrong labels."""
UTILITY = {"tokens": ("perplexity",), "labels": ("accuracy", "macro-f1", "cross-entropy")}


CONTROL_MEMBERS, CONTROL_EPOCHS = 50, 20
"""How many members the positive control trains on, and how often."""

NOT_IN_A_RUN = {"learning_rate": None, "private_learning_rate": None, "private": True}
"""Fields of a method that the experiment holds itself, or that only say which experiments there are."""


def _shape(data: dict[str, Any]) -> str:
    """What the model predicts, by the objective among fields that are validated already."""
    return "labels" if data.get("objective") == "classification" else "tokens"


def _default_attacks(data: dict[str, Any]) -> list[Component]:
    names = ATTACKS[_shape(data)] + (POISONING if mislabelled(data.get("plants", [])) else ())
    return [make("attack", name) for name in names]


class Study(Training):
    """A whole study, as its YAML file spells it."""

    name: str = Field(min_length=1, max_length=100)
    question: str = "Which fine-tuning methods memorise their training records, and at what utility?"
    model: str = Field(min_length=1)
    """The untuned model, from which every method starts."""
    untuned: bool = True
    """False in an audit where the tuned model has no untuned one beside it."""
    revision: str | None = None
    trust_remote_code: bool = False
    data: Data
    methods: Annotated[list[MethodField], BeforeValidator(_as_list), Field(min_length=1)]
    plants: Annotated[list[PlantField], BeforeValidator(_as_list)] = []
    privacy: Annotated[list[PrivacyLevel], BeforeValidator(_as_list), Field(min_length=1)] = ["none"]
    attacks: Annotated[list[AttackField], BeforeValidator(each_length)] = Field(default_factory=_default_attacks)
    utility: Annotated[list[UtilityField], BeforeValidator(_as_list)] = Field(
        default_factory=lambda data: [make("utility", name) for name in UTILITY[_shape(data)]]
    )
    learning_rate: LearningRate = "auto"
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_as_list), Field(min_length=1)] = (
        Field(default_factory=lambda: [0])
    )
    nulls: Annotated[list[Null], BeforeValidator(_as_list)] = ["left-out", "rightly-labelled"]
    """What mislabelled records are judged against, besides the untuned model: a training without them, and one with
    their true labels. Each is as dear as the run itself."""
    equivalence_margin: float = Field(default=0.05, gt=0, lt=0.5)
    """How far from its null an AUC, a difference of AUCs or an excess share may lie and still count as none."""
    positive_control: bool = True
    """Whether a few members are over-fitted besides, to see that the attacks would see it."""
    claims: list[Claim] = []
    """What the report judges: supported, contradicted, or not resolved."""
    keep: Literal["adapters", "all", "none"] = "adapters"
    device: str = "auto"
    report_to: Annotated[list[TrackerField], BeforeValidator(_trackers)] = []
    """Trackers that the finished results are sent to besides: none, or some of mlflow, wandb, trackio, tensorboard.
    Nothing leaves the machine unless their own environment variables say so."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if "/" in name or "\\" in name or not name.isprintable():
            raise ValueError("a name may not have slashes, line ends or control characters: a folder is named after it")
        return name

    @field_validator("methods", "plants", "attacks", "utility", "privacy", "seeds", "nulls", "report_to")
    @classmethod
    def _nothing_twice(cls, values: list[Any]) -> list[Any]:
        seen = set()
        for value in values:
            key = json.dumps(as_spec(value), sort_keys=True) if isinstance(value, Component) else value
            if key in seen:
                name = value.named() if isinstance(value, Privacy) else getattr(value, "name", value)
                raise ValueError(f"{name} stands twice with the same settings")
            seen.add(key)
        return values

    @model_validator(mode="before")
    @classmethod
    def _objective_of_the_data(cls, values: Any) -> Any:
        """Data with named prompts and completions is trained on its completions unless the study says otherwise."""
        data = values.get("data") if isinstance(values, dict) else None
        if isinstance(data, dict) and "objective" not in values and (data.get("prompt") or data.get("messages")):
            return values | {"objective": "completion"}
        return values

    @field_validator("data")
    @classmethod
    def _has_completions(cls, data: Data, given: ValidationInfo) -> Data:
        if given.data.get("objective") == "completion" and data.text is not None:
            raise ValueError("objective: completion needs prompt and completion, or messages, and not text")
        return data

    @field_validator("plants", "attacks", "utility")
    @classmethod
    def _reads_what_there_is(cls, components: list[Component], given: ValidationInfo) -> list[Component]:
        reads, objective = _shape(given.data), given.data.get("objective")
        for component in components:
            own = getattr(type(component), "reads", "both")
            written = {"completions": objective == "completion", "generated text": reads == "tokens"}
            if own not in (reads, "both") and not written.get(own, False):
                usable = "Use one of: " + ", ".join(ATTACKS[reads] + UTILITY[reads])
                usable += "; or objective: completion" if own == "completions" else ""
                if given.field_name == "plants":
                    usable = (
                        f"Use objective: {'classification' if own == 'labels' else 'lm or completion'}, or leave it out"
                    )
                said = f"{component.name} reads {own}, but objective: {objective} gives {reads}"
                raise ValueError(f"{said}. {usable}")
        return components

    @field_validator("plants")
    @classmethod
    def _has_room(cls, plants: list[Component], given: ValidationInfo) -> list[Component]:
        flips = mislabelled(plants)
        if "data" in given.data and flips >= given.data["data"].members:
            raise ValueError(f"mislabel asks for {flips} wrong labels among {given.data['data'].members} members")
        return plants

    @field_validator("attacks")
    @classmethod
    def _has_wrong_labels(cls, attacks: list[Component], given: ValidationInfo) -> list[Component]:
        for attack in attacks:
            if getattr(type(attack), "kind", "") == "poisoning" and not mislabelled(given.data.get("plants", [])):
                raise ValueError(
                    f"{attack.name} is about records with a wrong label, and there are none: add a plant such as "
                    "plants: [{name: mislabel, members: 200}]"
                )
        return attacks

    @field_validator("attacks")
    @classmethod
    def _shadows_of_single_records(cls, attacks: list[Component], given: ValidationInfo) -> list[Component]:
        """A shadow trains on a copied member as often as the target does, and on a nonmember once: that alone would
        tell them apart."""
        adding = [plant.name for plant in given.data.get("plants", []) if plant.added()]
        for attack in attacks:
            if adding and attack.trainings:  # type: ignore[attr-defined]
                raise ValueError(
                    f"{attack.name} reads shadow models, whose null is not 0.5 where members are repeated and "
                    f"nonmembers are not: leave out the plant {adding[0]}, or ask for each in a study of its own"
                )
        return attacks

    @field_validator("privacy")
    @classmethod
    def _fits_the_data(cls, levels: list[PrivacyLevel], given: ValidationInfo) -> list[PrivacyLevel]:
        if {"data", "batch_size"} <= given.data.keys():  # what is wrong there has an error of its own
            for level in levels:
                if level != "none":
                    added = sum(plant.added() for plant in given.data.get("plants", []))
                    _check_privacy(level, given.data["data"], added, given.data["batch_size"])
        return levels

    @field_validator("claims")
    @classmethod
    def _claims_what_it_has(cls, claims: list[Claim], given: ValidationInfo) -> list[Claim]:
        if not given.data.keys() >= set(Asked._fields):
            return claims  # what is wrong there has an error of its own
        if found := problem_with(claims, [Asked(*(given.data[key] for key in Asked._fields))], ()):
            raise ValueError(found[1])
        return claims

    @model_validator(mode="after")
    def _starts_from_something(self) -> Study:
        if not self.untuned and (tuning := [method.name for method in self.methods if trains(method)]):
            raise ValueError(f"untuned: false is for audits; {tuning[0]} starts from an untuned model")
        return self

    @model_validator(mode="after")
    def _something_to_run(self) -> Study:
        if not any(True for _ in self.cells()):
            raise ValueError("every method has private: false, and there are private levels only: nothing would be run")
        return self

    def attacks_of(self, kind: str) -> list[Any]:
        """Those attacks that measure "membership", or "poisoning"."""
        return [attack for attack in self.attacks if getattr(type(attack), "kind", "") == kind]

    def control(self) -> Component | None:
        """The method that over-fits: full tuning, or the study's first method that moves weights of the model."""
        if (
            not self.positive_control
            or "none" not in self.privacy
            or not (self.attacks_of("membership") or self.attacks_of("extraction"))
        ):
            return None  # over-fitting members without noise would undo what private training alone promises
        able = [method for method in self.methods if trains(method) and method.family == "parameter"]  # type: ignore[attr-defined]
        return next((method for method in able if method.name == "full"), able[0] if able else make("method", "full"))

    def shadows_of(self, method: Component) -> int:
        """How many shadow models of a method its attacks need; none of one that trains nothing."""
        return max((attack.trainings for attack in self.attacks_of("membership")), default=0) if trains(method) else 0

    @property
    def trained_members(self) -> int:
        """How many records a run trains on, planted copies counted."""
        return self.data.members + sum(plant.added() for plant in self.plants)  # type: ignore[attr-defined]

    def cells(self) -> Iterator[tuple[Component, PrivacyLevel, int]]:
        """Every (method, privacy, seed) of the study, seeds outermost, in the order written."""
        for seed in self.seeds:
            for privacy in self.privacy:
                for method in self.methods:
                    if privacy in self.levels(method):
                        yield method, privacy, seed

    def levels(self, method: Component) -> list[PrivacyLevel]:
        """The privacy levels that a method is trained at."""
        return [level for level in self.privacy if level == "none" or method.private]  # type: ignore[attr-defined]

    def rates(self, method: Component, privacy: PrivacyLevel = "none") -> tuple[float, ...]:
        """The learning rates to try for a method: the given one, or its grid where `auto` stands; 0 trains nothing."""
        if not trains(method):
            return (0.0,)
        own = None if privacy == "none" else method.private_learning_rate  # type: ignore[attr-defined]
        given = own or method.learning_rate or self.learning_rate  # type: ignore[attr-defined]
        return tuple(type(method).learning_rates) if given == "auto" else (float(given),)  # type: ignore[attr-defined]

    def experiment(
        self,
        method: Component,
        privacy: PrivacyLevel,
        seed: int,
        learning_rate: float,
        *,
        model: str,
        data: str,
        trains_on: Part = "members",
        shadow: int | None = None,
    ) -> Experiment:
        """The experiment of one cell; `model` and `data` are the fingerprints of what was loaded."""
        settings = {name: getattr(self, name) for name in Training.model_fields}
        if trains_on == "few members":
            settings |= {"epochs": CONTROL_EPOCHS, "early_stop": None, "max_steps": None}
        if not trains(method):
            settings = {name: settings[name] for name in UNTRAINED} | {"epochs": 1}
        return Experiment(
            **settings,
            recipe=RECIPE,
            model=model,
            source=data,
            data=_identity_of_data(self.data),
            plants=self.plants,
            method=as_spec(method.model_copy(update=NOT_IN_A_RUN)),
            privacy=privacy,
            learning_rate=learning_rate,
            seed=seed,
            trains_on=trains_on,
            shadow=shadow,
        )

    def base(self, *, model: str, data: str) -> BaseExperiment:
        """The untuned base model over this data, shared by all methods and seeds."""
        return BaseExperiment(
            recipe=RECIPE,
            model=model,
            source=data,
            objective=self.objective,
            max_length=self.max_length,
            dtype=self.dtype,
        )


def trains(method: Component) -> bool:
    """Whether a method changes any number; one that does not has no learning rates."""
    return bool(type(method).learning_rates)  # type: ignore[attr-defined]


def _check_privacy(level: Privacy, data: Data, added: int, batch_size: int) -> None:
    """Raises ValueError where a privacy level cannot be had on this data with so many planted copies."""
    units, size = level.units(data.members + added), level.batch_of(batch_size)
    what = "members" if level.groups is None else "groups"
    if size > units:
        raise ValueError(
            f"expected_batch_size {size} is more than the {units} {what}: the sampling rate would be above 1"
        )
    if level.unit == "group" and data.group is None:
        raise ValueError("unit: group needs data.group, the column that says whose record it is")


def _identity_of_data(data: Data) -> dict[str, Any]:
    """The fields that decide which records land where; where they lie is in the fingerprint instead."""
    return data.model_dump(exclude={"source", "revision", "split", "attributes"})
