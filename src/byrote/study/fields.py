"""The kinds of values that a study's fields take, read from what a person writes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from byrote.registry import Component, make
from byrote.types import StudyError

Rate = Annotated[float, Field(gt=0, le=100)]
LearningRate = Literal["auto"] | Rate
Null = Literal["left-out", "rightly-labelled"]
"""A training that cannot have learned wrong labels: without these records, or with their true labels."""


Part = Literal["members", "rightly labelled", "relabelled", "test", "few members"]
"""What a run trains on: its members, those of them without a wrong label, all of them under their true labels, (a
private trial) the test records, or (the positive control) a few of the members."""


def _reads(room: str) -> BeforeValidator:
    """Reads a component of a room from its name, or from a mapping with its settings."""

    def read(value: Any) -> Any:
        if isinstance(value, Component):
            return value
        if not isinstance(value, str | dict):
            raise ValueError(
                f"each {room} is a name, or a mapping with 'name' and settings; got {value!r}".replace(
                    "None", "nothing"
                )
            )
        try:
            return make(room, value)
        except StudyError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


LENGTHS = "prefix_tokens"
"""The setting of which a study may give several values at once."""


def each_length(values: Any) -> Any:
    """Attacks as a study lists them, one that names several lengths of prefix once for each."""
    found: list[Any] = []
    for value in values if isinstance(values, list) else [values]:
        lengths = value.get(LENGTHS) if isinstance(value, dict) else None
        found += [value | {LENGTHS: length} for length in lengths] if isinstance(lengths, list) else [value]
    return found


def as_spec(component: Component) -> dict[str, Any]:
    """A component as a study spells it, with every setting: {"name": "lora", "r": 8, ...}."""
    return {"name": component.name, **component.model_dump(mode="json")}


WRITTEN = PlainSerializer(as_spec, return_type=dict)
MethodField = Annotated[Component, _reads("method"), WRITTEN]
PlantField = Annotated[Component, _reads("plant"), WRITTEN]
AttackField = Annotated[Component, _reads("attack"), WRITTEN]
UtilityField = Annotated[Component, _reads("utility"), WRITTEN]
TrackerField = Annotated[Component, _reads("tracker"), WRITTEN]
