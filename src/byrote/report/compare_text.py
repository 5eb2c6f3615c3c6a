"""Two results folders side by side in words: a table, what it can and cannot say, and what the two do not share."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from byrote.report.compare import ALPHA, Compared, Comparison
from byrote.report.console import aligned
from byrote.report.formats import ABSENT, limits, listed, measure, rate, signed
from byrote.report.markdown import bullets, plain, table_of
from byrote.report.pairwise import p_words

COLUMNS = (
    "point", "model", "data", "configuration", "seeds", "kind", "name", "settings", "metric", "slice",
    "value_1", "low_1", "high_1", "n_1", "value_2", "low_2", "high_2", "n_2",
    "difference", "is_ratio", "low", "high", "n", "interval", "records", "p", "holm_p", "verdict", "reason",
)  # fmt: skip
HEADS = ("model", "number", "first", "second", "second less first", "records", "p", "verdict")
LONGEST = 70
"""Characters of a setting in the text."""


def text_of(compared: Compared) -> str:
    """For a terminal: an aligned table and sentences."""
    parts = [f"first:  {compared.first}\nsecond: {compared.second}"]
    if compared.rows:
        parts.append(aligned([HEADS, *map(_cells, compared.rows)], left=(0, 1)))
    parts += ["\n".join(sentences(compared))]
    if compared.settings:
        lines = [("setting", "first", "second"), *_settings(compared)]
        parts.append("Settings that differ:\n" + aligned(lines, left=(0, 1)))
    for side, only in _only(compared):
        parts.append(f"Only in the {side}:\n" + "\n".join(f"  {line}" for line in only))
    return "\n\n".join(parts) + "\n"


def markdown_of(compared: Compared) -> str:
    """The same as Markdown."""
    parts = [f"# {plain(compared.second)} against {plain(compared.first)}"]
    if compared.rows:
        parts.append(table_of(HEADS, map(_cells, compared.rows)))
    parts.append(bullets(sentences(compared)))
    if compared.settings:
        parts += ["## Settings that differ", table_of(("setting", "first", "second"), _settings(compared))]
    for side, only in _only(compared):
        parts += [f"## Only in the {side}", bullets(only)]
    return "\n\n".join(parts) + "\n"


def csv_of(compared: Compared) -> str:
    """A row for each number that both have; numbers in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_record, compared.rows))
    return text.getvalue()


def json_of(compared: Compared) -> str:
    """Everything, for a machine."""
    settings = [one._asdict() for one in compared.settings]
    found = {
        "first": compared.first, "second": compared.second, "tested": len(compared.tested), "alpha": ALPHA,
        "rows": [_record(row) for row in compared.rows], "settings": settings,
        "only_first": list(compared.only_first), "only_second": list(compared.only_second),
    }  # fmt: skip
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def sentences(compared: Compared) -> list[str]:
    """What was compared, how, and what it comes to."""
    tested = compared.tested
    if not compared.rows:
        return ["Nothing was measured in both: no number is compared."]
    found = [f"{len(compared.rows)} numbers stand in both; {len(tested)} differences were tested."]
    if tested:
        apart = [row for row in tested if row.verdict in ("higher", "lower")]
        found.append(
            f"{len(apart)} differ at {ALPHA:g} after Holm's correction for all {len(tested)}: of so many, some "
            "intervals exclude no difference by chance, so that alone is not enough."
        )
    ways = {
        "paired": "on the very same records, so their common chance cancels",
        "independent": "taken as of independent records, which the wider interval pays for",
        "missing": "one of the two has no such number, for the reason given",
        "same run": "one trained model that both folders show: there is nothing to compare",
    }
    for way, words in ways.items():
        count = sum(row.records == way for row in compared.rows)
        if count:
            found.append(f"{way}: {count}, {words}.")
    if any(row.verdict == "not resolved" for row in tested):
        found.append("Not resolved: neither a difference nor its absence is shown.")
    if any(row.is_ratio for row in compared.rows):
        found.append("Perplexities are compared by their ratio, second over first.")
    if compared.one_seed and tested:
        found.append(
            "With one seed these are differences between the models trained here; another training by the same "
            "settings may differ."
        )
    return found


def _cells(row: Comparison) -> list[str]:
    seeds = f"seed {row.seeds[0]}" if len(row.seeds) == 1 else f"{len(row.seeds)} seeds"
    spell = rate if row.identity.kind != "utility" and row.identity.kind not in ("privacy", "cost") else measure
    values = [f"{spell(one.value)} {limits(one, spell)}".rstrip() for one in (row.first, row.second)]
    change = row.difference.reason or ABSENT
    if row.difference.value is not None:
        change_by = rate if row.is_ratio else signed
        times = "×" if row.is_ratio else ""
        change = f"{times}{change_by(row.difference.value)} {limits(row.difference, change_by)}".rstrip()
    model = ", ".join(filter(None, [row.point, row.configuration, seeds]))
    return [model, row.identity.label, *values, change, row.records, p_words(row.holm_p), row.verdict]


def _record(row: Comparison) -> dict[str, Any]:
    of, gap = row.identity, row.difference
    seeds = " ".join(map(str, row.seeds))
    sides = [number for one in (row.first, row.second) for number in (one.value, one.low, one.high, one.n)]
    values = (
        row.point, row.model, row.data, row.configuration, seeds, *of, *sides,
        gap.value, row.is_ratio, gap.low, gap.high, gap.n, gap.interval,
        row.records, row.p, row.holm_p, row.verdict, gap.reason,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _settings(compared: Compared) -> list[tuple[str, str, str]]:
    """Each once, with the points where it is not so everywhere."""
    points: dict[tuple[str, str, str], list[str]] = {}
    for one in compared.settings:
        points.setdefault((one.path, _short(one.first), _short(one.second)), []).append(one.point)
    everywhere = len({one.point for one in compared.settings})
    return [
        (path if len(of) == everywhere else f"{path} (at {listed(of)})", first, second)
        for (path, first, second), of in points.items()
    ]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _only(compared: Compared) -> list[tuple[str, Sequence[str]]]:
    return [(side, only) for side, only in (("first", compared.only_first), ("second", compared.only_second)) if only]
