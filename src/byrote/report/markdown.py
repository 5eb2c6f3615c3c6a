"""The report as Markdown: the answer, the summary table, every warning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from byrote.report.answer import answer, meanings
from byrote.report.audited_epsilon import audited_epsilon_of
from byrote.report.canary_exposure import canary_exposure_of
from byrote.report.decision import decision_of
from byrote.report.extraction import comes_out
from byrote.report.pairwise import pairwise_of
from byrote.report.privacy import Privacy, PrivacyLine, privacy_of
from byrote.report.recommendation import recommendation
from byrote.report.results import Results
from byrote.report.shadow_curve import strength_of
from byrote.report.summary import Summary
from byrote.report.tables import (
    Column,
    Value,
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
from byrote.report.wrong_labels import wrong_labels_of


def report_markdown(results: Results, claims: Sequence[str] = ()) -> str:
    """The whole page. Names and messages of the study are escaped, so that they cannot break a table.

    `claims` is the section on the study's claims, which follows the answer.
    """
    summary, manifest = Summary(results), results.manifest
    parts = [f"# {plain(manifest.name)}", f"*{plain(manifest.question)}*"]
    parts += [f"**{plain(banner)}**" for banner in (*results.contradictions, *results.broken_splits)]
    parts += [escaped(line) for line in recommendation(decision_of(results))]
    parts += [escaped(line) for line in answer(summary)]
    parts += claims
    parts += ["## Methods side by side", _about(summary), _summary_table(summary), _verdicts(summary)]
    if pairs := pairwise_of(summary):
        parts += ["## Methods against each other", pairs.about]
        for level in pairs.levels:
            parts += [f"### {level.title}" if level.title else ""]
            parts += [
                table_of(
                    ["method", *heads_of(level.columns)], [[x.label, *map(cell_words, x.values)] for x in level.lines]
                )
            ]
        parts += [bullets(pairs.statements)]
    if len(results.evidence.attacks) > 1 and summary.findings:
        header = ["attack", "who can run it", *(one.configuration.label for one in summary.findings)]
        lines = [[row.label, row.access, *map(cell_words, row.values)] for row in attack_rows(summary)]
        parts += ["## Every attack", "AUC at the last epoch [95% interval].", table_of(header, lines)]
    if measures := other_measures(summary):
        lines = [[line.label, *map(cell_words, line.values)] for line in measures.lines]
        parts += ["## The same attack by other measures", measures.about]
        parts += [table_of(["method", *heads_of(measures.columns)], lines)]
    if strength := strength_of(summary):
        lines = [[line.label, *map(cell_words, line.values)] for line in strength.lines]
        parts += ["## What more shadow models find", strength.about]
        parts += [table_of(["method and attack", *heads_of(strength.columns)], lines)]
    if out := comes_out(summary):
        parts += ["## What comes out", out.about]
        if out.overview:
            lines = [[line.label, *map(cell_words, line.values)] for line in out.overview]
            parts += [
                out.overview_about,
                table_of(["measure", *out.methods], lines),
            ]
        for table in out.tables:
            parts += [f"### {plain(table.title)}", plain(table.about)]
            heads = ["method", *heads_of(table.columns)], [f"{table.metric} of", *table.methods]
            for head, of in zip(heads, (table.lines, table.slices), strict=True):
                lines = [[line.label, *map(cell_words, line.values)] for line in of]
                parts += [table_of(head, lines) if lines else ""]
        parts += [bullets(out.statements)]
    if canaries := canary_exposure_of(summary):
        lines = [[line.label, cell_words(line.most), *map(cell_words, line.values)] for line in canaries.lines]
        parts += ["## Canaries", canaries.about, table_of(["canaries", "at most", *canaries.methods], lines)]
        parts += [bullets(canaries.statements)]
    if wrong := wrong_labels_of(summary):
        lines = [[line.label, *map(cell_words, line.values)] for line in wrong.lines]
        parts += ["## Wrong labels", wrong.about, table_of(["method", *heads_of(wrong.columns)], lines)]
        parts += [bullets(wrong.statements)]
    if section := privacy_of(summary):
        parts += ["## Privacy", *_privacy(section)]
    if audited := audited_epsilon_of(summary):
        lines = [[line.label, *map(cell_words, line.values)] for line in audited.lines]
        parts += ["## Audited epsilon", audited.about]
        parts += [table_of(["run", *heads_of(audited.columns)], lines), bullets(audited.statements)]
    if notes := utility_notes(summary):
        parts += ["## Utility", bullets([f"{label}: {meaning}" for label, meaning in notes])]
    if more := utility_lines(summary):
        header = ["method", *(label for label, _ in notes)]
        parts += [table_of(header, [[line.label, *map(cell_words, line.values)] for line in more])]
    if costs := cost_lines(summary):
        header = ["method", "trainable", "share", "training", "tokens/s", "peak memory", "stored", "scoring"]
        parts += ["## Cost", table_of(header, costs)]
    if results.failed:
        lines = [[cell.method, cell.settings, str(cell.seed), cell.error] for cell in results.failed]
        parts += ["## What failed", table_of(["method", "settings", "seed", "why"], lines)]
    if results.controls:
        parts += ["## Controls", bullets(results.controls)]
    if results.warnings:
        parts += ["## Before you trust a number", bullets(results.warnings)]
    parts += ["## What was run", _made_with(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """Text with nothing that Markdown, or HTML inside it, would act on."""
    signs = {"<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "} | {sign: f"\\{sign}" for sign in "\\`*|"}
    return "".join(signs.get(sign, sign) for sign in text).replace("](", "]\\(")


def escaped(sentence: str) -> str:
    """A sentence of the answer: its bold stays, everything else is plain."""
    return "**".join(plain(part) for part in sentence.split("**"))


def _about(summary: Summary) -> str:
    attack = summary.headline
    if attack is None:
        return ""
    return (
        f"At the last epoch of each run{summary.pooled()}, with 95% intervals; attack: {plain(attack.label)}"
        f"{f' (needs {plain(attack.access)})' if attack.access else ''}; {summary.sizes()}."
    )


def _summary_table(summary: Summary) -> str:
    judged = ["verdict"] if summary.headline is not None else []
    header, shown = (
        ["method", *judged, *heads_of(leakage_columns(summary) + utility_columns(summary)), "trainable", "training"],
        len(side_by_side(summary)),
    )
    lines = [
        [
            line.label,
            *([line.verdict] if judged else []),
            *map(cell_words, (*line.leakage, *line.utility[:shown], line.parameters, line.training)),
        ]
        for line in summary_lines(summary)
    ]
    return table_of(header, lines)


def heads_of(of: Sequence[Column]) -> list[str]:
    return [f"{head.title} ({head.small})" if head.small else head.title for head in of]


def _privacy(section: Privacy) -> list[str]:
    def table(of: Sequence[Column], lines: Sequence[PrivacyLine]) -> str:
        return table_of(["method", *heads_of(of)], [[line.label, *map(cell_words, line.values)] for line in lines])

    parts = [f"**{plain(banner)}**" for banner in section.banners]
    parts += [table(section.columns, section.accounts), bullets([*section.statements, *section.engines])]
    if section.versus:
        parts += ["### Against the same method without privacy", table(section.versus_columns, section.versus)]
    return [*parts, "### What lies outside the guarantee", bullets(section.outside)]


def _verdicts(summary: Summary) -> str:
    if summary.headline is None:
        return ""
    return "\n".join(f"- *{verdict}*: {meaning}." for verdict, meaning in meanings(summary).items())


def cell_words(value: Value) -> str:
    near = [words for words in value.small[:1] if words.startswith("[")]
    return ", ".join((" ".join((value.main, *near)), *value.small[len(near) :]))


def table_of(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    text = ["| " + " | ".join(map(plain, rows[0])) + " |", "| " + " | ".join(rows[1]) + " |"]
    return "\n".join(text + ["| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines])


def bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _made_with(results: Results) -> str:
    manifest, seeds = results.manifest, len(results.evidence.seeds)
    lines = [
        f"Model: {plain(manifest.model_description or manifest.model)}",
        f"Data: {plain(manifest.data)}: {plain(manifest.data_description)}",
        f"byrote {plain(manifest.byrote)}; {seeds} {'seed' if seeds == 1 else 'seeds'}. "
        "The resolved study is in study.json, every estimate in results.csv, every score in scores.parquet.",
    ]
    return "\n".join(f"- {line}" for line in lines)
