"""Where names stand beside the marks of a picture, so that each is read as its own mark's and covers nothing.

The picture is laid out here as it will be on a wide screen, about: Plotly places no text by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 700.0, 350.0
"""Of the plotted area, in pixels."""
LETTER, LINE = 7.2, 16.0
"""How wide a letter is and how high a line of text, in pixels."""
PLACES = ("top right", "bottom right", "top left", "bottom left", "top center", "bottom center")


class Mark(NamedTuple):
    """A point in the picture's own units, and how large it is drawn, in pixels across."""

    x: float
    y: float
    size: float


class _Box(NamedTuple):
    left: float
    right: float
    low: float
    high: float

    def shared(self, other: _Box) -> float:
        """The area that both cover, in square pixels."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.high, other.high) - max(self.low, other.low)
        return max(wide, 0.0) * max(tall, 0.0)

    def away(self, mark: Mark) -> float:
        """From the mark's centre to the nearest point of the box."""
        return math.hypot(
            max(self.left - mark.x, 0.0, mark.x - self.right), max(self.low - mark.y, 0.0, mark.y - self.high)
        )


def places_of(
    marks: Sequence[Mark], names: Mapping[int, str], across: tuple[float, float], upward: tuple[float, float]
) -> dict[int, str]:
    """Plotly's textposition for the marks that have names, given by their place in `marks`.

    `across` and `upward` are the ends of both axes. One after the other, from the left, each takes the place where it
    covers least of other marks and of the names that stand already, stays inside the picture, and is nearer to its own
    mark than to any other.
    """
    drawn = [Mark(_scaled(one.x, across, WIDTH), _scaled(one.y, upward, HEIGHT), one.size) for one in marks]
    taken = [
        _Box(one.x - one.size / 2, one.x + one.size / 2, one.y - one.size / 2, one.y + one.size / 2) for one in drawn
    ]
    found: dict[int, str] = {}
    for at in sorted(names, key=lambda at: drawn[at]):
        boxes = {place: _text(drawn[at], names[at], place) for place in PLACES}
        costs = {place: _cost(at, box, drawn, taken) for place, box in boxes.items()}
        found[at] = min(PLACES, key=lambda place: costs[place])
        taken.append(boxes[found[at]])
    return found


def _scaled(value: float, ends: tuple[float, float], length: float) -> float:
    low, high = ends
    return (value - low) / (high - low) * length if high > low else length / 2


def _text(mark: Mark, name: str, place: str) -> _Box:
    vertical, horizontal = place.split()
    wide, aside = LETTER * len(name), mark.size / 2
    left = {"right": mark.x + aside, "left": mark.x - aside - wide, "center": mark.x - wide / 2}[horizontal]
    low = mark.y + aside if vertical == "top" else mark.y - aside - LINE
    return _Box(left, left + wide, low, low + LINE)


def _cost(at: int, box: _Box, drawn: Sequence[Mark], taken: Sequence[_Box]) -> float:
    """In square pixels that are covered or lost, and as much as a whole name where another mark is as near."""
    area = LINE * (box.right - box.left)
    covered = sum(box.shared(other) for place, other in enumerate(taken) if place != at)
    outside = area - box.shared(_Box(0.0, WIDTH, -LINE, HEIGHT + LINE))
    own = box.away(drawn[at])
    mistaken = any(box.away(other) <= 1.5 * own for place, other in enumerate(drawn) if place != at)
    return covered + outside + (area if mistaken else 0.0)
