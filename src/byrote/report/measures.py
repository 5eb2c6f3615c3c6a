"""The attacks and utility measures of a study, with what the report must know of each: settings, access, null, unit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from byrote.registry import Component, make
from byrote.store import Manifest, canonical_json
from byrote.types import Floats, StudyError

HEADLINE = "reference"
LONGEST = 40  # characters of one setting in a label
PATH = re.compile(r"(~|\.{1,2}|[A-Za-z]:)?[/\\]|[^\s<>]*[/\\][^\s<>]*$")
"""What begins as a path does, or has its separators and no gaps."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One membership attack as the study asked for it."""

    name: str
    settings: str
    access: str = ""
    null_is_stated: bool = False
    """Whether its null is 0.5 by construction, and so not measured on the untuned base model."""
    summary: str = ""
    at_the_end: bool = False
    """Whether it is made at the last epoch alone."""
    of_sets: bool = False
    """Whether it is asked about all members together, for a p-value."""
    learns: bool = False
    """Whether it is fitted to the split, so that its null is stated only where that was drawn at random."""
    shadows: int = 0
    """How many shadow models it reads."""
    weaker: tuple[Attack, ...] = ()
    """The same attack with fewer of them."""

    @property
    def label(self) -> str:
        return label(self.name, self.settings)


@dataclass(frozen=True, slots=True)
class Poisoning:
    """One measure of mislabelled records as the study asked for it."""

    name: str
    settings: str
    metric: str
    is_share: bool
    access: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Extraction:
    """One measure of what comes out of a model as the study asked for it."""

    name: str
    settings: str
    access: str
    metrics: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Its numbers, and of each whether it is a "share" of records or a "mean"."""
    at_the_end: bool = False
    summary: str = ""
    conditions: str = ""
    """On what the numbers turn besides the model and the records."""
    records: int | None = None
    """Of how many the numbers of all records are: the first of each side; None: all."""

    @property
    def label(self) -> str:
        return label(self.name, self.settings)


@dataclass(frozen=True, slots=True)
class Utility:
    """One utility measure as the study asked for it; `form` says how its number comes from the records' sums."""

    name: str
    settings: str
    metric: str
    higher_is_better: bool | None = False
    """None where the nearest to the number of the records' own text is best."""
    form: Literal["mean", "exp", "rate", "sums"] = "mean"
    bounds: tuple[float, float] | None = None
    unit: str = ""
    summary: str = ""
    conditions: str = ""
    last_epoch_only: bool = False
    value: Callable[[Floats], Floats] | None = field(default=None, compare=False)
    """The number of sums of statistics; None where no installed package knows the measure."""
    reference: Callable[[Floats], Floats] | None = field(default=None, compare=False)
    """The same number of the records' own text; None where there is no such thing."""

    @property
    def label(self) -> str:
        return label(self.metric, self.settings)

    @property
    def best(self) -> str:
        """Which of its numbers are better, in words."""
        if self.higher_is_better is None:
            return "the nearest to the records' own is best"
        return f"{'higher' if self.higher_is_better else 'lower'} is better"

    @property
    def of_the_records(self) -> str:
        """The metric of the records' own text."""
        return f"{self.metric}-of-the-records"


def attacks_of(manifest: Manifest) -> list[Attack]:
    """The membership attacks in the study's order, without those that read no model."""
    found = _attacks([spec for spec in manifest.attacks if not _blind(spec)])
    if any(cell.method == "tuned" for cell in manifest.cells):  # byrote did not draw the split
        return [replace(attack, null_is_stated=attack.null_is_stated and not attack.learns) for attack in found]
    return found


def controls_of(manifest: Manifest) -> list[Attack]:
    """The attacks that read no model."""
    specs = [spec for spec in manifest.attacks if _blind(spec)]
    return _attacks(specs + [spec for spec in manifest.controls if spec not in specs])


def _blind(spec: Mapping[str, Any]) -> bool:
    return bool(getattr(_component("attack", spec), "blind", False))


def _attacks(specs: Sequence[Mapping[str, Any]]) -> list[Attack]:
    found = []
    for spec in specs:
        component = _component("attack", spec)
        if component is None:
            found.append(Attack(str(spec.get("name", "")), _plain(spec)))
        elif getattr(component, "kind", "membership") == "membership":
            found.append(_attack(component))
    return found


def _attack(component: Component) -> Attack:
    return Attack(
        name=component.name,
        settings=component.settings(),
        access=str(getattr(component, "access", "")),
        null_is_stated=bool(getattr(component, "null_is_stated", False)),
        summary=component.summary(),
        at_the_end=bool(getattr(component, "at_the_end", False)),
        of_sets=bool(getattr(component, "of_sets", False)),
        learns=bool(getattr(component, "learns", False)),
        shadows=int(getattr(component, "trainings", 0)),
        weaker=tuple(replace(_attack(one), weaker=()) for one in getattr(component, "weaker", tuple)()),
    )


def poisonings_of(manifest: Manifest) -> list[Poisoning]:
    """The measures of mislabelled records in the study's order."""
    found = [_component("attack", spec) for spec in manifest.attacks]
    return [
        Poisoning(
            name=component.name,
            settings=component.settings(),
            metric=str(getattr(component, "metric", component.name)),
            is_share=bool(getattr(component, "is_share", False)),
            access=str(getattr(component, "access", "")),
            summary=component.summary(),
        )
        for component in found
        if component is not None and getattr(component, "kind", "") == "poisoning"
    ]


def extractions_of(manifest: Manifest) -> list[Extraction]:
    """The measures of what comes out, in the study's order."""
    found = [_component("attack", spec) for spec in manifest.attacks]
    return [
        Extraction(
            name=component.name,
            settings=component.settings(),
            access=str(getattr(component, "access", "")),
            metrics=dict(getattr(component, "metrics", {})),
            at_the_end=bool(getattr(component, "at_the_end", False)),
            summary=component.summary(),
            conditions=str(getattr(component, "conditions", "")),
            records=getattr(component, "records", None),
        )
        for component in found
        if component is not None and getattr(component, "kind", "") == "extraction"
    ]


def utilities_of(manifest: Manifest) -> list[Utility]:
    """The utility measures in the study's order."""
    found = []
    for spec in manifest.utility:
        component = _component("utility", spec)
        if component is None:
            name = str(spec.get("name", ""))
            found.append(Utility(name, _plain(spec), metric=name))
        else:
            found.append(
                Utility(
                    name=component.name,
                    settings=component.settings(),
                    metric=str(getattr(component, "metric", component.name)),
                    higher_is_better=getattr(component, "higher_is_better", False),
                    form=getattr(component, "form", "sums"),
                    bounds=getattr(component, "bounds", None),
                    unit=str(getattr(component, "unit", "")),
                    summary=component.summary(),
                    conditions=str(getattr(component, "conditions", "")),
                    last_epoch_only=getattr(component, "reads", "") in ("completions", "generated text"),
                    value=getattr(component, "value", None),
                    reference=getattr(component, "reference", None),
                )
            )
    return found


def unknown(manifest: Manifest) -> list[str]:
    """Names that no installed package registers: their numbers stand, but access and null are not known."""
    rooms: tuple[tuple[str, list[dict[str, Any]]], ...] = (("attack", manifest.attacks), ("utility", manifest.utility))
    return [f"{room} {spec.get('name')!r}" for room, specs in rooms for spec in specs if _component(room, spec) is None]


def headline(attacks: Sequence[Attack]) -> Attack | None:
    """The attack that the summary speaks of, chosen before any result is seen.

    It is the comparison with the untuned base model where the study has it, and else the first
    attack listed. Never the strongest one found: the best of many noisy numbers overstates.
    """
    return next((attack for attack in attacks if attack.name == HEADLINE), attacks[0] if attacks else None)


def label(name: str, settings: str, leave_out: Sequence[str] = ()) -> str:
    """A name with its settings in words: 'lora, r 16'."""
    try:
        parts: Mapping[str, Any] = json.loads(settings) if settings else {}
    except ValueError:
        return f"{name} {settings}"
    words = [name]
    for key, value in parts.items():
        if key not in leave_out:
            words.append(_short(f"{key} ", _spelled(value)))
    return ", ".join([_short("", words[0]), *words[1:]])


def _short(key: str, value: str) -> str:
    """Of a path, and of a key with a path, the end is kept: that is what tells two of them apart."""
    if len(key) + len(value) <= LONGEST:
        return key + value
    room = max(LONGEST - 1 - len(key), 8)
    return f"{key}…{value[-room:]}" if PATH.match(value) else f"{key}{value[:room]}…"


def level_label(privacy: str) -> str:
    """A privacy level in words: 'ε 8' for a target epsilon, 'noise 0.8' as it is; empty without privacy."""
    return "" if privacy == "none" else privacy if privacy.startswith("noise") else f"ε {privacy}"


def _spelled(value: Any) -> str:
    """A setting's value: lists as 'q_proj/v_proj', 16.0 as 16, what is nested as JSON."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}" if abs(value) < 1e15 else str(value)
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return "/".join(map(str, value))
    return str(value) if isinstance(value, str | int | float) else canonical_json(value)


def merged_settings(settings: str, name: str, own: str) -> str:
    """The settings column: the method's own, and those of the attack or measure under its name.

    '{"r":16}' and '{"k":0.1}' of min-k give '{"min-k":{"k":0.1},"r":16}'.
    """
    if not own:
        return settings
    return canonical_json((json.loads(settings) if settings else {}) | {name: json.loads(own)})


def _component(room: str, spec: Mapping[str, Any]) -> Component | None:
    try:
        return make(room, spec)
    except StudyError:
        return None


def _plain(spec: Mapping[str, Any]) -> str:
    settings = {key: value for key, value in spec.items() if key != "name"}
    return canonical_json(settings) if settings else ""
