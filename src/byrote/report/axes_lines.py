"""The axes of a study and its lines: what stands at which value, and with what it is joined."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from byrote.registry import discover
from byrote.report.axes import AxisEntry, VariedResults
from byrote.report.axes_spots import Measure, Spot
from byrote.report.findings import Configuration, labels_of
from byrote.report.measures import level_label
from byrote.report.privacy_rows import without_privacy
from byrote.report.rows import Row
from byrote.store import canonical_json

PRIVACY, COPIES = "privacy", "copies"
"""Axes that every study may have inside a point: its privacy levels, and its tiers of repeated members."""
RANK = "method.r"


Lines = Mapping[Spot, Configuration]
"""The line of a picture that each spot is on, as a configuration without its privacy level's delta."""


def lines_of(spots: Sequence[Spot], axis: AxisEntry | None = None) -> Lines:
    """A line is a method, less the field that an axis of methods varies."""
    points: dict[str, list[Spot]] = {}
    for spot in spots:
        points.setdefault(spot.entry.key, []).append(spot)
    return {spot: line for same in points.values() for spot, line in _lines(same, axis).items()}


def _lines(spots: Sequence[Spot], axis: AxisEntry | None) -> dict[Spot, Configuration]:
    """Those of one point, whose labels tell its methods apart.

    Ranks are often raised with lora_alpha in step: where that joins more of them, a line holds lora_alpha / r.
    """
    keys = {spot: _without(spot.configuration, axis) for spot in spots}
    if axis is not None and axis.path == RANK:
        in_step = {spot: _without(_scaled(spot.configuration), axis) for spot in spots}
        keys = min(keys, in_step, key=lambda one: len(set(one.values())))
    names = labels_of(list(dict.fromkeys(keys.values())))
    return {
        spot: Configuration(method, settings, privacy, None, spot.configuration.family, names[key], ())
        for spot, key in keys.items()
        for method, settings, privacy, _ in (key,)
    }


def _without(of: Configuration, axis: AxisEntry | None) -> tuple[str, str, str, float | None]:
    if axis is not None and axis.path == PRIVACY:
        return of.method, without_privacy(of.settings), "none", None
    settings = json.loads(of.settings or "{}")
    kept = {key: value for key, value in settings.items() if axis is None or not axis.of_methods or key != axis.field}
    return of.method, canonical_json(kept) if kept else "", of.privacy, of.delta


def _scaled(of: Configuration) -> Configuration:
    """The same with its lora_alpha told as a multiple of its rank."""
    settings = json.loads(of.settings or "{}")
    alpha, rank = (number_of(_field(of.method, settings, field)) for field in ("lora_alpha", "r"))
    if alpha is None or not rank:
        return of
    rest = {key: value for key, value in settings.items() if key != "lora_alpha"}
    ratio = alpha / rank
    told = int(ratio) if ratio.is_integer() else ratio
    return replace(of, settings=canonical_json(rest | {"lora_alpha/r": told}))


def inner_axes(results: VariedResults, spots: Sequence[Spot]) -> list[AxisEntry]:
    """What differs inside the points without being varied: fields of methods that stand twice, levels, copies."""
    varied = {axis.path for axis in results.manifest.axes}
    fields: dict[str, dict[str, Any]] = {}
    settings: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for spot in spots:
        of = spot.configuration
        if of.method != "none":
            settings.setdefault((spot.entry.key, of.method, of.privacy), []).append(json.loads(of.settings or "{}"))
    for (_, method, _), same in settings.items():
        for field in sorted({key for one in same for key in one if not key.startswith("privacy.")}):
            values = [_field(method, one, field) for one in same]
            if len(set(map(spelt, values))) > 1 and f"method.{field}" not in varied:
                fields.setdefault(field, {}).update({spelt(value): value for value in values})
    axes = [_axis(f"method.{field}", list(values.values())) for field, values in fields.items()]
    levels = dict.fromkeys(spot.configuration.privacy for spot in spots if spot.configuration.method != "none")
    if len(levels) > 1:
        axes.append(_axis(PRIVACY, sorted(levels, key=lambda level: level == "none")))
    copies = sorted({tier.copies for spot in spots for tier in tiers(spot) if tier.copies is not None})
    return axes + ([_axis(COPIES, copies)] if len(copies) > 1 else [])


def _axis(path: str, values: Sequence[Any]) -> AxisEntry:
    """Numbers in their order, with no privacy at all as the last of its levels; all else in the study's order."""
    numbers = [value for value in values if number_of(value) is not None]
    if len(numbers) + (path == PRIVACY) >= len(values):
        values = sorted(numbers, key=lambda value: number_of(value) or 0.0) + [v for v in values if v not in numbers]
    labels = [(level_label(str(value)) if path == PRIVACY else "") or str(value) for value in values]
    return AxisEntry(path=path, values=list(values), labels=labels)


def tiers(spot: Spot) -> Iterator[Spot]:
    """A method once for each tier of repeated members, with the rows of these alone."""
    found: dict[int, dict[Measure, Row]] = {}
    for measure, row in spot.rows.items():
        name, _, number = measure.slice.partition("=")
        if name == COPIES and number.isdigit():
            found.setdefault(int(number), {})[measure._replace(slice="")] = row
    for copies, rows in found.items():
        yield replace(spot, rows=rows, copies=copies)


def is_line(on_axis: Mapping[Spot, int], lines: Lines) -> bool:
    """Whether any line has two values: a field that never changes alone makes none."""
    values: dict[tuple[str, str], set[int]] = {}
    for spot, at in on_axis.items():
        values.setdefault((spot.entry.key, lines[spot].label), set()).add(at)
    return any(len(found) > 1 for found in values.values())


def value_of(spot: Spot, axis: AxisEntry, values: Mapping[str, int]) -> int | None:
    """Which of the axis's values, as they are spelt, the method has there; None where it has none."""
    if axis.path in (PRIVACY, COPIES):
        own = spot.configuration.privacy if axis.path == PRIVACY else spot.copies
        return values.get(spelt(own)) if spot.configuration.method != "none" else None
    if not axis.of_methods:
        return values[spelt(spot.entry.values[axis.path])]
    method = discover("method").get(spot.configuration.method)
    if method is None or axis.field not in method.model_fields:
        return None
    own = _field(spot.configuration.method, json.loads(spot.configuration.settings or "{}"), axis.field)
    return values.get(spelt(own))


def _field(method: str, settings: Mapping[str, Any], field: str) -> Any:
    """The value of a method's field: as given, or its default."""
    known = discover("method").get(method)
    if field in settings or known is None or field not in known.model_fields:
        return settings.get(field)
    return known.model_fields[field].get_default(call_default_factory=True)


def spelt(value: Any) -> str:
    """A value as text, alike for 8, 8.0 and '8'."""
    number = number_of(value)
    return canonical_json(value if number is None else number)


def number_of(value: Any) -> float | None:
    """A number, or text that YAML did not take for one ('5e-5')."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
