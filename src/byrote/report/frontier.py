"""The picture that people choose from: utility against leakage, with the cost as the size of a mark.

What no method dominates has a ring around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from byrote.report.decision import Decision
from byrote.report.extraction_numbers import beyond, number_label, numbers_of
from byrote.report.figures import Figure, epochs_of, error_bars, label_text, marker_trace, null_of, plain_layout
from byrote.report.findings import Configuration, Finding
from byrote.report.formats import count, measure, rate, seconds, signed, with_limits
from byrote.report.label_places import Mark, places_of
from byrote.report.measures import Attack, Utility
from byrote.report.palette import Style
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary

SMALLEST, LARGEST, UNTUNED = 9.0, 24.0, 11.0  # pixels across
COSTS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "trainable_parameters": ("trainable parameters", count),
    "train_seconds": ("training time", seconds),
}
"""What a mark's size may say: the first in which the methods differ."""
NAMED = 6
"""Marks that have their names beside them: those to choose between, where they are not too many to be read."""

Path = Sequence[tuple[str, Row, Row]]
"""Of one method (epoch in words, utility row, leakage row) at every epoch that has both."""


class Leak(NamedTuple):
    """One way of measuring leakage."""

    label: str
    null: float | None
    spell: Callable[[float | None], str]
    paths: Mapping[Configuration, Path]


class Cost(NamedTuple):
    """What the size of a mark says of each method."""

    words: str
    spell: Callable[[float | None], str]
    values: Mapping[Configuration, float]

    def size(self, of: Configuration) -> float:
        """In pixels: by the logarithm, between the smallest and the largest."""
        logs = {one: math.log(max(value, 1e-3)) for one, value in self.values.items()}
        low, high = min(logs.values()), max(logs.values())
        return SMALLEST + (LARGEST - SMALLEST) * (logs.get(of, low) - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Frontier:
    """A figure for each measure of leakage."""

    labels: list[str]
    figures: list[Figure | None]
    start: int
    """The measure that methods were judged by."""
    size: str
    """What a mark's size says; empty where all are of one size."""
    judged: str
    """What a ring says; empty where none were judged."""
    places: tuple[str, ...] = ()
    """The points of a study that varies something: figures stand place by place."""


def frontier_of(decision: Decision, look: Mapping[Configuration, Style]) -> Frontier | None:
    """The picture; None where no method has both numbers."""
    summary, utility = decision.summary, decision.summary.chosen_by
    leaks = [leak for leak in _leaks(summary, utility) if leak.paths] if utility is not None else []
    if utility is None or not leaks:
        return None
    cost, by = _cost(summary), decision.contest.leakage
    start = next((at for at, leak in enumerate(leaks) if by is not None and leak.label == by.label), 0)
    rings = {one.configuration for one in decision.contest.undominated()}
    useful = {one.configuration for one in decision.useful} & rings or rings or set(leaks[start].paths)
    named = useful if len(useful) <= NAMED else set()
    return Frontier(
        labels=[leak.label for leak in leaks],
        figures=[
            _figure(summary, leak, utility, look, cost, rings if at == start else set(), named)
            for at, leak in enumerate(leaks)
        ],
        start=start,
        size=_size_words(cost),
        judged=leaks[start].label if decision.contest.duels else "",
    )


def _leaks(summary: Summary, utility: Utility) -> list[Leak]:
    """Every membership attack, then every number of what comes out."""
    evidence, index = summary.results.evidence, SlicedIndex(summary, "extraction")

    def of_attack(attack: Attack) -> Callable[[Finding, int | None], Row | None]:
        return lambda one, epoch: summary.index.get(one.configuration, epoch, attack, "auc")

    found = [
        Leak(f"AUC of {one.label}", null_of(summary, one), rate, _paths(summary, utility, of_attack(one)))
        for one in evidence.attacks
    ]
    for measured, metric in numbers_of(evidence.extractions):
        rows = {one.configuration: beyond(index, one, measured, metric) for one in summary.drawn_tuned}

        def at_the_end(one: Finding, epoch: int | None, rows: Mapping[Configuration, Row | None] = rows) -> Row | None:
            return rows[one.configuration] if epoch == one.epoch else None

        label = f"{number_label(measured, metric)}, members less nonmembers"
        found.append(Leak(label, 0.0, signed, _paths(summary, utility, at_the_end)))
    return found


def _paths(
    summary: Summary, utility: Utility, leakage: Callable[[Finding, int | None], Row | None]
) -> Mapping[Configuration, Path]:
    found: dict[Configuration, Path] = {}
    for one in summary.drawn_tuned:
        path = []
        for epoch, _, words in epochs_of(summary, one):
            x, y = summary.index.get(one.configuration, epoch, utility, utility.metric), leakage(one, epoch)
            if x is not None and y is not None and x.value is not None and y.value is not None:
                path.append((words, x, y))
        if path:
            found[one.configuration] = path
    return found


def _cost(summary: Summary) -> Cost | None:
    for key, (words, spell) in COSTS.items():
        values = {one.configuration: one.cost[key] for one in summary.drawn_tuned if key in one.cost}
        if len({round(math.log(max(value, 1e-3)), 2) for value in values.values()}) > 1:
            return Cost(words, spell, values)
    return None


def _size_words(cost: Cost | None) -> str:
    if cost is None:
        return ""
    low, high = min(cost.values.values()), max(cost.values.values())
    return f"The larger, the more {cost.words}: {cost.spell(low)} to {cost.spell(high)}, by the logarithm."


def _figure(
    summary: Summary,
    leak: Leak,
    utility: Utility,
    look: Mapping[Configuration, Style],
    cost: Cost | None,
    rings: set[Configuration],
    named: set[Configuration],
) -> Figure:
    """A mark for each method at its last epoch, with a trail of the epochs before."""
    traces: list[Figure] = []
    sizes = {of: cost.size(of) if cost is not None else 14.0 for of in leak.paths}
    base = summary.base
    start = base.utility.get(utility) if base is not None else None
    untuned = None if start is None or start.value is None or leak.null is None else (start.value, leak.null)
    places = _places(leak, sizes, named, untuned)
    for of, path in leak.paths.items():
        size = sizes[of]
        traces += _trail(of, path, look[of], leak)
        if of in rings:
            traces.append(_ring(path, look[of], size))
        mark = _mark(of, path, look[of], leak, size, cost)
        if of in named:
            name = label_text(of.label)
            mark |= {
                "mode": "markers+text", "text": [f"<b>{name}</b>" if of in rings else name], "cliponaxis": False,
                "textposition": places[of], "textfont": {"color": "$fg", "size": 12},
            }  # fmt: skip
        traces.append(mark)
    xs = [x for trace in traces for x in trace["x"]]
    if base is not None and start is not None and untuned is not None:
        traces.append(_untuned_mark(untuned, start, utility, look[base.configuration]))
        xs.append(untuned[0])
    layout = plain_layout(f"{utility.label} on test records ({utility.best})", leak.label, leak.null)
    layout["yaxis"]["title"]["text"] = label_text(leak.label).replace(", members", "<br>members")
    layout["height"] = 460
    if _over_decades(xs):
        layout["xaxis"] |= {"type": "log"}
    return {"data": traces, "layout": layout}


def _untuned_mark(at: tuple[float, float], start: Row, utility: Utility, style: Style) -> Figure:
    return marker_trace("untuned model", [at[0]], [at[1]], style, size=UNTUNED) | {
        "error_x": error_bars([start], style, width=4) | {"color": "$none-1/0.4"},
        "hovertemplate": f"untuned model<br>{label_text(utility.label)} {measure(at[0])}<extra></extra>",
    }


def _over_decades(xs: Sequence[float]) -> bool:
    return min(xs) > 0 and max(xs) / min(xs) > 4


def _places(
    leak: Leak, sizes: Mapping[Configuration, float], named: set[Configuration], untuned: tuple[float, float] | None
) -> dict[Configuration, str]:
    """Where each name stands beside its mark, off all others and that of the untuned model."""
    rows = [(x, y) for path in leak.paths.values() for _, x, y in path]
    others = [] if untuned is None else [untuned]
    reached = [x.value for x, _ in rows if x.value is not None] + [x for x, _ in others]
    log = _over_decades(reached)
    scale = math.log if log else float
    last = [(of, x, y) for of, (*_, (_, x, y)) in leak.paths.items()]
    bars = [limit for _, x, _ in last for limit in (x.low, x.high) if limit is not None]
    across = [*reached, *(limit for limit in bars if limit > 0.0 or not log)]
    upward = [limit for _, y in rows for limit in (y.low, y.value, y.high) if limit is not None]
    upward += [y for _, y in others]
    marks = [
        Mark(scale(x.value), y.value, sizes[of]) for of, x, y in last if x.value is not None and y.value is not None
    ]
    marks += [Mark(scale(x), y, UNTUNED) for x, y in others]
    names = {at: label_text(of.label) for at, (of, *_) in enumerate(last) if of in named}
    found = places_of(marks, names, (scale(min(across)), scale(max(across))), (min(upward), max(upward)))
    return {of: found[at] for at, (of, *_) in enumerate(last) if at in found}


def _trail(of: Configuration, path: Path, style: Style, leak: Leak) -> list[Figure]:
    """The epochs before the last, as small dots; nothing where there are none."""
    if len(path) < 2:
        return []
    words, xs, ys = zip(*path, strict=True)
    return [{
        "type": "scatter", "mode": "lines+markers", "x": [x.value for x in xs], "y": [y.value for y in ys],
        "line": {"color": f"${style.colour}/0.45", "width": 1.5, "dash": style.dash},
        "marker": {"color": f"${style.colour}/0.45", "size": 5, "symbol": "circle"},
        "legendgroup": str(style.key), "text": words,
        "hovertemplate": f"{label_text(of.label)}, %{{text}}<br>{label_text(xs[0].metric)} %{{x:.4g}}<br>"
        f"{label_text(leak.label)} %{{y:.3f}}<extra></extra>",
    }]  # fmt: skip


def _ring(path: Path, style: Style, size: float) -> Figure:
    _, x, y = path[-1]
    marker = {"symbol": "circle-open", "size": size + 11, "color": "$fg", "line": {"color": "$fg", "width": 1.5}}
    return {"type": "scatter", "mode": "markers", "x": [x.value], "y": [y.value], "marker": marker,
            "hoverinfo": "skip", "legendgroup": str(style.key)}  # fmt: skip


def _mark(of: Configuration, path: Path, style: Style, leak: Leak, size: float, cost: Cost | None) -> Figure:
    words, x, y = path[-1]
    spent = cost.values.get(of) if cost is not None else None
    beside = f"<br>{cost.words}: {cost.spell(spent)}" if cost is not None and spent is not None else ""
    return marker_trace(of.label, [x.value], [y.value], style, size=round(size, 1)) | {
        "error_x": error_bars([x], style, width=4) | {"color": f"${style.colour}/0.4"},
        "error_y": error_bars([y], style, width=4),
        "hovertemplate": f"<b>{label_text(of.label)}</b>, {words}<br>{label_text(x.metric)} "
        f"{with_limits(x.estimate, measure)}<br>{label_text(leak.label)} {with_limits(y.estimate, leak.spell)}{beside}"
        "<extra></extra>",
    }
