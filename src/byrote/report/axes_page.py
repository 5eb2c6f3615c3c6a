"""The overview of a study that varies something, as a page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from byrote.report.axes import VariedResults
from byrote.report.axes_decision import Decided, decided, frontier_of_points, point_recommendations
from byrote.report.axes_pictures import look_of, pictures_of
from byrote.report.axes_spots import spots_of
from byrote.report.axes_tables import Overview, PointTable
from byrote.report.claims_section import claims_markdown, claims_section
from byrote.report.frontier import Frontier
from byrote.report.html import bold, environment, plotly_script, script_json
from byrote.report.markdown import bullets, cell_words, escaped, heads_of, plain, table_of
from byrote.report.palette import DARK, LIGHT, styles, variables
from byrote.report.recommendation import rule_of
from byrote.report.row_table import Rows
from byrote.report.run_facts import environment_of
from byrote.report.whiskers import scale_of, whisker


def axes_html(results: VariedResults) -> str:
    """The whole page; it opens offline, and each point's own page from it."""
    overview = Overview(results)
    spots = spots_of(results)
    look = look_of(results, spots)
    pictures = pictures_of(results, spots, look)
    found = decided(results)
    frontier, rows = frontier_of_points(found, spots, look), Rows.of(results.rows)
    drawn = {picture.name: picture.figures for picture in pictures}
    drawn |= {"frontier": frontier.figures} if frontier is not None else {}
    return (
        environment()
        .get_template("axes.html.j2")
        .render(
            overview=overview,
            manifest=results.manifest,
            results=results,
            claims=claims_section(results),
            recommended=[bold(sentence) for sentence in point_recommendations(results, found)],
            undominated={entry.label: {one.configuration.label for one in decision.contest.undominated()}
                         for entry, decision in found},
            rule=next((rule for _, decision in found if (rule := rule_of(decision))), ""),
            frontier=frontier,
            levels=any(style.level for style in look.values()),
            left_out="" if frontier is None or len(found) == len(frontier.places) else _not_drawn(found, frontier),
            answer=[bold(sentence) for sentence in overview.answer()],
            drawings=_drawings(overview),
            links={point.entry.label: _link(point) for point in overview.tables},
            marks=_own_marks(overview) | {name: style.svg for name, style in look.items()},
            key=[(style.key, name, style) for name, style in look.items()],
            pictures=pictures,
            light=variables(LIGHT),
            dark=variables(DARK),
            rows=rows,
            facts=environment_of([of_point.evidence for _, of_point in results.done()]),
            figures=script_json({"light": LIGHT, "dark": DARK, "pictures": drawn}),
            plotly=plotly_script() if any(any(figures) for figures in drawn.values()) else "",
        )
    )  # fmt: skip


def _not_drawn(found: Decided, frontier: Frontier) -> str:
    return f"{len(frontier.places)} of {len(found)} points are drawn here; each has its own report."


def _drawings(overview: Overview) -> dict[tuple[str, str], object]:
    """The interval of each point and method, all on one scale."""
    scales = [scale_of(summary) for _, summary in overview.summaries]
    scale = (min((low for low, _ in scales), default=0.4), 1.0)
    found: dict[tuple[str, str], object] = {}
    for point in overview.tables:
        if point.summary is None:
            continue
        look = styles(point.summary.configurations)
        for each in point.lines:
            found[point.entry.label, each.line.label] = whisker(point.summary, each.line.finding, scale, look)
    return found


def _own_marks(overview: Overview) -> dict[str, str]:
    """Marks as each point's own page has them, for methods that failed and so are in no picture."""
    return {
        one.label: style.svg
        for _, summary in overview.summaries
        for one, style in styles(summary.configurations).items()
    }


def _link(point: PointTable) -> str:
    """Where its own page is; empty where it has none."""
    return f"{quote(point.entry.folder)}/report.html" if point.summary is not None else ""


def axes_markdown(results: VariedResults) -> str:
    """The same as Markdown: the answer, a row for each point and method, every warning."""
    overview, manifest = Overview(results), results.manifest
    parts = [f"# {plain(manifest.name)}", f"*{plain(manifest.question)}*"]
    parts += [f"**{plain(banner)}**" for banner in results.banners]
    parts += [escaped(sentence) for sentence in point_recommendations(results, decided(results))]
    parts += [escaped(sentence) for sentence in overview.answer()]
    parts += claims_markdown(results)
    header = [
        "point",
        "method",
        *(["verdict"] if overview.judged else []),
        *heads_of(overview.columns[overview.skipped :]),
    ]
    parts += ["## Point by point", table_of(header, _rows(overview))]
    parts += [bullets([f"{verdict}: {meaning}." for verdict, meaning in overview.meanings().items()])]
    links = [f"- [{plain(label)}]({link})" for label, link in _links(overview).items()]
    parts += ["## Every point's own report", "\n".join(links)] if links else []
    if results.failed:
        parts += ["## What failed", table_of(["point", "run", "why"], results.failed)]
    if results.warnings:
        parts += ["## Before you trust a number", bullets(results.warnings)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _links(overview: Overview) -> dict[str, str]:
    found = {point.entry.label: _link(point).replace("report.html", "report.md") for point in overview.tables}
    return {label: link for label, link in found.items() if link}


def _rows(overview: Overview) -> Iterator[list[str]]:
    for point in overview.tables:
        for each in point.lines:
            verdict = [each.line.verdict] if overview.judged else []
            yield [point.entry.label, each.line.label, *verdict, *map(cell_words, each.values[overview.skipped :])]
        if not point.lines:
            yield [point.entry.label, "", point.reason, *([""] * (len(overview.columns) - 2 * overview.skipped))]
