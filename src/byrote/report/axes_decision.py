"""What to choose at each point of a study that varies something, and the picture of every point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from byrote.report.axes import PointEntry, VariedResults
from byrote.report.axes_lines import lines_of
from byrote.report.axes_spots import Spot
from byrote.report.decision import Decision, Outcome, decision_of
from byrote.report.findings import Configuration
from byrote.report.formats import listed
from byrote.report.frontier import Frontier, frontier_of
from byrote.report.palette import Style
from byrote.report.recommendation import recommendation

MOST_FIGURES = 240
MOST_PLACES = 60

Decided = Sequence[tuple[PointEntry, Decision]]


def decided(results: VariedResults) -> Decided:
    """The decision of every point that has results."""
    return [(entry, decision_of(of_point)) for entry, of_point in results.done()]


def point_recommendations(results: VariedResults, found: Decided) -> list[str]:
    """Which method to choose where, and where none; with numbers where there is one point alone."""
    if len(results.points) == 1 and found:
        return recommendation(found[0][1])
    chosen: dict[str, list[PointEntry]] = {}
    none: dict[str, list[PointEntry]] = {}
    for entry, decision in found:
        if decision.outcome == "chosen":
            names = " or ".join(f"**{one.configuration.label}**" for one in decision.chosen)
            chosen.setdefault(names, []).append(entry)
        else:
            none.setdefault(_why(decision, decision.outcome), []).append(entry)
    said = [f"Choose {names} at {results.where(entries)}." for names, entries in chosen.items()]
    said += [f"None is recommended at {results.where(entries)}: {why}." for why, entries in none.items()]
    for labels, left in _left(found).items():
        if len(left) > 1:
            where = results.where([entry for entry, _ in found if entry.label in labels])
            said.append(f"Not dominated, so that choosing weighs utility against leakage, at {where}: {listed(left)}.")
    return said


def _why(decision: Decision, outcome: Outcome) -> str:
    """Why no method is recommended, without its numbers: each point's own report has those."""
    if outcome == "nothing":
        reasons = recommendation(decision)
        return reasons[0].removeprefix("Nothing is recommended: ").rstrip(".") if reasons else "nothing was trained"
    label = decision.contest.utility.label if decision.contest.utility is not None else "utility"
    if outcome == "useless":
        return f"no method is shown to improve {label} over the untuned model"
    which = f"method that is shown to improve {label}" if decision.summary.base is not None else "method"
    if all(decision.state(one) == "leaks" for one in decision.useful):
        return f"every {which} leaks"
    return f"no {which} is shown not to leak"


def _left(found: Decided) -> dict[tuple[str, ...], list[str]]:
    """Points by the useful methods that nothing dominates there."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for entry, decision in found:
        if decision.outcome == "unclean":
            names = tuple(
                f"**{one.configuration.label}**" for one in decision.contest.undominated() if one in decision.useful
            )
            sets.setdefault(names, []).append(entry.label)
    return {tuple(entries): list(names) for names, entries in sets.items()}


def frontier_of_points(found: Decided, spots: Sequence[Spot], look: Mapping[str, Style]) -> Frontier | None:
    """One picture of all points, with a figure for each and each measure of leakage; None where nothing is drawn."""
    lines = lines_of(spots)
    of_points: dict[str, Frontier] = {}
    for entry, decision in found[:MOST_PLACES]:
        styles: dict[Configuration, Style] = {
            spot.configuration: look[lines[spot].label] for spot in spots if spot.entry.key == entry.key
        }
        if (frontier := frontier_of(decision, styles)) is not None:
            of_points[entry.label] = frontier
    if not of_points:
        return None
    first = next(iter(of_points.values()))
    labels = list(dict.fromkeys(label for one in of_points.values() for label in one.labels))
    judged = first.labels[first.start]
    labels = sorted(labels, key=lambda label: label != judged)[: max(MOST_FIGURES // len(of_points), 1)]
    figures = [
        one.figures[one.labels.index(label)] if label in one.labels else None
        for one in of_points.values()
        for label in labels
    ]
    size = first.size.split(":")[0] + ", by the logarithm within each point." if first.size else ""
    return replace(first, labels=labels, figures=figures, start=0, size=size, places=tuple(of_points))
