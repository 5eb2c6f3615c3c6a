"""The section that sets the methods against each other: who leaks less than whom, on the same records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from byrote.report.equivalence import would_show
from byrote.report.findings import Configuration, Finding, over_seeds, too_few_seeds
from byrote.report.formats import ABSENT, limits, listed, rate, signed, with_limits
from byrote.report.measures import Attack
from byrote.report.pair_rows import MOST, Pair, levels_of, pairs_of
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.report.tables import Column, Value
from byrote.statistics.comparison import within_margin

ALPHA = 0.05
MANY = 6  # pairs that are named with their intervals in a sentence


class Comparison(NamedTuple):
    """Two methods, what the row of their difference says, and its p-value among all pairs."""

    pair: Pair
    row: Row
    p: float | None
    verdict: str
    """"lower", "higher", "alike" or "not resolved": of the AUC of `pair.one`."""


class PairLine(NamedTuple):
    """One method against each of those before it."""

    label: str
    values: list[Value]


class Level(NamedTuple):
    """The methods of one privacy level against each other: the row less the column."""

    title: str
    columns: list[Column]
    lines: list[PairLine]


class Pairwise(NamedTuple):
    """Everything that the section says."""

    about: str
    levels: list[Level]
    statements: list[str]


def pairwise_of(summary: Summary) -> Pairwise | None:
    """The section; None where no two methods can be compared."""
    attack, found = summary.headline, comparisons(summary)
    margin, levels = summary.results.evidence.margin, levels_of(summary.results.evidence)
    crowded = [one for one in levels if len(one) > MOST]
    if attack is None or not (found or crowded):
        return None
    if not found:
        return Pairwise(_too_many(crowded), [], [])
    about = (
        f"AUC of the {attack.label} attack at the last epoch: the method of the row less that of the column, on the "
        "same records. Brackets are 95% intervals. Lower and higher: p is at most "
        f"{ALPHA:g}. Alike: the interval lies within ±{margin:g}, the study's margin."
    )
    if len(found) > 1:
        about += (
            f" Each p is adjusted for all {len(found)} pairs (Holm): of so many, some intervals exclude 0 by chance, "
            "so that alone is not enough."
        )
    if len(summary.results.evidence.seeds) == 1:
        about += (
            " With one seed these are differences between the models trained here, and another training may differ."
        )
    shown = [_level(one, found) for one in levels if 1 < len(one) <= MOST]
    return Pairwise(" ".join([about, *([_too_many(crowded)] if crowded else [])]), shown, _open(found, margin))


def _too_many(crowded: Sequence[Sequence[Configuration]]) -> str:
    counts = listed([f"{len(one):,} methods {one[0].level or 'without privacy'}" for one in crowded])
    return f"Not set against each other, since more than {MOST} are too many: {counts}."


def _level(of: Sequence[Configuration], found: Sequence[Comparison]) -> Level:
    """Each method but the first against those before it."""
    pairs, last = {(one.pair.one, one.pair.other): one for one in found}, len(of) - 1
    lines = [
        PairLine(one.label, [_value(pairs.get((one, other))) for other in of[:at]] + [Value("")] * (last - at))
        for at, one in enumerate(of)
        if at
    ]
    return Level(of[0].level, [Column(other.label) for other in of[:-1]], lines)


def comparisons(summary: Summary) -> list[Comparison]:
    """Every pair with a row, in the study's order."""
    attack, evidence = summary.headline, summary.results.evidence
    if attack is None:
        return []
    findings = {one.configuration: one for one in summary.tuned}
    pairs = [pair for level in levels_of(evidence) for pair in pairs_of(level)]
    found = [_compared(summary, pair, findings.get(pair.one), attack) for pair in pairs]
    return [one for one in found if one is not None]


def _compared(summary: Summary, pair: Pair, one: Finding | None, attack: Attack) -> Comparison | None:
    if one is None:
        return None
    seed = None if over_seeds(pair.one, pair.other) else pair.one.done[0].seed
    row, adjusted = (
        summary.index.one(pair.one, seed, one.epoch, attack, name) for name in (pair.difference, pair.adjusted)
    )
    if row is None:
        return None
    p = None if adjusted is None else adjusted.value
    few = too_few_seeds(summary.index, pair.one, one.epoch, attack, pair.difference)
    verdict = "not resolved"
    if p is not None and p <= ALPHA and not few:
        verdict = "lower" if (row.value or 0.0) < 0.0 else "higher"
    elif within_margin(row.estimate, summary.results.evidence.margin) and not few:
        verdict = "alike"
    return Comparison(pair, row, p, verdict)


def pair_sentences(summary: Summary) -> list[str]:
    """Who leaks less than whom, and who alike; the rest is in the section."""
    found = comparisons(summary)
    apart = [one for one in found if one.verdict in ("lower", "higher")]
    alike = [one for one in found if one.verdict == "alike"]
    sentences = []
    if apart:
        sentences += _less(summary, apart)
    if alike and len(alike) <= MANY:
        margin = summary.results.evidence.margin
        each = [f"**{one.pair.one.label}** and **{one.pair.other.label}** (difference {_shown(one)})" for one in alike]
        sentences.append(f"Alike in AUC within ±{margin:g}: {'; '.join(each)}.")
    return sentences


def _less(summary: Summary, apart: Sequence[Comparison]) -> list[str]:
    """'On the same 400 records **lora** leaks less than **full** (difference 0.11 [0.07, 0.15], ...).'"""
    by_lower: dict[Configuration, list[tuple[Configuration, Comparison]]] = {}
    for one in apart:
        low, high = (one.pair.one, one.pair.other) if one.verdict == "lower" else (one.pair.other, one.pair.one)
        by_lower.setdefault(low, []).append((high, one))
    if len(by_lower) > MANY:
        return [f"{len(apart)} pairs of methods differ in AUC on the same records: see Methods against each other."]
    leaks = {one.configuration for one in summary.with_verdict("leaks")}
    clauses = []
    for low, others in by_lower.items():
        words = "leaks less than" if all(high in leaks for high, _ in others) else "has a lower AUC than"
        clauses.append(f"**{low.label}** {words} {listed([_named(*one, len(apart) <= MANY) for one in others])}")
    more = "" if len(apart) <= MANY else " How much is told under Methods against each other."
    return [f"On the same {_sample(apart[0].row)} {'; '.join(clauses)}.{more}"]


def _named(high: Configuration, one: Comparison, with_amount: bool) -> str:
    if not with_amount:
        return f"**{high.label}**"
    return f"**{high.label}** (difference {_amount(one)}, Holm-adjusted {p_words(one.p)})"


def _sample(row: Row) -> str:
    return f"{row.n:,} records" if row.seed is not None else f"records, over {row.n} seeds,"


def _open(found: Sequence[Comparison], margin: float) -> list[str]:
    """Which pairs are not resolved, and what would show the two to be alike."""
    rest = [one for one in found if one.verdict == "not resolved"]
    if not rest:
        return []
    if len(rest) > MANY:
        return [f"{len(rest)} of {len(found)} pairs are not resolved: neither a difference nor its absence is shown."]
    each = [f"{one.pair.one.label} against {one.pair.other.label}{_needed(one, margin)}" for one in rest]
    return [f"Not resolved, neither a difference nor its absence within ±{margin:g}: {'; '.join(each)}."]


def _needed(one: Comparison, margin: float) -> str:
    if one.row.low is None:
        return f" ({one.row.reason})" if one.row.reason else ""
    return f" ({would_show(one.row.estimate, margin, 'members and nonmembers')})"


def _value(one: Comparison | None) -> Value:
    if one is None or one.row.value is None:
        return Value(ABSENT, (one.row.reason,) if one is not None else ())
    small = (limits(one.row.estimate, signed), p_words(one.p), one.verdict)
    return Value(signed(one.row.value), tuple(filter(None, small)))


def _shown(one: Comparison) -> str:
    return with_limits(one.row.estimate, signed)


def _amount(one: Comparison) -> str:
    """The size of a difference whose direction is said in words: '0.110 [0.070, 0.150]'."""
    row = one.row
    assert row.value is not None and row.low is not None and row.high is not None
    low, high = sorted((abs(row.low), abs(row.high)))
    return f"{rate(abs(row.value))} [{rate(low)}, {rate(high)}]"


def p_words(p: float | None) -> str:
    """'p 0.012', or 'p < 0.001'; empty without one."""
    return "" if p is None else "p < 0.001" if p < 0.001 else f"p {p:.3f}"
