"""Pictures of a study that varies something: a measure against the values of one axis, a line for each method.

What other axes say is held: a picture has one figure for each combination of their values, and for each measure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from byrote.registry import discover
from byrote.report.axes import AxisEntry, PointEntry, VariedResults
from byrote.report.figures import Figure, error_bars, label_text, marker_trace, plain_layout
from byrote.report.findings import Configuration, labels_of
from byrote.report.formats import measure as measured
from byrote.report.formats import rate, with_limits
from byrote.report.measures import label, level_label
from byrote.report.palette import Style, styles
from byrote.report.privacy_rows import without_privacy
from byrote.report.rows import Row
from byrote.report.summary import MOST_DRAWN, Summary
from byrote.store import canonical_json

COMPARED = {
    "-excess-vs-nonmembers": " (members − nonmembers, less untuned)",
    "-vs-nonmembers": " (members − nonmembers)",
}
"""How the metrics of what comes out are read."""
MOST_FIGURES = 120
"""Of one picture: those of the first measures stand for all, which the rows of the page have."""
MOST_TICKS = 24
WIDE = 8.0
"""Numbers whose largest is so many times the smallest stand on a logarithmic axis."""


PRIVACY, COPIES = "privacy", "copies"
"""Axes that every study may have inside a point: its privacy levels, and its tiers of repeated members."""


class Measure(NamedTuple):
    """What a row measures, whatever the method: 'AUC of reference', 'perplexity'."""

    kind: str
    name: str
    settings: str
    metric: str
    slice: str

    @property
    def label(self) -> str:
        ending = next((ending for ending in COMPARED if self.metric.endswith(ending)), "")
        own, metric = label(self.name, self.settings), self.metric.removesuffix(ending)
        if self.kind == "utility":
            words = label(metric, self.settings)
        else:
            words = own if metric == self.name else f"{'AUC' if metric == 'auc' else metric} of {own}"
        return f"{words}{COMPARED.get(ending, '')}{f', {self.slice}' if self.slice else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """One method at one point: its rows at the last epoch."""

    entry: PointEntry
    configuration: Configuration
    rows: Mapping[Measure, Row]
    parameters: float | None
    copies: int | None = None
    """Of which tier of repeated members its rows are; None: of all records."""


class Picture(NamedTuple):
    """One axis. `figures` has one for each measure and, within it, for each place; None where nothing can be drawn."""

    name: str
    title: str
    measures: list[str]
    places: list[str]
    figures: list[Figure | None]


def spots_of(results: VariedResults) -> list[Spot]:
    """Every method of every point that has results, the untuned model among them."""
    varied = {axis.path for axis in results.manifest.axes}
    return [spot for entry, of_point in results.done() for spot in _spots(entry, Summary(of_point), varied)]


def _spots(entry: PointEntry, summary: Summary, varied: Set[str]) -> Iterator[Spot]:
    controls = {attack.name for attack in summary.results.evidence.controls}
    known: dict[tuple[object, ...], dict[Measure, Row]] = {}
    for row in summary.results.rows:
        if row.value is not None and row.low is not None and _is_shown(row) and row.name not in controls:
            settings, own = _apart(row, varied)
            key = (row.method, settings, row.privacy, row.delta, row.seed, row.epoch)
            known.setdefault(key, {})[Measure(row.kind, row.name, own, row.metric, row.slice)] = row
    for one in summary.findings:
        of = one.configuration
        seed = of.done[0].seed if len(of.done) == 1 else None
        found = known.get((of.method, of.settings, of.privacy, of.delta, seed, one.epoch), {})
        yield Spot(entry, of, found, one.cost.get("total_parameters"))


def _is_shown(row: Row) -> bool:
    """Whether a row says what one method came to, and not how it compares with another."""
    if row.kind == "membership":
        return row.metric == "auc"
    return row.kind not in ("cost", "privacy") and not (row.kind == "utility" and "-vs-" in row.metric)


def _apart(row: Row, varied: Set[str]) -> tuple[str, str]:
    """The method's settings, and those of the attack or measure less what is varied: a row holds them together."""
    merged: dict[str, Any] = json.loads(row.settings or "{}")
    own = json.dumps(merged.pop(row.name, None) or {})
    return canonical_json(merged) if merged else "", _held(row.name, own, varied)


def _held(name: str, settings: str, varied: Set[str]) -> str:
    """An attack's settings without those fields of it that the study varies."""
    own = json.loads(settings or "{}")
    kept = {key: value for key, value in own.items() if not varied & {f"attacks.{name}.{key}", f"utility.{name}.{key}"}}
    return canonical_json(kept) if kept else ""


Lines = Mapping[Spot, Configuration]
"""The line of a picture that each spot is on, as a configuration without its privacy level's delta."""


def lines_of(spots: Sequence[Spot], axis: AxisEntry | None = None) -> Lines:
    """A line is a method, less the field that an axis of methods varies."""
    points: dict[str, list[Spot]] = {}
    for spot in spots:
        points.setdefault(spot.entry.key, []).append(spot)
    return {spot: line for same in points.values() for spot, line in _lines(same, axis).items()}


def _lines(spots: Sequence[Spot], axis: AxisEntry | None) -> dict[Spot, Configuration]:
    """Those of one point, whose labels tell its methods apart."""
    keys = {spot: _without(spot.configuration, axis) for spot in spots}
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


def look_of(results: VariedResults, spots: Sequence[Spot]) -> dict[str, Style]:
    """A style for each line of any picture, by its label: methods look the same in all of them."""
    found: dict[str, Configuration] = {}
    for axis in [None, *results.manifest.axes, *inner_axes(results, spots)]:
        for line in lines_of(spots, axis).values():
            found.setdefault(line.label, line)
    return {one.label: style for one, style in styles(list(found.values())).items()}


def pictures_of(results: VariedResults, spots: Sequence[Spot], look: Mapping[str, Style]) -> list[Picture]:
    """A picture of every axis on which something stands at two values or more."""
    measures = _measures(results, spots)
    found = []
    inner = inner_axes(results, spots)
    for number, axis in enumerate([*results.manifest.axes, *inner]):
        of_axis = [tier for spot in spots for tier in _tiers(spot)] if axis.path == COPIES else spots
        values = {_spelt(value): at for at, value in reversed(list(enumerate(axis.values)))}
        on_axis = {spot: at for spot in of_axis if (at := _value_of(spot, axis, values)) is not None}
        if len(set(on_axis.values())) < 2:
            continue
        lines = lines_of(list(on_axis), axis)
        if axis in inner and not _is_line(on_axis, lines):
            continue
        places: dict[str, dict[Spot, int]] = {}
        for spot, at in on_axis.items():
            places.setdefault(
                ", ".join(f"{path} {word}" for path, word in spot.entry.words.items() if path != axis.path), {}
            )[spot] = at
        shown = measures[: max(MOST_FIGURES // len(places), 1)]
        figures = [_figure(axis, at, lines, measure, look) for measure in shown for at in places.values()]
        labels = [measure.label for measure in shown]
        found.append(Picture(f"axis-{number}", f"By {axis.field}", labels, list(places), figures))
    return found


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
            if len(set(map(_spelt, values))) > 1 and f"method.{field}" not in varied:
                fields.setdefault(field, {}).update({_spelt(value): value for value in values})
    axes = [_axis(f"method.{field}", list(values.values())) for field, values in fields.items()]
    levels = dict.fromkeys(spot.configuration.privacy for spot in spots if spot.configuration.method != "none")
    if len(levels) > 1:
        axes.append(_axis(PRIVACY, [*(level for level in levels if level != "none"), "none"]))
    copies = sorted({tier.copies for spot in spots for tier in _tiers(spot) if tier.copies is not None})
    return axes + ([_axis(COPIES, copies)] if len(copies) > 1 else [])


def _axis(path: str, values: Sequence[Any]) -> AxisEntry:
    """Numbers in their order, with no privacy at all as the last of its levels; all else in the study's order."""
    numbers = [value for value in values if _number(value) is not None]
    if len(numbers) + (path == PRIVACY) >= len(values):
        values = sorted(numbers, key=lambda value: _number(value) or 0.0) + [v for v in values if v not in numbers]
    labels = [(level_label(str(value)) if path == PRIVACY else "") or str(value) for value in values]
    return AxisEntry(path=path, values=list(values), labels=labels)


def _tiers(spot: Spot) -> Iterator[Spot]:
    """A method once for each tier of repeated members, with the rows of these alone."""
    tiers: dict[int, dict[Measure, Row]] = {}
    for measure, row in spot.rows.items():
        name, _, number = measure.slice.partition("=")
        if name == COPIES and number.isdigit():
            tiers.setdefault(int(number), {})[measure._replace(slice="")] = row
    for copies, rows in tiers.items():
        yield replace(spot, rows=rows, copies=copies)


def _is_line(on_axis: Mapping[Spot, int], lines: Lines) -> bool:
    """Whether any line has two values: a field that never changes alone makes none."""
    values: dict[tuple[str, str], set[int]] = {}
    for spot, at in on_axis.items():
        values.setdefault((spot.entry.key, lines[spot].label), set()).add(at)
    return any(len(found) > 1 for found in values.values())


def _measures(results: VariedResults, spots: Sequence[Spot]) -> list[Measure]:
    """The headline attack, what comes out of members and the first utility measure stand before all else."""
    found = sorted(dict.fromkeys(measure for spot in spots for measure in spot.rows), key=lambda one: bool(one.slice))
    attack = next((Summary(of_point).headline for _, of_point in results.done()), None)
    varied = {axis.path for axis in results.manifest.axes}
    own = _held(attack.name, attack.settings, varied) if attack else ""
    leakage = [one for one in found if attack and one == ("membership", attack.name, own, "auc", "")]
    out = [one for one in found if one.kind == "extraction" and "-excess-vs-" in one.metric]
    first = [*leakage, *out[:1], *[one for one in found if one.kind == "utility"][:1]]
    return [*first, *(one for one in found if one not in first)]


def _value_of(spot: Spot, axis: AxisEntry, values: Mapping[str, int]) -> int | None:
    """Which of the axis's values, as they are spelt, the method has there; None where it has none."""
    if axis.path in (PRIVACY, COPIES):
        own = spot.configuration.privacy if axis.path == PRIVACY else spot.copies
        return values.get(_spelt(own)) if spot.configuration.method != "none" else None
    if not axis.of_methods:
        return values[_spelt(spot.entry.values[axis.path])]
    method = discover("method").get(spot.configuration.method)
    if method is None or axis.field not in method.model_fields:
        return None
    own = _field(spot.configuration.method, json.loads(spot.configuration.settings or "{}"), axis.field)
    return values.get(_spelt(own))


def _field(method: str, settings: Mapping[str, Any], field: str) -> Any:
    """The value of a method's field: as given, or its default."""
    known = discover("method").get(method)
    if field in settings or known is None or field not in known.model_fields:
        return settings.get(field)
    return known.model_fields[field].get_default(call_default_factory=True)


def _spelt(value: Any) -> str:
    number = _number(value)
    return canonical_json(value if number is None else number)


def _number(value: Any) -> float | None:
    """A number, or text that YAML did not take for one ('5e-5')."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Scale(NamedTuple):
    """Where an axis's values stand."""

    at: list[float]
    log: bool
    title: str
    spread: float
    """How far apart marks of one value stand: a factor on a logarithmic axis, else a distance."""


def _scale(axis: AxisEntry, on_axis: Mapping[Spot, int]) -> Scale:
    """Numbers as numbers, models by how large they are where all are known, and all else in the order written."""
    of_model = axis.path == "model"
    found = [_size(on_axis, at) if of_model else _number(value) for at, value in enumerate(axis.values)]
    known = [number for number in found if number is not None]
    if len(set(known)) < len(found):
        return Scale([float(place) for place in range(len(found))], False, axis.field, 0.05)
    if of_model or (min(known) > 0 and max(known) / min(known) >= WIDE):
        return Scale(known, True, "model, by its parameters (logarithmic)" if of_model else axis.field, 1.02)
    return Scale(known, False, axis.field, 0.012 * (max(known) - min(known)))


def _size(on_axis: Mapping[Spot, int], at: int) -> float | None:
    """The parameters of a model: of the method that adds fewest."""
    return min((spot.parameters for spot, value in on_axis.items() if value == at and spot.parameters), default=None)


def _figure(
    axis: AxisEntry, on_axis: Mapping[Spot, int], lines: Lines, measure: Measure, look: Mapping[str, Style]
) -> Figure | None:
    values: dict[str, list[tuple[int, Row]]] = {}
    for spot, at in on_axis.items():
        if measure in spot.rows:
            values.setdefault(lines[spot].label, []).append((at, spot.rows[measure]))
    if not values:
        return None
    scale = _scale(axis, on_axis)
    spell = rate if measure.kind == "membership" else measured
    traces = [
        _trace(axis, scale, name, rows, look[name], place - (len(values) - 1) / 2, spell)
        for place, (name, rows) in enumerate(list(values.items())[:MOST_DRAWN])
    ]
    nulls = {row.null_value for rows in values.values() for _, row in rows} if measure.kind != "utility" else set()
    layout = plain_layout(scale.title, measure.label, nulls.pop() if len(nulls) == 1 else None)
    layout["yaxis"]["title"]["text"] = label_text(measure.label).replace(" (", "<br>(", 1)  # as high as it has room for
    told = slice(None, None, -(-len(scale.at) // MOST_TICKS))
    ticks = {"tickmode": "array", "tickvals": scale.at[told], "ticktext": list(map(label_text, axis.labels[told]))}
    layout["xaxis"] |= ticks | ({"type": "log"} if scale.log else {})
    return {"data": traces, "layout": layout}


def _trace(
    axis: AxisEntry,
    scale: Scale,
    name: str,
    values: Sequence[tuple[int, Row]],
    style: Style,
    shift: float,
    spell: Callable[[float | None], str],
) -> Figure:
    """A line with its intervals; marks of one value stand side by side so that these can be told apart."""
    values = sorted(values, key=lambda one: scale.at[one[0]])
    rows, at = [row for _, row in values], [scale.at[place] for place, _ in values]
    xs = [x * scale.spread**shift if scale.log else x + scale.spread * shift for x in at]
    trace = marker_trace(name, [float(f"{x:.6g}") for x in xs], [row.value for row in rows], style, size=8)
    return trace | {
        "mode": "lines+markers",
        "line": {"color": f"${style.colour}", "width": style.width, "dash": style.dash},
        "error_y": error_bars(rows, style, width=2),
        "text": [label_text(f"{axis.labels[place]}: {with_limits(row.estimate, spell)}") for place, row in values],
        "hovertemplate": f"<b>{label_text(name)}</b><br>%{{text}}<extra></extra>",
    }


def key_of(pictures: Sequence[Picture], look: Mapping[str, Style]) -> list[tuple[int, str, Style]]:
    """The key to the lines that any of the pictures has: (place, label, style)."""
    drawn = {
        trace["legendgroup"]
        for picture in pictures
        for figure in picture.figures
        if figure is not None
        for trace in figure["data"]
    }
    return [(style.key, label, style) for label, style in look.items() if str(style.key) in drawn]
