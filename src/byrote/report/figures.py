"""The pictures as plain plotly dictionaries, one for each attack, so that the page can switch between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from byrote.report.accounts import accounts
from byrote.report.curves import density, pooled_roc, spread_of_scores
from byrote.report.findings import Configuration, Finding
from byrote.report.formats import rate, with_limits
from byrote.report.limits import limit_traces, limits_of
from byrote.report.measures import Attack
from byrote.report.palette import Style, styles
from byrote.report.rows import Row
from byrote.report.shadow_curve import lines_of
from byrote.report.summary import Summary

Figure = dict[str, Any]
CHANCE = {"color": "$muted", "width": 1.2, "dash": "dash"}


def pictures(summary: Summary) -> dict[str, list[Figure | None]]:
    """Each picture with one figure for each attack of the study; None where an attack has nothing to draw."""
    look = styles(summary.configurations)
    attacks = summary.results.evidence.attacks
    return {
        "epochs": [auc_per_epoch(summary, attack, look) for attack in attacks],
        "roc": [roc(summary, attack, look) for attack in attacks],
        "scores": [score_distributions(summary, attack, look) for attack in attacks],
        "shadows": [shadows(summary, look)] * len(attacks),
    }


def label_text(text: str) -> str:
    """Text for a label of plotly, which reads HTML: nothing of it is markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def auc_per_epoch(summary: Summary, attack: Attack, look: dict[Configuration, Style]) -> Figure | None:
    """AUC after every epoch, with intervals, beside the null."""
    traces = []
    tuned = [one for one in summary.drawn_tuned if one.configuration.trained]
    for place, one in enumerate(tuned):
        found = [
            (at, words, summary.index.get(one.configuration, epoch, attack, "auc"))
            for epoch, at, words in epochs_of(summary, one)
        ]
        known = [(at, words, row) for at, words, row in found if row is not None and row.value is not None]
        if not known:
            continue
        style = look[one.configuration]
        shift = (place - (len(tuned) - 1) / 2) * min(0.05, 0.3 / len(tuned))
        xs, ys = [at + shift for at, _, _ in known], [row.value for *_, row in known]
        trace = marker_trace(one.configuration.label, xs, ys, style, size=8)
        trace |= {
            "mode": "lines+markers",
            "line": {"color": f"${style.colour}", "width": style.width, "dash": style.dash},
            "error_y": error_bars([row for *_, row in known], style, width=2),
            "text": [f"{words}: {with_limits(row.estimate)}" for _, words, row in known],
            "hovertemplate": f"<b>{label_text(one.configuration.label)}</b><br>%{{text}}<extra></extra>",
        }
        traces.append(trace)
    if not traces:
        return None
    layout = plain_layout("epoch", f"AUC of {attack.label}", null_of(summary, attack))
    epochs = sorted({at for one in tuned for epoch, at, _ in epochs_of(summary, one) if epoch is not None})
    if len(epochs) <= 20:
        layout["xaxis"] |= {"tickmode": "array", "tickvals": epochs}
    return {"data": traces, "layout": layout}


def roc(summary: Summary, attack: Attack, look: dict[Configuration, Style]) -> Figure | None:
    """True- against false-positive rate on log axes at the last epoch, from the lowest FPR that is resolved."""
    curves = [(one, pooled_roc(summary, one, attack)) for one in summary.drawn]
    known = [(one, curve) for one, curve in curves if curve is not None]
    if not known:
        return None
    traces = []
    for one, curve in known:
        style = look[one.configuration]
        name = label_text(one.configuration.label)
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": name, "legendgroup": str(style.key), "x": curve.fpr,
                "y": curve.tpr,
                "line": {"color": f"${style.colour}", "width": style.width, "dash": style.dash},
                "hovertemplate": f"<b>{name}</b><br>TPR %{{y:.3f}} at FPR %{{x:.3f}}<extra></extra>",
            }
        )  # fmt: skip
    start = min(curve.fpr[0] for _, curve in known)
    traces.append(
        {"type": "scatter", "mode": "lines", "name": "chance", "x": [start, 1], "y": [start, 1], "line": CHANCE,
         "hoverinfo": "skip"}
    )  # fmt: skip
    shown = {one.configuration for one, _ in known}
    limits = [limit for limit in limits_of(accounts(summary.results.evidence)) if shown & set(limit.configurations)]
    traces += limit_traces(limits, look, start, label_text)
    layout = plain_layout("false-positive rate", "true-positive rate", None)
    lowest = min([start, *(rate for _, curve in known for rate in curve.tpr if rate)])
    ticks = [tick for tick in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if tick >= lowest * 0.8]
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{t:g}" for t in ticks]}
    return {"data": traces, "layout": layout}


def score_distributions(summary: Summary, attack: Attack, look: dict[Configuration, Style]) -> Figure | None:
    """Smoothed scores of members (coloured) and nonmembers (grey) at the last epoch, a row for each method."""
    found = [(one, spread_of_scores(summary, one, attack)) for one in summary.drawn]
    known = [(one, spread) for one, spread in found if spread is not None]
    if not known:
        return None
    low, high = min(spread.low for _, spread in known), max(spread.high for _, spread in known)
    traces: list[Figure] = []
    labels: list[Figure] = []
    for place, (one, spread) in enumerate(known):
        bottom, shapes = len(known) - 1 - place, density(spread, low, high)
        tallest = max(max(shapes.members), max(shapes.nonmembers))
        name = label_text(one.configuration.label)
        for side, heights, colour in (
            ("nonmembers", shapes.nonmembers, "muted"),
            ("members", shapes.members, look[one.configuration].colour),
        ):
            # A row is 1 high: its upper third is for the name, so that no curve runs through it.
            ys = [round(bottom + 0.68 * height / tallest, 4) for height in heights]
            traces += _filled(shapes.at, ys, bottom, colour, f"{name}: {side}, score %{{x:.3g}}<extra></extra>")
        auc = one.auc.get(attack)
        text = f"<b>{name}</b>" + (f"  AUC {rate(auc.value)}" if auc is not None and auc.value is not None else "")
        labels.append({"xref": "paper", "x": 0, "xanchor": "left", "y": bottom + 0.96, "yanchor": "top", "text": text,
                       "showarrow": False})  # fmt: skip
    layout = plain_layout(f"score of {attack.label}", "", None)
    layout["yaxis"] |= {"showticklabels": False, "showgrid": False, "range": [-0.04, len(known)]}
    layout |= {"height": 90 + 84 * len(known), "annotations": labels, "margin": {"l": 10, "r": 10, "t": 12, "b": 56}}
    return {"data": traces, "layout": layout}


def shadows(summary: Summary, look: dict[Configuration, Style]) -> Figure | None:
    """AUC against the number of shadow models, of every attack that reads any."""
    found = lines_of(summary, look)
    if found is None:
        return None
    layout = plain_layout("shadow models", "AUC", 0.5) | {"showlegend": True, "legend": {"orientation": "h", "y": -0.2}}
    counts = {"tickmode": "array", "tickvals": found.counts, "ticktext": [str(count) for count in found.counts]}
    layout["xaxis"] |= {"type": "log"} | counts
    return {"data": found.traces, "layout": layout}


def _filled(xs: list[float], ys: list[float], bottom: int, colour: str, hover: str) -> list[Figure]:
    """A curve filled down to the line at `bottom`, which plotly needs as a curve of its own."""
    base = {"type": "scatter", "mode": "lines", "x": xs}
    return [
        base | {"y": [bottom] * len(xs), "line": {"width": 0}, "hoverinfo": "skip"},
        base | {"y": ys, "fill": "tonexty", "fillcolor": f"${colour}/0.28", "hovertemplate": hover,
                "line": {"color": f"${colour}", "width": 1.6}},
    ]  # fmt: skip


def epochs_of(summary: Summary, one: Finding) -> list[tuple[int | None, float, str]]:
    """(epoch of the rows, where it is drawn, in words): every epoch that all seeds reached, in order.

    Where seeds ended at different epochs, their own last ones (None) follow, at the mean of these.
    """
    evidence = summary.results.evidence
    found = [epochs for cell in one.configuration.done if (epochs := evidence.epochs(cell))]
    shared = sorted(set(found[0]).intersection(*found)) if found else []
    trained = one.configuration.trained
    points: list[tuple[int | None, float, str]] = [
        (epoch, epoch, f"epoch {epoch}" if trained else "nothing trained") for epoch in shared
    ]
    if one.epoch is None and found:
        ends = [epochs[-1] for epochs in found]
        points.append((None, sum(ends) / len(ends), "each seed's last epoch"))
    return points


def null_of(summary: Summary, attack: Attack) -> float | None:
    """The null that all methods share: stated, or measured on the base model."""
    nulls = [one.auc[attack].null_value for one in summary.tuned if attack in one.auc]
    return next((null for null in nulls if null is not None), None)


def marker_trace(name: str, xs: Sequence[Any], ys: Sequence[Any], style: Style, size: float) -> Figure:
    colour = f"${style.colour}"
    return {
        "type": "scatter", "mode": "markers", "name": label_text(name), "legendgroup": str(style.key), "x": list(xs),
        "y": list(ys),
        "marker": {"color": colour, "size": size, "symbol": style.symbol, "line": {"color": colour, "width": 2}},
    }  # fmt: skip


def error_bars(rows: Sequence[Row], style: Style, width: int) -> Figure:
    """Asymmetric error bars from the rows' intervals; none where a row has none."""
    up = [(row.high - row.value) if row.high is not None and row.value is not None else 0.0 for row in rows]
    down = [(row.value - row.low) if row.low is not None and row.value is not None else 0.0 for row in rows]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": f"${style.colour}/0.7",
            "thickness": 1.3, "width": width}  # fmt: skip


def plain_layout(x: str, y: str, null: float | None) -> Figure:
    axis = {"gridcolor": "$line", "linecolor": "$line", "zeroline": False, "automargin": True, "ticks": ""}
    layout: Figure = {
        "xaxis": axis | {"title": {"text": label_text(x), "standoff": 10}},
        "yaxis": axis | {"title": {"text": label_text(y), "standoff": 8}},
        "font": {"color": "$fg", "size": 13},
        "showlegend": False,
        "hoverlabel": {"bgcolor": "$panel", "bordercolor": "$line", "font": {"color": "$fg"}},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "height": 420,
        "margin": {"l": 56, "r": 46, "t": 24, "b": 56}, "hovermode": "closest",
    }  # fmt: skip
    if null is not None:
        layout["shapes"] = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": null, "y1": null, "line": CHANCE,
                             "layer": "below"}]  # fmt: skip
        layout["annotations"] = [
            {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6, "y": null, "yanchor": "middle", "align": "left",
             "showarrow": False, "text": f"null<br>{rate(null)}", "font": {"size": 12, "color": "$muted"}}
        ]  # fmt: skip
    return layout
