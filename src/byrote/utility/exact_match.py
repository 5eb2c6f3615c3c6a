"""Exact match of generated completions."""

from __future__ import annotations

from typing import ClassVar

from byrote.registry import register
from byrote.utility.base import Form
from byrote.utility.generated import Generated


@register("utility", "exact-match")
class ExactMatch(Generated):
    """The share of test records whose generated completion is the record's, white space aside.

    Runs of white space count as one space; everything else, letter case included, must be equal.
    """

    metric: ClassVar[str] = "exact-match"
    unit: ClassVar[str] = ""
    form: ClassVar[Form] = "rate"
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    def compare(self, said: str, wanted: str) -> tuple[float, ...]:
        """1 or 0; every record counts the same."""
        return float(said.split() == wanted.split()), 1.0
