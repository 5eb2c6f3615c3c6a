"""Which runs a claim compares: every pair of them that agrees in all that the claim does not name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from byrote.claims import Claim, Selector, is_value, values_of
from byrote.registry import discover
from byrote.report.axes import AxisEntry, PointEntry, VariedResults
from byrote.report.canary_rows import NAME as EXPOSURE
from byrote.report.canary_rows import exposure_attack
from byrote.report.evidence import Evidence
from byrote.report.findings import Configuration, configurations
from byrote.report.measures import Attack, Extraction, Poisoning, Utility
from byrote.report.results import Results
from byrote.store import canonical_json

Instance = Attack | Extraction | Poisoning | Utility | None
"""A measure with its settings; None for costs and accounts, which have none."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One method of one point, and the part of its records and the epoch that a claim asks for."""

    entry: PointEntry | None
    """None in a study that varies nothing."""
    results: Results
    configuration: Configuration
    slice: str
    epoch: Any
    """A number, "last", "best", or None where the claim's `at` says it."""

    @property
    def identity(self) -> tuple[object, ...]:
        of = self.configuration
        key = self.entry.key if self.entry is not None else ""
        return key, of.method, of.settings, of.privacy, of.delta, self.slice, self.epoch


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides that a claim compares by one measure; `other` is a number, or "untuned", where it is no run."""

    one: Side
    other: Side | float | str
    measure: Instance


@dataclass(frozen=True, slots=True)
class Studied:
    """A study's results point by point, with what it varies."""

    axes: Sequence[AxisEntry]
    points: Sequence[tuple[PointEntry | None, Results]]
    missing: Sequence[PointEntry] = ()
    """Points that failed, or were not run."""

    @classmethod
    def of(cls, results: Results | VariedResults) -> Studied:
        """An ordinary study is one point without values."""
        if isinstance(results, Results):
            return cls((), ((None, results),))
        return cls(
            [axis for axis in results.manifest.axes if not axis.of_methods],
            list(results.done()),
            [point.entry for point in results.points if point.results is None],
        )


def pairs_of(claim: Claim, studied: Studied) -> list[Pair]:
    """Everything that the claim compares, in the study's order."""
    return [pair for one, other in claim.pairs() for pair in _pairs(claim, studied, one, other)]


def gaps_of(claim: Claim, studied: Studied) -> list[str]:
    """What the claim is about and the results do not have, in words: points, and steps of `rising` with no two runs."""
    axes, found = {axis.path: axis for axis in studied.axes}, []
    for entry in studied.missing:
        named = [one for pair in claim.pairs() for one in pair if isinstance(one, dict)]
        if any(_stands_at(entry, axes, selector) for selector in named):
            found.append(f"{entry.label} has no results")
    for before, after in zip(claim.rising, claim.rising[1:], strict=False):
        if not _pairs(claim, studied, {**claim.where, **after}, {**claim.where, **before}):
            found.append(f"no two runs of {_spelt(before)} and {_spelt(after)}")
    return found


def _pairs(claim: Claim, studied: Studied, one: Selector, other: Selector | float | str) -> list[Pair]:
    found: list[Pair] = []
    for side in _sides(studied, one):
        for measure in _measures(side.results, claim):
            if isinstance(other, dict):
                apart = _apart(one, other)
                others = [each for each in _sides(studied, other) if _agree(side, each, apart)]
                found += [Pair(side, each, measure) for each in others if measure in _measures(each.results, claim)]
            else:
                found.append(Pair(side, other, measure))
    return found


def _spelt(selector: Selector) -> str:
    return ", ".join(f"{key} {value}" for key, value in selector.items())


def _apart(one: Selector, other: Selector) -> set[str]:
    """The keys by which two selectors differ; what both say alike only narrows what is compared."""
    return {key for key in {*one, *other} if key not in one or key not in other or one[key] != other[key]}


def _measures(results: Results, claim: Claim) -> list[Instance]:
    """The measure as often as the study has it with the settings that the claim names."""
    kind, name, _ = claim.measured
    evidence = results.evidence
    rooms: Mapping[str, Sequence[Instance]] = {
        "membership": [*evidence.attacks, *evidence.controls],
        "extraction": [*evidence.extractions, *_exposures(evidence)],
        "poisoning": evidence.poisonings,
        "utility": evidence.utilities,
    }
    if kind not in rooms:
        return [None]
    room = "utility" if kind == "utility" else "attack"
    return [
        one
        for one in rooms[kind]
        if one is not None
        and one.name == name
        and all(_setting(room, name, one.settings, key) == _plain(value) for key, value in claim.settings.items())
    ]


def _exposures(evidence: Evidence) -> list[Extraction]:
    """The exposure of planted canaries, which no attack of the study's list stands for."""
    attack = exposure_attack(evidence)
    if attack is None:
        return []
    return [Extraction(EXPOSURE, canonical_json({"scores": attack.label}), attack.access)]


def _setting(room: str, name: str, settings: str, key: str) -> Any:
    """The value of a component's field: as given, or its default."""
    given = json.loads(settings or "{}")
    if key in given:
        return _plain(given[key])
    component = discover(room).get(name)
    if component is None or key not in component.model_fields:
        return None
    return _plain(component.model_fields[key].get_default(call_default_factory=True))


def _plain(value: Any) -> Any:
    """A value that compares: 8 is 8.0, and a tuple is a list."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    return float(value) if isinstance(value, int | float) else canonical_json(json.loads(json.dumps(value)))


def _sides(studied: Studied, selector: Selector) -> Iterator[Side]:
    """What fits; runs that failed too, so that a claim about them does not stand without them."""
    axes = {axis.path: axis for axis in studied.axes}
    slices = values_of(selector.get("slice", ""))
    epochs = values_of(selector.get("epoch"))
    for entry, results in studied.points:
        if entry is not None and not _stands_at(entry, axes, selector):
            continue
        for of in configurations(results.evidence):
            if of.method != "none" and _selected(of, selector, axes):
                for slice_ in slices:
                    yield from (Side(entry, results, of, str(slice_), epoch) for epoch in epochs)


def _stands_at(entry: PointEntry, axes: Mapping[str, AxisEntry], selector: Selector) -> bool:
    """Whether a point has the values of what is varied that a selector names."""
    return all(
        any(is_value(one, entry.values[path], entry.words[path]) for one in values_of(selector[path]))
        for path in axes
        if path in selector
    )


def _selected(of: Configuration, selector: Selector, axes: Mapping[str, AxisEntry]) -> bool:
    for key, wanted in selector.items():
        allowed = values_of(wanted)
        if key == "method":
            fits = of.method in allowed
        elif key == "family":
            fits = of.family in allowed
        elif key == "privacy":
            fits = of.privacy in map(_level, allowed) or ("private" in allowed and of.private)
        elif key in ("epoch", "slice") or key in axes:
            continue
        else:
            fits = _has(of, key) and _setting("method", of.method, of.settings, key) in map(_plain, allowed)
        if not fits:
            return False
    return True


def _level(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _has(of: Configuration, field: str) -> bool:
    method = discover("method").get(of.method)
    return method is not None and field in method.model_fields


def _agree(one: Side, other: Side, named: set[str]) -> bool:
    """Whether two sides are alike in all that neither selector names, and not the very same."""
    if one.identity == other.identity:
        return False
    # Several slices or epochs that both sides share say where to compare, each with itself.
    if any(key not in named and getattr(one, key) != getattr(other, key) for key in ("slice", "epoch")):
        return False
    if one.entry is not None and other.entry is not None and one.entry is not other.entry:
        # What only a single point sets comes along with it: to that model belong so many epochs. But two points that
        # are not apart in what the claim names are no comparison.
        here, there = one.entry.words, other.entry.words
        differ = {path for path in here.keys() & there.keys() if here[path] != there[path]}
        if not differ or not differ <= named:
            return False
    ours, theirs = one.configuration, other.configuration
    if "privacy" not in named and (ours.privacy, ours.delta) != (theirs.privacy, theirs.delta):
        return False
    if ours.method != theirs.method:
        return bool({"method", "family"} & named)
    return _without(ours, named) == _without(theirs, named)


def _without(of: Configuration, fields: set[str]) -> dict[str, Any]:
    """A configuration's settings less those named. Where ranks are compared each has a learning rate of its own."""
    apart = fields | ({"learning_rate", "private_learning_rate"} if any(_has(of, field) for field in fields) else set())
    return {
        key: value
        for key, value in json.loads(of.settings or "{}").items()
        if key not in apart and not ("privacy" in fields and key.startswith("privacy."))
    }


def words_of(side: Side, other: Side | float | str) -> str:
    """A side in words: the method, and what it does not share with the other one."""
    words = [side.configuration.label]
    if side.entry is not None:
        shared = other.entry.words if isinstance(other, Side) and other.entry is not None else {}
        own = {path: word for path, word in side.entry.words.items() if shared.get(path) != word}
        words += [word if path in ("model", "data") else f"{path} {word}" for path, word in own.items()]
    words += [side.slice] if side.slice else []
    if side.epoch is not None:
        words.append(f"epoch {side.epoch}" if isinstance(side.epoch, int) else f"{side.epoch} epoch")
    return ", ".join(words)


def place_of(pair: Pair) -> str:
    """Where both sides of a pair stand, in words: the values that they share of what is varied."""
    one, other = pair.one.entry, pair.other.entry if isinstance(pair.other, Side) else pair.one.entry
    if one is None or other is None:
        return ""
    return ", ".join(f"{path} {word}" for path, word in one.words.items() if other.words.get(path) == word)
