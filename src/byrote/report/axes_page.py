"""The overview of a study that varies something: the files that people read, beside those of each point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from byrote.report.axes import VariedResults
from byrote.report.axes_pictures import look_of, pictures_of, spots_of
from byrote.report.axes_tables import Overview, PointTable
from byrote.report.claims_section import claims_markdown, claims_section
from byrote.report.html import bold, environment, plotly_script, script_json
from byrote.report.markdown import bullets, cell_words, escaped, heads_of, plain, table_of
from byrote.report.palette import DARK, LIGHT, styles, variables
from byrote.report.whiskers import scale_of, whisker
from byrote.report.write import write_claims, write_report
from byrote.store import atomic_path, write_text


def write_axes_report(results: VariedResults, folder: Path | str) -> None:
    """Write results.csv, results.json, scores.parquet, report.md and report.html, each whole or not at all."""
    import pyarrow.parquet

    folder = Path(folder)
    write_text(folder / "results.csv", results.csv())
    write_text(folder / "results.json", results.json())
    with atomic_path(folder / "scores.parquet") as path:
        pyarrow.parquet.write_table(results.score_table(), path, compression="zstd")
    write_claims(results, folder)
    write_text(folder / "report.md", axes_markdown(results))
    write_text(folder / "report.html", axes_html(results))


def report_again(folder: Path) -> VariedResults:
    """Write the report of every point, and that of all, from what is stored; the results."""
    results = VariedResults.read(folder)
    for entry, of_point in results.done():
        write_report(of_point, folder / entry.folder)
    write_axes_report(results, folder)
    return results


def axes_html(results: VariedResults) -> str:
    """The whole page; it opens offline, and each point's own page from it."""
    overview = Overview(results)
    spots = spots_of(results)
    look = look_of(results, spots)
    pictures = pictures_of(results, spots, look)
    drawn = any(figure for picture in pictures for figure in picture.figures)
    return (
        environment()
        .get_template("axes.html.j2")
        .render(
            overview=overview,
            manifest=results.manifest,
            results=results,
            claims=claims_section(results),
            answer=[bold(sentence) for sentence in overview.answer()],
            drawings=_drawings(overview),
            links={point.entry.label: _link(point) for point in overview.tables},
            marks=_own_marks(overview) | {name: style.svg for name, style in look.items()},
            key=[(style.key, name, style) for name, style in look.items()],
            pictures=pictures,
            light=variables(LIGHT),
            dark=variables(DARK),
            figures=script_json(
                {"light": LIGHT, "dark": DARK, "pictures": {picture.name: picture.figures for picture in pictures}}
            ),
            plotly=plotly_script() if drawn else "",
        )
    )


def _drawings(overview: Overview) -> dict[tuple[str, str], object]:
    """The interval of each point and method, all on one scale."""
    scales = [scale_of(summary) for _, summary in overview.summaries]
    scale = (min((low for low, _ in scales), default=0.4), 1.0)
    return {
        (point.entry.label, each.line.label): whisker(point.summary, each.line.finding, scale)
        for point in overview.tables
        if point.summary is not None
        for each in point.lines
    }


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
    parts += [escaped(sentence) for sentence in overview.answer()]
    parts += claims_markdown(results)
    header = ["point", "method", "verdict", *heads_of(overview.columns)]
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
            yield [point.entry.label, each.line.label, each.line.verdict, *map(cell_words, each.values)]
        if not point.lines:
            yield [point.entry.label, "", point.reason, *([""] * len(overview.columns))]
