"""Pictures of a study that varies something: a measure against the values of one axis, a line for each method.

What other axes say is held: a picture has one figure for each combination of their values, and for each measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from byrote.report.axes import AxisEntry, VariedResults
from byrote.report.axes_lines import COPIES, Lines, inner_axes, is_line, lines_of, number_of, spelt, tiers, value_of
from byrote.report.axes_spots import Measure, Spot, held
from byrote.report.figures import Figure, error_bars, label_text, marker_trace, plain_layout
from byrote.report.findings import Configuration
from byrote.report.formats import measure as measured
from byrote.report.formats import rate, with_limits
from byrote.report.palette import Style, styles
from byrote.report.rows import Row
from byrote.report.summary import MOST_DRAWN, Summary

MOST_FIGURES = 120
"""Of one picture: those of the first measures stand for all, which the rows of the page have."""
MOST_TICKS = 24
SEEDS = "seeds"
"""An axis that only says how often a point was repeated: points of one and of three seeds stand in one picture."""
WIDE = 8.0
"""Numbers whose largest is so many times the smallest stand on a logarithmic axis."""


class Picture(NamedTuple):
    """One axis. `figures` has one for each measure and, within it, for each place; None where nothing can be drawn."""

    name: str
    title: str
    measures: list[str]
    places: list[str]
    figures: list[Figure | None]


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
        of_axis = [tier for spot in spots for tier in tiers(spot)] if axis.path == COPIES else spots
        values = {spelt(value): at for at, value in reversed(list(enumerate(axis.values)))}
        on_axis = {spot: at for spot in of_axis if (at := value_of(spot, axis, values)) is not None}
        lines = lines_of(list(on_axis), axis)
        if axis in inner and not is_line(on_axis, lines):
            continue
        places = _places(axis, on_axis)
        if not places:
            continue
        shown = measures[: max(MOST_FIGURES // len(places), 1)]
        figures = [_figure(axis, at, lines, measure, look) for measure in shown for at in places.values()]
        labels = [measure.label for measure in shown]
        found.append(Picture(f"axis-{number}", f"By {axis.field}", labels, list(places), figures))
    return found


def _measures(results: VariedResults, spots: Sequence[Spot]) -> list[Measure]:
    """The headline attack, what comes out of members and the first utility measure stand before all else."""
    found = sorted(dict.fromkeys(measure for spot in spots for measure in spot.rows), key=lambda one: bool(one.slice))
    attack = next((Summary(of_point).headline for _, of_point in results.done()), None)
    varied = {axis.path for axis in results.manifest.axes}
    own = held(attack.name, attack.settings, varied) if attack else ""
    leakage = [one for one in found if attack and one == ("membership", attack.name, own, "auc", "")]
    out = [one for one in found if one.kind == "extraction" and "-excess-vs-" in one.metric]
    first = [*leakage, *out[:1], *[one for one in found if one.kind == "utility"][:1]]
    return [*first, *(one for one in found if one not in first)]


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
    found = [_size(on_axis, at) if of_model else number_of(value) for at, value in enumerate(axis.values)]
    known = [number for number in found if number is not None]
    if len(set(known)) < len(found):
        return Scale([float(place) for place in range(len(found))], False, axis.field, 0.05)
    if of_model or (min(known) > 0 and max(known) / min(known) >= WIDE):
        return Scale(known, True, "model, by its parameters (logarithmic)" if of_model else axis.field, 1.02)
    return Scale(known, False, axis.field, 0.012 * (max(known) - min(known)))


def _size(on_axis: Mapping[Spot, int], at: int) -> float | None:
    """The parameters of a model: of the method that adds fewest."""
    return min((spot.parameters for spot, value in on_axis.items() if value == at and spot.parameters), default=None)


def _places(axis: AxisEntry, on_axis: Mapping[Spot, int]) -> dict[str, dict[Spot, int]]:
    """What stands on the axis by what the other axes say, where that is two values or more; seeds hold nothing."""
    places: dict[str, dict[Spot, int]] = {}
    for spot, at in on_axis.items():
        words = (f"{path} {word}" for path, word in spot.entry.words.items() if path not in (axis.path, SEEDS))
        places.setdefault(", ".join(words), {})[spot] = at
    return {place: at for place, at in places.items() if len(set(at.values())) > 1}


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
