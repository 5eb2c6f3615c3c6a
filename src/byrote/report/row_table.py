"""Every row of the results as one compact value, which the page shows in pages and filters in the browser.

What repeats is written once and pointed to: a page must hold the rows of thousands of runs and open at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from byrote.report.axes import PointRow
from byrote.report.estimates import POOLED
from byrote.report.findings import RATE_FIELDS, labels_of
from byrote.report.measures import label, level_label
from byrote.report.privacy_rows import without_privacy
from byrote.report.rows import Row
from byrote.store import canonical_json

MOST = 100_000
"""Rows on one page: some 6 MB. The files beside it hold all."""
FILTERS = ("point", "method", "privacy", "seed", "kind", "measure", "metric")
FIRST = ("point", "method", "privacy", "measure", "metric", "slice")
NUMBERS = ("value", "low", "high", "n", "null")
LAST = ("seed", "epoch", "kind", "interval", "run", "reason")
DROPS: tuple[tuple[str, Callable[[Row, int | None, bool], bool]], ...] = (
    (
        "epochs before the last",
        lambda row, last, pooled: row.epoch is not None and last is not None and row.epoch < last,
    ),
    ("slices", lambda row, last, pooled: bool(row.slice)),
    ("single seeds", lambda row, last, pooled: pooled and row.seed is not None and row.kind in POOLED),
    ("what has no value", lambda row, last, pooled: row.value is None),
    ("costs", lambda row, last, pooled: row.kind == "cost"),
)
"""What is left out where rows are too many, in this order, by the row, its run's last epoch, and whether seeds are
pooled."""


class Rows(NamedTuple):
    """The value for the browser, of how many rows, and in words which of them are left out."""

    held: dict[str, Any]
    size: int
    left_out: str

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rows | None:
        """None where there are no rows."""
        kept, left_out = _bounded(rows)
        return cls(row_table(kept), len(rows), left_out) if rows else None


def row_table(kept: Sequence[Row]) -> dict[str, Any]:
    """{"columns", "filters", "words": {column: [...]}, "rows": {column: [...]}}.

    A column of `words` is held in `rows` as places in it; the others are numbers, null where absent.
    """
    columns: dict[str, list[Any]] = {name: list(values) for name, values in _columns(kept)}
    words: dict[str, list[str]] = {}
    for name in (*FIRST, *LAST):
        if name in columns:
            places = {word: at for at, word in enumerate(dict.fromkeys(columns[name]))}
            words[name] = list(places)
            columns[name] = [places[word] for word in columns[name]]
    shown = [name for name in (*FIRST, *NUMBERS, *LAST) if name in columns and words.get(name) != [""]]
    return {
        "columns": shown,
        "filters": [name for name in FILTERS if len(words.get(name, ())) > 1],
        "words": {name: words[name] for name in shown if name in words},
        "rows": {name: columns[name] for name in shown},
    }


def _bounded(rows: Sequence[Row]) -> tuple[Sequence[Row], str]:
    """At most `MOST` rows, and in words which are left out."""
    if len(rows) <= MOST:
        return rows, ""
    lasts: dict[tuple[object, ...], int] = {}
    for row in rows:
        if row.epoch is not None:
            lasts[_run(row)] = max(row.epoch, lasts.get(_run(row), 0))
    out, pooled = [], any(row.seed is None and not row.run_id for row in rows)
    for words, drops in DROPS:
        kept = [row for row in rows if not drops(row, lasts.get(_run(row)), pooled)]
        out += [words] if len(kept) < len(rows) else []
        rows = kept
        if len(rows) <= MOST:
            return rows, ", ".join(out)
    return rows[:MOST], ", ".join([*out, f"and all but the first {MOST:,} of what is left"])


def _run(row: Row) -> tuple[object, ...]:
    point = row.point if isinstance(row, PointRow) else ""
    return point, row.method, row.privacy, row.delta, row.seed, row.run_id


def _columns(rows: Sequence[Row]) -> Iterable[tuple[str, Iterable[Any]]]:
    apart: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows:
        if (row.settings, row.name) not in apart:
            apart[row.settings, row.name] = _apart(row)
    split = [apart[row.settings, row.name] for row in rows]
    keys = [(row.method, method, "none", None) for row, (method, _) in zip(rows, split, strict=True)]
    names = labels_of(list(dict.fromkeys(keys)))
    if any(isinstance(row, PointRow) and row.point for row in rows):
        yield "point", (_point(row) for row in rows)
    yield "method", (names[key] for key in keys)
    yield "privacy", (level_label(row.privacy) for row in rows)
    yield "seed", ("all seeds" if row.seed is None and not row.run_id else _text(row.seed) for row in rows)
    yield "epoch", (_text(row.epoch) for row in rows)
    yield "kind", (row.kind for row in rows)
    yield "measure", (label(row.name, own, RATE_FIELDS) for row, (_, own) in zip(rows, split, strict=True))
    yield "metric", (row.metric for row in rows)
    yield "slice", (row.slice for row in rows)
    yield "value", (_short(row.value) for row in rows)
    yield "low", (_short(row.low) for row in rows)
    yield "high", (_short(row.high) for row in rows)
    yield "n", (row.n for row in rows)
    yield "null", (_short(row.null_value) for row in rows)
    yield "interval", (row.interval for row in rows)
    yield "run", (row.run_id for row in rows)
    yield "reason", (row.reason for row in rows)


def _apart(row: Row) -> tuple[str, str]:
    """The method's own settings without those of its privacy level, and the measure's: a row holds them together."""
    merged: dict[str, Any] = json.loads(row.settings or "{}")
    own = merged.pop(row.name, None) if isinstance(merged.get(row.name), dict) else None
    method = without_privacy(canonical_json(merged) if merged else "")
    return method, canonical_json(own) if own else ""


def _point(row: Row) -> str:
    """'tiny, aws-docs, epochs 2': narrow enough for a column."""
    values = json.loads(row.point or "{}") if isinstance(row, PointRow) else {}
    found = []
    for path, value in values.items():
        word = value.get("source", canonical_json(value)) if isinstance(value, dict) else value
        plain = str(word).removeprefix("builtin:")
        found.append(plain if path in ("model", "data") else f"{path} {plain}")
    return ", ".join(found)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _short(number: float | None) -> float | None:
    """Four digits: the files beside the page hold them all."""
    return None if number is None else float(f"{number:.4g}")
