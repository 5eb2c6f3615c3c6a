"""The section on mislabelled records: what each method says of them, beside what it would say without them."""

from __future__ import annotations

import math
from typing import NamedTuple

from byrote.report.equivalence import would_show
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, limits, listed, percent, rate, signed, with_limits
from byrote.report.measures import Poisoning
from byrote.report.poisoning_rows import CONTROL, MIRRORED
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.report.tables import Column, Value
from byrote.statistics.comparison import within_margin
from byrote.types import MISLABELLED

BEYOND_CONTROL = "excess-vs-nonmembers"
FEW = 100  # mislabelled members, below which little can be resolved
LARGEST_SHARE = 0.1  # of the members: more wrong labels change what is learned of all records
ABOUT = (
    "A wrong label can be known by rote only. The left-out null is the same training without the mislabelled records, "
    "judged on the same wrong labels: how often a model says them that never saw them. Excess is the paired difference "
    "to it, by record."
)


class WrongLabelLine(NamedTuple):
    """One configuration in the table."""

    label: str
    values: list[Value]


class WrongLabels(NamedTuple):
    """Everything that the section says."""

    about: str
    columns: list[Column]
    lines: list[WrongLabelLine]
    statements: list[str]


def wrong_labels_of(summary: Summary) -> WrongLabels | None:
    """The section; None where nothing was mislabelled or measured."""
    measures = summary.results.evidence.poisonings
    if not measures or not summary.tuned or not _counts(summary):
        return None
    index = SlicedIndex(summary, "poisoning")
    return WrongLabels(
        about=ABOUT,
        columns=[column for measure in measures for column in _columns(measure)],
        lines=[
            WrongLabelLine(
                one.configuration.label, [value for measure in measures for value in _values(index, one, measure)]
            )
            for one in summary.tuned
        ],
        statements=[*_sizes(summary), *_within(summary, index)],
    )


def excess_sentences(summary: Summary) -> list[str]:
    """Who has learned wrong labels by rote, and what privacy changed of that; empty where nothing was measured."""
    measure = next((one for one in summary.results.evidence.poisonings if one.is_share), None)
    if measure is None or not _counts(summary):
        return []
    index, above = SlicedIndex(summary, "poisoning"), learned_wrong_labels(summary)
    sentences = []
    if above:
        each = [f"**{one.configuration.label}** (excess {with_limits(row.estimate, signed)})" for one, row in above]
        sentences.append(
            f"Wrong labels are learned by rote with {listed(each)}: the model repeats them more often than one that "
            "was trained without these records, and of mislabelled nonmembers they do so less."
        )
    lower = []
    for one in summary.tuned:
        row = index.get(one, measure, f"{measure.metric}-excess-vs-none", MISLABELLED)
        if row is not None and row.high is not None and row.high < 0:
            lower.append(f"**{one.configuration.label}** ({with_limits(row.estimate, signed)})")
    if lower:
        sentences.append(f"Privacy lowers the excess of wrong labels for {listed(lower)}.")
    return sentences


def learned_wrong_labels(summary: Summary) -> list[tuple[Finding, Row]]:
    """The methods that are shown to have learned wrong labels by rote, each with its excess."""
    measure = next((one for one in summary.results.evidence.poisonings if one.is_share), None)
    if measure is None or not _counts(summary):
        return []
    index, found = SlicedIndex(summary, "poisoning"), []
    for one in summary.tuned:
        row, beyond = (
            index.get(one, measure, f"{measure.metric}-{what}", MISLABELLED) for what in ("vs-left-out", BEYOND_CONTROL)
        )
        if row is not None and beyond is not None and (row.low or 0.0) > 0 and (beyond.low or 0.0) > 0:
            found.append((one, row))
    return found


def _columns(measure: Poisoning) -> list[Column]:
    what = "wrong label predicted" if measure.is_share else "AUC of mislabelled members"
    return [Column(what), Column("left-out null"), Column("excess over it", "null 0"), Column("other nulls")]


def _values(index: SlicedIndex, one: Finding, measure: Poisoning) -> list[Value]:
    """The share of the first kind of measure; of the loss the AUC, which does not hang on the labels' base rates."""
    metric = measure.metric if measure.is_share else "auc"
    other = [
        ("untuned", index.get(one, measure, f"{metric}@untuned", MISLABELLED)),
        ("rightly labelled", index.get(one, measure, f"{metric}@rightly-labelled", MISLABELLED)),
        ("nonmembers", index.get(one, measure, metric, CONTROL)) if measure.is_share else
        ("1 − AUC", index.get(one, measure, MIRRORED, MISLABELLED)),
    ]  # fmt: skip
    named = [f"{name} {rate(row.value)}" for name, row in other if row is not None and row.value is not None]
    return [
        _value(index.get(one, measure, metric, MISLABELLED)),
        _value(index.get(one, measure, f"{metric}@left-out", MISLABELLED)),
        _value(index.get(one, measure, f"{metric}-vs-left-out", MISLABELLED), signs=True),
        Value(named[0] if named else ABSENT, tuple(named[1:])),
    ]


def _value(row: Row | None, *, signs: bool = False) -> Value:
    spell = signed if signs else rate
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row else ())
    return Value(spell(row.value), tuple(filter(None, [limits(row.estimate, spell)])))


def _counts(summary: Summary) -> list[tuple[int, int, int]]:
    """Mislabelled members, mislabelled nonmembers and all members of each seed that has any."""
    evidence = summary.results.evidence
    found = [
        (
            len(evidence.part_of(seed, "member", MISLABELLED)),
            len(evidence.part_of(seed, "nonmember", MISLABELLED)),
            len(evidence.part(seed, "member")),
        )
        for seed in evidence.seeds
    ]
    return [counts for counts in found if counts[0]]


def _sizes(summary: Summary) -> list[str]:
    members, nonmembers, of = min(_counts(summary))
    seeds = len(_counts(summary))
    each = f" in each of {seeds} seeds" if seeds > 1 else ""
    sentences = [
        f"{members:,} of {of:,} members and {nonmembers:,} nonmembers{each} were given a wrong label on purpose. "
        "They are left out of all other numbers of this report."
    ]
    if nonmembers and min(members, nonmembers) < FEW:
        error = standard_error(members, nonmembers)
        sentences.append(
            f"{members} mislabelled members and {nonmembers} nonmembers show little: around 0.5 their AUC has a "
            f"standard error of about {error:.3f} in one seed. Hundreds are better."
        )
    if members > LARGEST_SHARE * of:
        sentences.append(
            f"{percent(members / of)} of the members are mislabelled: so many change what the model learns of all "
            "records."
        )
    return sentences


def standard_error(members: int, nonmembers: int) -> float:
    """The standard error of an AUC of 0.5: that of the rank sum of Mann and Whitney (1947)."""
    return math.sqrt((members + nonmembers + 1) / (12 * members * nonmembers))


def _within(summary: Summary, index: SlicedIndex) -> list[str]:
    """Whose excess is shown to be next to nothing, and what showing it would take for the others."""
    measure = next((one for one in summary.results.evidence.poisonings if one.is_share), None)
    if measure is None:
        return []
    margin, has = summary.results.evidence.margin, sum(counts[0] for counts in _counts(summary))
    inside, open_ = [], []
    for one in summary.tuned:
        row = index.get(one, measure, f"{measure.metric}-vs-left-out", MISLABELLED)
        if row is None or row.value is None or row.low is None or row.high is None:
            continue
        shown = f"{one.configuration.label} {with_limits(row.estimate, signed)}"
        if within_margin(row.estimate, margin):
            inside.append(shown)
        elif row.low <= 0 <= row.high:
            open_.append(f"{shown} ({would_show(row.estimate, margin, 'mislabelled members', has)})")
    sentences = []
    if inside:
        sentences.append(
            f"The excess lies within ±{margin:g} of 0, as far as 95% intervals go, for {'; '.join(inside)}."
        )
    if open_:
        sentences.append(f"Neither an excess nor its absence within ±{margin:g} is shown for some: {'; '.join(open_)}.")
    return sentences
