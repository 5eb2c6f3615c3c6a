"""The section on canaries: how exposed each tier is with each method, and the most that could have been seen."""

from __future__ import annotations

from typing import NamedTuple

from byrote.report.canary_rows import MAXIMUM, METRICS, exposure_attack, exposure_settings, tiers_of
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, limits, measure
from byrote.report.measures import Attack
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.report.tables import Value
from byrote.statistics.exposure import UNSEEN
from byrote.types import CANARY

ABOUT = (
    "Exposure says by how many bits a canary that was trained on is better known than others of its law that were not: "
    f"half of what was never seen has less than 1 bit, and its mean is {UNSEEN:.2f}. By rank it cannot be more than "
    "the controls allow; beyond, it is extrapolated from a skew-normal law of their scores, a guess about a tail."
)


class ExposureLine(NamedTuple):
    """One tier of one family, or its controls."""

    label: str
    most: Value
    values: list[Value]


class CanaryExposure(NamedTuple):
    """Everything that the section says; `methods` are the labels of the columns."""

    about: str
    methods: list[str]
    lines: list[ExposureLine]
    statements: list[str]


def canary_exposure_of(summary: Summary) -> CanaryExposure | None:
    """The section; None where no canary was planted or ranked."""
    evidence = summary.results.evidence
    attack = exposure_attack(evidence)
    families = {family: tiers for seed in evidence.seeds for family, tiers in tiers_of(evidence, seed).items()}
    rows = {
        (row.method, row.settings, row.privacy, row.delta, row.seed, row.epoch, row.metric, row.slice): row
        for row in summary.results.rows
        if row.kind == "extraction" and row.metric in (*METRICS, MAXIMUM)
    }
    if attack is None or not families or not rows:
        return None

    def get(one: Finding, metric: str, slice_: str) -> Row | None:
        of = one.configuration
        seed = of.done[0].seed if len(of.done) == 1 else None
        settings = exposure_settings(of.settings, attack)
        return rows.get((of.method, settings, of.privacy, of.delta, seed, one.epoch, metric, slice_))

    lines = []
    for family, tiers in families.items():
        most = next((row for one in summary.findings if (row := get(one, MAXIMUM, family))), None)
        for slice_ in (*tiers, family):
            lines.append(
                ExposureLine(
                    label=_label(slice_),
                    most=Value(measure(most.value) if most else ABSENT),
                    values=[_value(*(get(one, metric, slice_) for metric in METRICS)) for one in summary.findings],
                )
            )
    labels = [one.configuration.label for one in summary.findings]
    return CanaryExposure(ABOUT, labels, lines, _statements(summary, attack, families))


def _label(slice_: str) -> str:
    family, _, tier = slice_.removeprefix(CANARY).partition(" ")
    return f"{family}, {tier.replace('=', ' ')}" if tier else f"{family}, never trained on"


def _value(by_rank: Row | None, beyond: Row | None) -> Value:
    if by_rank is None or by_rank.value is None:
        return Value(ABSENT, (by_rank.reason,) if by_rank else ())
    small = [limits(by_rank.estimate, measure)]
    if beyond is not None and beyond.value is not None:
        small.append(f"extrapolated {measure(beyond.value)} {limits(beyond.estimate, measure)}".rstrip())
    return Value(measure(by_rank.value), tuple(filter(None, small)))


def _statements(summary: Summary, attack: Attack, families: dict[str, list[str]]) -> list[str]:
    evidence = summary.results.evidence
    seed = evidence.seeds[0]
    counts = []
    for family, tiers in families.items():
        inserted = [len(evidence.part_of(seed, "member", tier)) for tier in tiers]
        controls = evidence.part(seed, "nonmember").slices.count(family)
        span = f"{inserted[0]}" if len(set(inserted)) == 1 else f"{min(inserted)} to {max(inserted)}"
        counts.append(f"{family.removeprefix(CANARY)} {span} a tier and {controls:,} controls")
    sentences = [f"Ranked by the scores of {attack.label}. Canaries: {'; '.join(counts)}."]
    reasons = dict.fromkeys(
        row.reason
        for row in summary.results.rows
        if row.kind == "extraction" and row.metric == "exposure-extrapolated" and row.reason and row.seed is not None
    )
    return sentences + [f"Not extrapolated where it says so in results.csv: {reason}." for reason in list(reasons)[:3]]
