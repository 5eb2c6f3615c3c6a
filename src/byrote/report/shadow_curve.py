"""What more shadow models find: the same attacks with fewer of them, as a table and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from byrote.report.findings import Configuration, Finding
from byrote.report.formats import percent, signed, with_limits
from byrote.report.measures import Attack, label
from byrote.report.palette import Style
from byrote.report.rows import Row
from byrote.report.shadow_rows import AGAINST, AT, PLAIN, TPR, with_shadows
from byrote.report.summary import Summary
from byrote.report.tables import AttackLine, Column, Value

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
ABOUT = (
    "The same attacks with the first few of their shadow models, at the last epoch. Where a record was seen by none of "
    "few shadow models, or by all, some attacks cannot score it; it is left out there."
)


class Strength(NamedTuple):
    """The table of what each number of shadow models finds."""

    about: str
    columns: list[Column]
    lines: list[AttackLine]


def strength_of(summary: Summary) -> Strength | None:
    """AUC and TPR at 1% FPR by the number of shadow models; None where no attack of the study has any."""
    found = list(_curves(summary))
    counts = sorted({attack.shadows for *_, points in found for attack, *_ in points})
    if not found:
        return None
    columns = [Column(f"{count} shadow models", f"AUC; TPR at {percent(AT)} FPR") for count in counts]
    columns += [Column(f"less the TPR of {PLAIN}", f"at {percent(AT)} FPR, on the same records")]
    lines = []
    for one, attack, points in found:
        known = {weaker.shadows: (auc, tpr) for weaker, auc, tpr in points}
        values = [_value(*known.get(count, (None, None))) for count in counts]
        against = summary.index.get(one.configuration, one.epoch, attack, AGAINST)
        name = f"{one.configuration.label}: {_without_count(attack)}"
        lines.append(AttackLine(name, one.configuration.family, [*values, _against(against)]))
    return Strength(ABOUT, columns, lines)


def _value(auc: Row | None, tpr: Row | None) -> Value:
    if auc is None or auc.value is None:
        return Value("–", (auc.reason,) if auc is not None else ())
    if tpr is None or tpr.value is None:
        return Value(with_limits(auc.estimate), ("TPR not resolved",))
    return Value(with_limits(auc.estimate), (f"TPR {with_limits(tpr.estimate)}",))


def _against(row: Row | None) -> Value:
    if row is None or row.value is None:
        return Value("–", ("not resolved",) if row is not None else ())
    return Value(with_limits(row.estimate, signed))


def _without_count(attack: Attack) -> str:
    """Its label; how many shadow models there are stands elsewhere."""
    return label(attack.name, attack.settings, leave_out=("shadows",))


Point = tuple[Attack, Row | None, Row | None]


def _curves(summary: Summary) -> Iterator[tuple[Finding, Attack, list[Point]]]:
    """Each method with each attack: AUC and TPR from few shadow models to all."""
    for one in summary.tuned:
        for attack in with_shadows(summary.results.evidence.attacks):
            points: list[Point] = [
                (
                    each,
                    summary.index.get(one.configuration, one.epoch, each, "auc"),
                    summary.index.get(one.configuration, one.epoch, each, TPR),
                )
                for each in (*attack.weaker, attack)
            ]
            if any(auc is not None and auc.value is not None for _, auc, _ in points):
                yield one, attack, points


class Curves(NamedTuple):
    """Lines of plotly, and the numbers of shadow models that they stand at."""

    traces: list[dict[str, Any]]
    counts: list[int]


def lines_of(summary: Summary, look: dict[Configuration, Style]) -> Curves | None:
    """AUC against the number of shadow models: a line for each method and attack."""
    attacks = with_shadows(summary.results.evidence.attacks)
    alone = len(summary.tuned) == 1
    traces = [
        _line(points, look[one.configuration], attacks.index(attack), len(attacks),
              _without_count(attack) if alone else f"{one.configuration.label}: {_without_count(attack)}")
        for one, attack, points in _curves(summary)
    ]  # fmt: skip
    counts = {each.shadows for attack in attacks for each in (*attack.weaker, attack)}
    return Curves(traces, sorted(counts)) if traces else None


def _line(points: Sequence[Point], style: Style, place: int, of: int, name: str) -> dict[str, Any]:
    known = [(each.shadows, auc) for each, auc, _ in points if auc is not None and auc.value is not None]
    name = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shift = 1.02 ** (place - (of - 1) / 2)  # side by side, so that intervals can be told apart
    up = [row.high - row.value if row.high is not None and row.value is not None else 0.0 for _, row in known]
    down = [row.value - row.low if row.low is not None and row.value is not None else 0.0 for _, row in known]
    return {
        "type": "scatter", "mode": "lines+markers", "name": name, "legendgroup": str(style.key),
        "x": [round(count * shift, 3) for count, _ in known], "y": [row.value for _, row in known],
        "line": {"color": f"${style.colour}", "width": 2, "dash": DASHES[place % len(DASHES)]},
        "marker": {"size": 6, "color": f"${style.colour}", "symbol": place % 5},
        "error_y": {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "width": 2,
                    "color": f"${style.colour}/0.7"},
        "text": [f"{count} shadow models: AUC {with_limits(row.estimate)}" for count, row in known],
        "hovertemplate": f"<b>{name}</b><br>%{{text}}<extra></extra>",
    }  # fmt: skip
