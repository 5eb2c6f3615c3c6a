"""Whether what a study claims can be read from its results at all: every name in a claim is one that the study has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from byrote.claims import OWN_KEYS, Claim, is_value, values_of
from byrote.registry import Component, nearest
from byrote.study.privacy import PrivacyLevel, label_of

FAMILIES = ("parameter", "prompt")
PLACED = {"membership": "attacks", "extraction": "attacks", "poisoning": "attacks", "utility": "utility"}
"""Kinds whose names a study lists, and where; the others are there in every study."""

METHOD = "method."
EXPOSURE = ("extraction", "exposure")
"""What the report itself makes of planted canaries; no attack of the study's list stands for it."""
MEMBERSHIP = (
    "auc", "auc-lift", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "partial-auc@fpr=0.1", "balanced-accuracy",
    "p-value",
)  # fmt: skip
"""What the report makes of every membership attack, besides differences (auc-vs-none)."""
TIER = "copies="


class Asked(NamedTuple):
    """What of a study a claim can name."""

    methods: Sequence[Any]
    attacks: Sequence[Any]
    utility: Sequence[Any]
    privacy: Sequence[PrivacyLevel]
    plants: Sequence[Any]
    epochs: int


class Varied(Protocol):
    """A field that a study varies."""

    @property
    def path(self) -> str: ...
    @property
    def values(self) -> Sequence[Any]: ...
    @property
    def labels(self) -> Sequence[str]: ...


def problem_with(claims: Sequence[Claim], studies: Sequence[Asked], axes: Sequence[Varied]) -> tuple[int, str] | None:
    """The first claim that names what its study (all points of it) does not have, as (its place, what is wrong)."""
    twice: set[str] = set()
    for number, claim in enumerate(claims):
        if claim.id in twice:
            return number, f"the id {claim.id!r} stands twice"
        twice.add(claim.id)
        problem = _of_measure(claim, studies) or _of_selectors(claim, studies, axes)
        if problem:
            return number, f"{claim.id}: {problem}"
    return None


def _of_measure(claim: Claim, studies: Sequence[Asked]) -> str:
    kind, name, metric = claim.measured
    place = PLACED.get(kind)
    if place is None:
        return ""
    if (kind, name) == EXPOSURE:
        return ""
    listed = {one.name: one for study in studies for one in getattr(study, place) if _kind(one, kind) == kind}
    if name not in listed:
        known = ", ".join(listed) or "none"
        return f"measure: the study has no {kind} measure {name!r}.{nearest(name, listed)} It has: {known}."
    if kind == "membership" and metric not in MEMBERSHIP and "-vs-" not in metric:
        return f"measure: no membership attack has {metric!r}.{nearest(metric, MEMBERSHIP)}"
    each = [one for study in studies for one in getattr(study, place) if one.name == name]
    for key, value in claim.settings.items():
        fields = list(type(listed[name]).model_fields)
        if key not in fields:
            return f"settings: {name} has no field {key!r}.{nearest(key, fields)}"
        has = [_plain(one.model_dump(mode="json")[key]) for one in each]
        if _plain(value) not in has:
            return f"settings: {key}: no {name} of the study has {value!r}.{nearest(str(value), has)}"
    return ""


def _kind(component: Component, given: str) -> str:
    return str(getattr(type(component), "kind", given))


def _of_selectors(claim: Claim, studies: Sequence[Asked], axes: Sequence[Varied]) -> str:
    # A varied field of methods multiplies them: a selector names it as a field, like any other.
    varied = {axis.path: axis for axis in axes if not axis.path.startswith(METHOD)}
    methods = {method.name: type(method) for study in studies for method in study.methods}
    fields = _values_of_fields(studies)
    levels = ["private", *dict.fromkeys(label_of(level) for study in studies for level in study.privacy)]
    last = max(study.epochs for study in studies)
    tiers = [f"{TIER}{n}" for study in studies for one in study.plants if one.name == "duplicates" for n in one.copies]
    known: dict[str, list[str]] = {"method": list(methods), "family": list(FAMILIES), "privacy": levels}
    for where, selector in claim.selectors():
        for key, wanted in selector.items():
            if key not in OWN_KEYS and key not in varied and key not in fields:
                field = key.removeprefix(METHOD)
                near = f" Write {field}." if field in fields else nearest(key, [*OWN_KEYS, *varied, *fields])
                words = f"{near} A selector names {', '.join(OWN_KEYS)}"
                return f"{where}: unknown key {key!r}.{words}, a field of a method, or what the study varies."
            for value in values_of(wanted):
                if key in fields and key not in varied and _plain(value) not in fields[key]:
                    return f"{where}: {key}: no method has {value!r}.{nearest(str(value), fields[key])}"
                if key in varied and not any(
                    is_value(value, *each) for each in zip(varied[key].values, varied[key].labels, strict=True)
                ):
                    return f"{where}: {key}: the study has no {value!r}.{nearest(str(value), varied[key].labels)}"
                if key in known and _spelt(value) not in known[key]:
                    return f"{where}: {key}: the study has no {value!r}.{nearest(str(value), known[key])}"
                if key == "epoch" and isinstance(value, int) and value > last:
                    return f"{where}: epoch: the study has no epoch {value}: its last is {last}"
                if key == "slice" and value.startswith(TIER) and value not in tiers:
                    return f"{where}: slice: the study's plants make no {value!r}.{nearest(value, tiers)}"
    return ""


def _values_of_fields(studies: Sequence[Asked]) -> dict[str, list[str]]:
    """Every field of the study's methods with the values that it has among them, as JSON."""
    found: dict[str, list[str]] = {}
    for method in (method for study in studies for method in study.methods):
        for field, value in method.model_dump(mode="json").items():
            found.setdefault(field, []).append(_plain(value))
    return {field: list(dict.fromkeys(values)) for field, values in found.items()}


def _plain(value: Any) -> str:
    """A value that compares: 8 is 8.0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(float(value) if number else value, sort_keys=True, default=str)


def _spelt(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
