"""Colours, marks and lines of methods: the same in every picture, told apart without colour too.

Methods that move parameters are warm, filled and solid; prompt-based ones are cool, open and
dashed; the untuned model is grey. Within a family lightness differs, so that the palette holds
for colour-blind eyes and on paper. The privacy levels of a method share its colour and its dash: the
shape of the mark and the width of the line tell them apart. A figure names a colour as "$parameter-1"
or "$fg/0.5" (with opacity), and the page puts in the value for light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from byrote.report.findings import Configuration
from byrote.report.privacy_rows import without_privacy

LIGHT = {
    "bg": "#fdfdfb", "panel": "#f4f4f0", "fg": "#1d1e20", "muted": "#5b6067", "line": "#d9dad6", "accent": "#0a58a8",
    "parameter-1": "#b3340a", "parameter-2": "#cc8400", "parameter-3": "#93207a", "parameter-4": "#6b5d3a",
    "prompt-1": "#0a58a8", "prompt-2": "#12908e", "prompt-3": "#7566dd", "prompt-4": "#3f8fca",
    "none-1": "#6b7078", "bad": "#a32014", "good": "#1c6b3c", "unsure": "#7a5a00",
}  # fmt: skip
DARK = {
    "bg": "#131416", "panel": "#1c1d20", "fg": "#e8e8e5", "muted": "#a3a7ad", "line": "#36393e", "accent": "#74b4ff",
    "parameter-1": "#ff7f50", "parameter-2": "#f2b53c", "parameter-3": "#e68fd3", "parameter-4": "#c4b38a",
    "prompt-1": "#5aa9ff", "prompt-2": "#45cbbd", "prompt-3": "#ab9fff", "prompt-4": "#93d4ff",
    "none-1": "#9a9fa7", "bad": "#ff8a7a", "good": "#74d39a", "unsure": "#e8c15a",
}  # fmt: skip
SYMBOLS = {
    "parameter": ("circle", "square", "triangle-up", "diamond", "pentagon", "star"),
    "prompt": ("circle-open", "square-open", "triangle-up-open", "diamond-open", "pentagon-open", "star-open"),
    "none": ("x-thin-open",),
}
DASHES = {"parameter": ("solid",), "prompt": ("dash", "dot", "dashdot"), "none": ("solid",)}
SHADES = {"parameter": 4, "prompt": 4, "none": 1}
WIDTHS = (2.4, 1.7, 1.2, 0.9)


@dataclass(frozen=True, slots=True)
class Style:
    """How one configuration is drawn: its place in the key, a colour's name, a plotly symbol and dash, a line's width.

    `level` is its privacy level in words, to be written beside a mark where levels stand beside each other.
    """

    key: int
    colour: str
    symbol: str
    dash: str
    width: float = 2.0
    level: str = ""

    @property
    def svg(self) -> str:
        """The mark as the inside of an SVG of 14 by 14, for tables and keys."""
        shape = _SHAPES[self.symbol.removesuffix("-open")]
        if self.symbol == "x-thin-open":
            return f'<path d="{shape}" fill="none" stroke="var(--{self.colour})" stroke-width="2"/>'
        fill = "none" if self.symbol.endswith("-open") else f"var(--{self.colour})"
        return f'<path d="{shape}" fill="{fill}" stroke="var(--{self.colour})" stroke-width="2"/>'

    @property
    def line_svg(self) -> str:
        """A piece of the line as the inside of an SVG of 26 by 14, for keys."""
        dashes = {"dash": "6 4", "dot": "2 3", "dashdot": "7 3 2 3"}.get(self.dash, "none")
        stroke = f'stroke="var(--{self.colour})" stroke-width="{self.width}" stroke-dasharray="{dashes}"'
        return f'<path d="M1 7H25" fill="none" {stroke}/>'


_SHAPES = {
    "circle": "M7 2.5a4.5 4.5 0 1 0 .01 0z",
    "square": "M3 3h8v8H3z",
    "triangle-up": "M7 2.2L12 11.2H2z",
    "diamond": "M7 1.6L12.2 7L7 12.4L1.8 7z",
    "pentagon": "M7 1.8L12.3 5.7L10.3 12H3.7L1.7 5.7z",
    "star": "M7 1.5L8.6 5.2L12.6 5.6L9.6 8.2L10.5 12.2L7 10.1L3.5 12.2L4.4 8.2L1.4 5.6L5.4 5.2z",
    "x-thin": "M3 3L11 11M11 3L3 11",
}


def styles(configurations: Sequence[Configuration]) -> dict[Configuration, Style]:
    """A style for each configuration: by the place of its method within its family, and by its privacy level.

    Where the study has one level only, marks tell methods apart; else they tell levels apart.
    """
    levels = list(dict.fromkeys((one.privacy, one.delta) for one in configurations if one.method != "none"))
    levels.sort(key=lambda level: level[0] != "none")
    methods: dict[str, list[tuple[str, str]]] = {}
    found: dict[Configuration, Style] = {}
    for one in configurations:
        places = methods.setdefault(one.family, [])
        method = (one.method, without_privacy(one.settings))
        if method not in places:
            places.append(method)
        place, level = places.index(method), (one.privacy, one.delta)
        at = levels.index(level) if level in levels else 0
        symbols, dashes, shades = SYMBOLS[one.family], DASHES[one.family], SHADES[one.family]
        mark = place if len(levels) == 1 else at + len(levels) * (place // shades)
        found[one] = Style(
            key=len(found),
            colour=f"{one.family}-{place % shades + 1}",
            symbol=symbols[mark % len(symbols)],
            dash=dashes[place % len(dashes)],
            width=2.0 if len(levels) == 1 else WIDTHS[min(at, len(WIDTHS) - 1)],
            level=one.level if len(levels) > 1 else "",
        )
    return found


def variables(colours: dict[str, str]) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
