"""Small drawings of an interval against its null, for the summary table: they print, and need no script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from byrote.report.findings import Configuration, Finding
from byrote.report.formats import rate
from byrote.report.palette import Style
from byrote.report.rows import Row
from byrote.report.summary import Summary

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT, PAD = 116, 18, 5


def scale_of(summary: Summary) -> tuple[float, float]:
    """The range of AUC that every drawing of the table shares: at least 0.4 to 1."""
    rows = [row for one in summary.findings if (row := _row(summary, one)) is not None]
    lows = [value for row in rows for value in (row.value, row.low, row.null_value) if value is not None]
    return min([0.4, *lows]), 1.0


def whisker(
    summary: Summary, one: Finding | None, scale: tuple[float, float], look: Mapping[Configuration, Style]
) -> Markup | None:
    """One interval with its value and a tick at the null; None where there is no value."""
    from markupsafe import Markup

    row = _row(summary, one) if one is not None else None
    if one is None or row is None or row.value is None:
        return None
    colour = f"var(--{look[one.configuration].colour})"
    value, middle = _place(row.value, scale), HEIGHT / 2
    parts = [f'<line x1="{PAD}" x2="{WIDTH - PAD}" y1="{middle}" y2="{middle}" stroke="var(--line)"/>']
    words = f"AUC {rate(row.value)}"
    if row.low is not None and row.high is not None:
        low, high = _place(row.low, scale), _place(row.high, scale)
        parts.append(
            f'<line x1="{low}" x2="{high}" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="3" '
            'stroke-linecap="round" opacity=".55"/>'
        )
        words += f", interval {rate(row.low)} to {rate(row.high)}"
    if row.null_value is not None:
        null = _place(row.null_value, scale)
        parts.append(
            f'<line x1="{null}" x2="{null}" y1="2" y2="{HEIGHT - 2}" stroke="var(--muted)" stroke-width="1.5"/>'
        )
        words += f", null {rate(row.null_value)}"
    parts.append(f'<circle cx="{value}" cy="{middle}" r="4" fill="{colour}"/>')
    return Markup(
        f'<svg class="whisker" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{words}">{"".join(parts)}</svg>'
    )  # fmt: skip


def _row(summary: Summary, one: Finding) -> Row | None:
    return one.auc.get(summary.headline) if summary.headline else None


def _place(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return round(PAD + (WIDTH - 2 * PAD) * (value - low) / (high - low), 1)
