"""The main table as LaTeX: methods by leakage and utility, with intervals and nulls, for a paper. Needs booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from byrote.report.answer import meanings
from byrote.report.axes import VariedResults
from byrote.report.axes_tables import Overview
from byrote.report.formats import ABSENT, rate
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.tables import Column, Line, Value, columns, side_by_side, summary_lines

SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}", "–": "--", "—": "---", "−": "$-$", "±": r"$\pm$",
    "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$", "ε": r"$\varepsilon$", "δ": r"$\delta$",
    "…": r"\ldots{}",
}  # fmt: skip
"""What LaTeX would act on, or a font of plain LaTeX does not have."""


def report_latex(results: Results) -> str:
    """Each method with the headline AUC, its null and the first utility measures, as in the report's first table."""
    summary = Summary(results)
    shown = len(side_by_side(summary))
    lines = [_cells(line, (line.auc, *line.utility[:shown])) for line in summary_lines(summary)]
    auc, _, *utility = columns(summary)
    header = ["method", auc.title, "null", *(column.title for column in utility), "verdict"]
    about = [results.manifest.question, _about(summary), *_notes(utility)]
    about += [f"{verdict.capitalize()}: {meaning}." for verdict, meaning in meanings(summary).items()]
    first = [*results.contradictions, *results.broken_splits, *results.banners]
    return _table(results.manifest.name, [*dict.fromkeys(first)], about, header, lines, left=(0,))


def axes_latex(results: VariedResults) -> str:
    """The same for every point of a study that varies something."""
    overview, header = Overview(results), ["point", "method"]
    auc, *others = overview.columns or [Column("AUC")]
    header += [auc.title, "null", *(column.title for column in others), "verdict"]
    lines = []
    for point in overview.tables:
        lines += [[point.entry.label, *_cells(each.line, each.values)] for each in point.lines]
        if not point.lines:
            lines.append([point.entry.label, "", *[ABSENT] * (len(header) - 3), point.reason])
    sizes = {summary.sizes() for _, summary in overview.summaries}
    records = f"; {sizes.pop()} at every point" if len(sizes) == 1 else ""
    about = [
        results.manifest.question,
        f"At the last epoch of each run; brackets are 95% intervals; {_attack(overview.first)}{records}.",
        *_notes(others),
    ]
    about += [f"{verdict.capitalize()}: {meaning}." for verdict, meaning in overview.meanings().items()]
    return _table(results.manifest.name, results.banners, about, header, lines, left=(0, 1))


def _cells(line: Line, values: Sequence[Value]) -> list[str]:
    auc, *others = map(_number, values)
    return [line.label, auc, rate(line.null), *others, line.verdict]


def _number(value: Value) -> str:
    """The number with its interval, which is the first of its small print."""
    return " ".join((value.main, *(words for words in value.small[:1] if words.startswith("["))))


def _about(summary: Summary) -> str:
    return (
        f"At the last epoch of each run{summary.pooled()}; brackets are 95% intervals; {_attack(summary)}; "
        f"{summary.sizes()}."
    )


def _notes(of: Sequence[Column]) -> list[str]:
    """What is said of whole columns: their heads are to stay narrow."""
    return [f"{column.title}: {column.small}." for column in of if column.small]


def _attack(summary: Summary | None) -> str:
    attack = None if summary is None else summary.headline
    if attack is None:
        return "no membership attack was asked for"
    needs = f", which needs {attack.access}" if attack.access else ""
    return f"attack: {attack.label}{needs}; null: what the AUC is where nothing was learned by rote"


def _table(
    name: str, first: Sequence[str], about: Sequence[str], header: Sequence[str], lines: Iterable[Sequence[str]],
    left: Sequence[int],
) -> str:  # fmt: skip
    """A whole table environment; what must stand before every number begins its caption."""
    warned = [rf"\textbf{{{tex(sentence)}}}" for sentence in first]
    caption = " ".join([rf"\textbf{{{tex(name)}.}}", *warned, *map(tex, filter(None, about))])
    last = len(header) - 1
    shape = "".join("l" if at in left or at == last else "r" for at in range(len(header)))
    rows = [" & ".join(map(tex, line)) + r" \\" for line in (header, *lines)]
    place = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-").lower() or "study"
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}; names in other than Latin script need LuaLaTeX or XeLaTeX.",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \label{{tab:{place}}}",
            rf"  \begin{{tabular}}{{{shape}}}",
            r"    \toprule",
            f"    {rows[0]}",
            r"    \midrule",
            *(f"    {row}" for row in rows[1:]),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def tex(text: str) -> str:
    """Text with nothing that LaTeX would act on, also not at the start of a row, where `[` and `*` belong to `\\\\`."""
    kept = "".join(sign if sign.isprintable() else " " for sign in text)
    found = "".join(SIGNS.get(sign, sign) for sign in kept.replace("--", "-\0-").replace("--", "-\0-"))
    found = found.replace("\0", "{}")
    return f"{{{found[0]}}}{found[1:]}" if found[:1] in ("[", "*") else found
