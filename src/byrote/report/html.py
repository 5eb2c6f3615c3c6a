"""The report as one HTML file that opens without a network: text, tables and pictures with plotly's script inside.

The page forbids itself every connection (a content security policy), so that no reader's browser
tells anyone that it was opened. Record texts are in it only where that was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byrote.report.accounts import accounts
from byrote.report.answer import answer, meanings
from byrote.report.audited_epsilon import audited_epsilon_of
from byrote.report.canary_exposure import canary_exposure_of
from byrote.report.claims_section import claims_section
from byrote.report.decision import decision_of
from byrote.report.exposed import exposed_of
from byrote.report.extraction import comes_out
from byrote.report.figures import Figure, pictures
from byrote.report.frontier import frontier_of
from byrote.report.inner_curves import Curves, curves_of
from byrote.report.limits import limit_of
from byrote.report.pairwise import pairwise_of
from byrote.report.palette import DARK, LIGHT, styles, variables
from byrote.report.privacy import privacy_of
from byrote.report.recommendation import recommendation, rule_of
from byrote.report.results import Results
from byrote.report.row_table import Rows
from byrote.report.run_facts import RunFacts
from byrote.report.shadow_curve import strength_of
from byrote.report.summary import Summary
from byrote.report.tables import (
    attack_rows,
    cost_lines,
    leakage_columns,
    other_measures,
    side_by_side,
    summary_lines,
    utility_columns,
    utility_lines,
    utility_notes,
)
from byrote.report.whiskers import scale_of, whisker
from byrote.report.wrong_labels import wrong_labels_of
from byrote.types import ByroteError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MOST_TABLED = 100
"""Methods that a table has a line for: of more, the rows that can be filtered have all."""
TITLES = {
    "epochs": "Leakage as training goes on",
    "roc": "How many members are found, and at what cost in false alarms",
    "scores": "What the attack sees",
    "shadows": "What more shadow models find",
}


def report_html(results: Results, show_text: bool = False) -> str:
    """The whole page. Everything from the study is escaped; figures travel as JSON that cannot close its script.

    `show_text` puts the texts of the most exposed records on it, where the last run kept them.
    """
    decision = decision_of(results)
    whole = decision.summary
    summary = Summary(results, MOST_TABLED) if len(whole.tuned) > MOST_TABLED else whole
    figures, curves = pictures(summary), curves_of(results)
    look = styles(summary.configurations)
    scale = scale_of(summary)
    frontier, exposed, rows = (
        frontier_of(decision, look),
        exposed_of(summary, show_text=show_text),
        Rows.of(results.rows),
    )
    drawn = figures | _drawn(curves) | ({"frontier": frontier.figures} if frontier is not None else {})
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            manifest=results.manifest,
            results=results,
            recommended=[bold(sentence) for sentence in recommendation(decision)],
            rule=rule_of(decision),
            undominated={one.configuration.label for one in decision.contest.undominated()},
            frontier=frontier,
            judged=summary.headline is not None,
            answer=[bold(sentence) for sentence in answer(whole)],
            claims=claims_section(results),
            columns=leakage_columns(summary) + utility_columns(summary),
            lines=[(line, whisker(summary, line.finding, scale, look)) for line in summary_lines(summary)],
            methods=[one.configuration.label for one in summary.findings],
            key=[(look[of].key, of.label, look[of]) for of in (one.configuration for one in summary.drawn)],
            left_out=_left_out(whole),
            not_tabled=_not_tabled(whole),
            marks={one.label: style.svg for one, style in look.items()},
            verdicts=meanings(summary),
            attack_rows=attack_rows(summary),
            strength=strength_of(summary),
            measures=other_measures(summary),
            pairs=pairwise_of(summary),
            privacy=privacy_of(summary),
            wrong_labels=wrong_labels_of(summary),
            audited=audited_epsilon_of(summary),
            canaries=canary_exposure_of(summary),
            comes_out=comes_out(summary),
            costs=cost_lines(summary),
            utilities_shown=len(side_by_side(summary)),
            utility_lines=utility_lines(summary),
            utility_notes=utility_notes(summary),
            levels=any(style.level for style in look.values()),
            limits=any(map(limit_of, accounts(results.evidence))),
            pictures={name: TITLES[name] for name, found in figures.items() if any(found)},
            curves=curves,
            chosen=_chosen(summary),
            rows=rows,
            exposed=exposed,
            with_texts=exposed is not None and any(one.text is not None for one in exposed.records),
            facts=RunFacts.of(summary),
            light=variables(LIGHT),
            dark=variables(DARK),
            figures=script_json({"light": LIGHT, "dark": DARK, "pictures": drawn}),
            plotly=plotly_script() if any(any(found) for found in drawn.values()) else "",
        )
    )  # fmt: skip


def _not_tabled(summary: Summary) -> str:
    """Which methods tables have no room for; empty where they show all."""
    tuned = len(summary.tuned)
    if tuned <= MOST_TABLED:
        return ""
    return f"The first {MOST_TABLED} of {tuned:,} methods stand in the tables; all of them under Every number."


def _left_out(summary: Summary) -> str:
    """Which methods pictures have no room for; empty where they show all."""
    drawn, tuned = len(summary.drawn_tuned), len(summary.tuned)
    return f"The first {drawn} of {tuned:,} methods are drawn; the tables have their numbers." if drawn < tuned else ""


def bold(sentence: str) -> Markup:
    """A sentence of the answer as HTML: **bold** as <strong>, numbers kept with their intervals, all else escaped."""
    from markupsafe import Markup, escape

    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(sentence)))
    return Markup(
        re.sub(r"((?:AUC|difference|excess|by) [−+\d.]+ )(\[[^\]]+\])", r'\1<span class="keep">\2</span>', text)
    )


def script_json(value: Any) -> Markup:
    """JSON that can stand inside a script element whatever its strings hold."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def plotly_script() -> Markup:
    """plotly.js from the installed plotly package, which is found without being loaded."""
    from markupsafe import Markup

    package = find_spec("plotly")
    if package is None or package.origin is None:
        raise ByroteError("the report draws with plotly, which is not installed: pip install plotly")
    script = Path(package.origin).parent / "package_data" / "plotly.min.js"
    return Markup(script.read_text(encoding="utf-8"))


def _drawn(curves: Curves) -> dict[str, list[Figure | None]]:
    return {picture.name: picture.figures for picture in curves.pictures}


def _chosen(summary: Summary) -> int:
    attacks: Sequence[object] = summary.results.evidence.attacks
    return attacks.index(summary.headline) if summary.headline else 0


def environment() -> Environment:
    """The pages' templates; everything is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("byrote.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"contents": contents, "script_json": script_json}
    return made


def contents(body: Markup) -> list[tuple[str, Markup]]:
    """The sections of a page, each with the address of its title, as they stand in it."""
    from markupsafe import Markup

    return [(name, Markup(title)) for name, title in re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body, re.S)]
