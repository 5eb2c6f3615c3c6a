"""The section of a report that tells what the study's claims came to, and the same as a table for machines."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from byrote.report.axes import VariedResults
from byrote.report.claims import MEANINGS, JudgedClaim, JudgedContrast, conditions, judged_claims, size_words
from byrote.report.formats import listed
from byrote.report.markdown import bullets, plain, table_of
from byrote.report.results import Results

COLUMNS = ("claim", "says", "verdict", "measure", "conditions", "where", "one", "other", "value", "other_value",
           "scale", "difference", "low", "high", "n", "interval", "comparison", "epochs", "reason")  # fmt: skip
ABOUT = (
    "What the study says of its results, and whether they bear it out. A claim is about every comparison it names: "
    "each run on one side with each run on the other that is alike in all else, seed by seed, on the same records "
    "where both have them. The difference shown is of the comparison that says least for the claim, where it is "
    "contradicted of one that contradicts it. Brackets are 95% intervals."
)


class ClaimLine(NamedTuple):
    """A claim as a row of the table; `each` are its comparisons."""

    id: str
    says: str
    verdict: str
    conditions: str
    difference: str
    between: str
    n: str
    about: str
    needed: str
    published: str
    each: Sequence[JudgedContrast]


class ClaimsSection(NamedTuple):
    """Everything that the section says."""

    about: str
    summary: str
    lines: list[ClaimLine]
    meanings: dict[str, str]


def claims_section(results: Results | VariedResults) -> ClaimsSection | None:
    """The section; None where the study claims nothing."""
    found = judged_claims(results)
    if not found:
        return None
    shown = {one.verdict for one in found}
    meanings = {str(verdict): meaning for verdict, meaning in MEANINGS.items() if verdict in shown}
    return ClaimsSection(ABOUT, summary_of(found), [_line(one) for one in found], meanings)


def summary_of(found: Sequence[JudgedClaim]) -> str:
    """'Of 9 claims 5 are supported, 1 is contradicted and 3 are not resolved.'"""
    counts = Counter(one.verdict for one in found)
    words = [
        f"{counts[verdict]} {'is' if counts[verdict] == 1 else 'are'} {verdict}"
        for verdict in MEANINGS
        if counts[verdict]
    ]
    return f"Of {len(found)} claims {listed(words)}." if len(found) > 1 else f"The one claim {words[0][2:]}."


def _line(one: JudgedClaim) -> ClaimLine:
    weakest = one.weakest
    between = ""
    if weakest is not None:
        between = f"{weakest.one} against {weakest.other}" + (f"; {weakest.where}" if weakest.where else "")
    return ClaimLine(
        one.claim.id,
        one.claim.says,
        one.verdict,
        conditions(one),
        weakest.difference if weakest is not None else "",
        between,
        size_words(weakest.contrast) if weakest is not None else "",
        one.about,
        one.needed,
        one.claim.published,
        one.contrasts if len(one.contrasts) > 1 else (),
    )


def claims_markdown(results: Results | VariedResults) -> list[str]:
    """The section as Markdown; nothing where the study claims nothing."""
    section = claims_section(results)
    if section is None:
        return []
    lines = [
        [f"{line.id}: {line.says}", line.verdict, line.difference, line.between, line.n,
         "; ".join(filter(None, (line.about, line.needed))), line.published]
        for line in section.lines
    ]  # fmt: skip
    header = ["claim", "verdict", "difference", "between", "on", "comparisons", "published"]
    meanings = bullets([f"{verdict}: {meaning}." for verdict, meaning in section.meanings.items()])
    return ["## Claims", plain(section.summary), section.about, table_of(header, lines), meanings]


def claims_csv(results: Results | VariedResults) -> str:
    """Every comparison of every claim as CSV; what is absent is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in judged_claims(results):
        writer.writerows(_rows(one))
    return text.getvalue()


def _rows(one: JudgedClaim) -> Iterator[list[object]]:
    claim = one.claim
    head = [claim.id, claim.says, one.verdict, claim.measure, conditions(one)]
    for each in one.contrasts:
        found, estimate = each.contrast, each.contrast.estimate
        yield [*head, each.where, each.one, each.other, *found.ends, "log-ratio" if found.is_ratio else "difference",
               estimate.value, estimate.low, estimate.high, estimate.n, estimate.interval, each.verdict,
               " and ".join(filter(None, found.epochs)), estimate.reason]  # fmt: skip
    if not one.contrasts:
        yield [*head, *[""] * (len(COLUMNS) - len(head) - 1), one.about]
