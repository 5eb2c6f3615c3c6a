"""The view by record: whose membership the headline attack sees most clearly, by every method."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byrote.report.findings import Configuration, Finding
from byrote.report.formats import ABSENT, measure, percent
from byrote.report.measures import Attack
from byrote.report.pieces import TEXTS
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.tables import Column, Value
from byrote.statistics.roc import placements
from byrote.store import write_text
from byrote.types import Floats, Record

SHOWN = 20
MOST_METHODS = 10
LONGEST = 4000  # characters of a text that the page shows


class ExposedRecord(NamedTuple):
    """One member and how far it stands out by each method; `text` is None where it is not to be shown."""

    id: str
    slice: str
    seeds: int
    values: list[Value]
    text: str | None


class Exposed(NamedTuple):
    """Everything that the section says."""

    about: str
    methods: list[Column]
    records: list[ExposedRecord]
    several_seeds: bool
    sliced: bool


class Placed(NamedTuple):
    """The members of one method and seed: the share of nonmembers with at least a record's score, and the score."""

    ids: list[str]
    above: Floats
    scores: Floats
    strength: Floats
    """How far out it stands as a normal deviate, among so many nonmembers."""


class Standing(NamedTuple):
    """One record by one method: means over the seeds in which it is a member, and the strength of them together."""

    above: float
    score: float
    strength: float


def exposed_of(summary: Summary, *, show_text: bool = False) -> Exposed | None:
    """The section; None where no membership attack has scores."""
    attack, evidence = summary.headline, summary.results.evidence
    methods = _methods(summary)
    if attack is None or not methods:
        return None
    standings = {one.configuration: _standings(summary, one, attack) for one in methods}
    ordered = _ordered(list(standings.values()))
    if not ordered:
        return None
    slices, seeds = _slices(summary), _seeds(summary)
    records = [
        ExposedRecord(
            id=record,
            slice=slices.get(record, ""),
            seeds=seeds.get(record, 0),
            values=[_value(standings[one.configuration].get(record)) for one in methods],
            text=visible(evidence.texts[record]) if show_text and record in evidence.texts else None,
        )
        for record in ordered[:SHOWN]
    ]
    return Exposed(
        about=_about(summary, attack, methods, len(ordered), show_text),
        methods=[Column(one.configuration.label) for one in methods],
        records=records,
        several_seeds=len(evidence.seeds) > 1,
        sliced=any(one.slice for one in records),
    )


def exposed_ids(summary: Summary) -> list[str]:
    """The records that the section shows: the only ones whose texts it can need."""
    found = exposed_of(summary)
    return [one.id for one in found.records] if found is not None else []


def keep_texts(results: Results, folder: Path, parts: Iterable[Sequence[Record]] | None) -> None:
    """Keep the texts of the records that the section shows, of all these, for the report; with None, no text."""
    results.evidence.texts.clear()
    if parts is None:
        (folder / TEXTS).unlink(missing_ok=True)
        return
    wanted = set(exposed_ids(Summary(results)))
    results.evidence.texts.update({record.id: record.text for part in parts for record in part if record.id in wanted})
    write_text(folder / TEXTS, json.dumps(results.evidence.texts, indent=1))


def visible(text: str) -> str:
    """A text as a page can hold it: without signs that act on it instead of being seen, and not endless."""
    kept = "".join(sign if sign in "\n\t" or sign.isprintable() else "\ufffd" for sign in text[:LONGEST])
    return kept + (f"… ({len(text):,} characters)" if len(text) > LONGEST else "")


def _methods(summary: Summary) -> list[Finding]:
    """Those whose columns are shown: the ones that leak stand for all where there are too many."""
    if len(summary.tuned) <= MOST_METHODS:
        return summary.tuned
    return sorted(summary.tuned, key=lambda one: summary.verdict(one) != "leaks")[:MOST_METHODS]


def _standings(summary: Summary, one: Finding, attack: Attack) -> dict[str, Standing]:
    found: dict[str, list[tuple[float, float, float]]] = {}
    for placed in _placed(summary, one.configuration, attack):
        for record, *numbers in zip(placed.ids, placed.above, placed.scores, placed.strength, strict=True):
            found.setdefault(record, []).append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
    return {record: _together(numbers) for record, numbers in found.items()}


def _together(numbers: Sequence[tuple[float, float, float]]) -> Standing:
    """Means over seeds; strengths add up as independent normal deviates do (Stouffer)."""
    above, scores, strengths = (np.array(column) for column in zip(*numbers, strict=True))
    return Standing(float(above.mean()), float(scores.mean()), float(strengths.sum() / len(numbers) ** 0.5))


def _placed(summary: Summary, of: Configuration, attack: Attack) -> list[Placed]:
    from scipy.special import ndtri

    evidence, found = summary.results.evidence, []
    for cell in of.done:
        epoch = evidence.last_epoch(cell)
        sides = evidence.sides(cell, attack, epoch) if epoch is not None else None
        if sides is None:
            continue
        keep, nonmembers = np.isfinite(sides.members), sides.nonmembers[np.isfinite(sides.nonmembers)]
        members = sides.members[keep]
        if not len(members) or not len(nonmembers):
            continue
        records = evidence.part_of(cell.seed, "member").records
        below, _ = placements(members, nonmembers)
        strength = ndtri((below * len(nonmembers) + 0.5) / (len(nonmembers) + 1))
        above = 1.0 - np.searchsorted(np.sort(nonmembers), members, "left") / len(nonmembers)
        ids = [record for record, kept in zip(records, keep, strict=True) if kept]
        found.append(Placed(ids, above, members, strength))
    return found


def _ordered(standings: Sequence[dict[str, Standing]]) -> list[str]:
    """Records by the mean of their strengths over methods, the strongest first; scores part those of one strength."""
    known = list(dict.fromkeys(record for of in standings for record in of))

    def strength(record: str) -> tuple[float, float]:
        found = [of[record] for of in standings if record in of]
        return (
            sum(one.strength for one in found) / len(found),
            sum(one.score for one in found) / len(found),
        )

    return sorted(known, key=strength, reverse=True)


def _slices(summary: Summary) -> dict[str, str]:
    """What was planted of a record, in any seed."""
    evidence = summary.results.evidence
    found: dict[str, list[str]] = {}
    for part in (evidence.part_of(seed, "member") for seed in evidence.splits):
        for record, name in zip(part.records, part.slices, strict=True):
            if name and name not in found.setdefault(record, []):
                found[record].append(name)
    return {record: " or ".join(names) for record, names in found.items()}


def _seeds(summary: Summary) -> dict[str, int]:
    evidence = summary.results.evidence
    found: dict[str, int] = {}
    for seed in evidence.splits:
        for record in evidence.part_of(seed, "member").records:
            found[record] = found.get(record, 0) + 1
    return found


def _value(standing: Standing | None) -> Value:
    if standing is None:
        return Value(ABSENT)
    return Value(_share(standing.above), (f"score {measure(standing.score).replace('-', '−')}",))


def _share(share: float) -> str:
    return "0%" if share == 0.0 else percent(share)


def _about(summary: Summary, attack: Attack, methods: Sequence[Finding], members: int, show_text: bool) -> str:
    evidence = summary.results.evidence
    said = (
        f"Members by the {attack.label} attack at the last epoch, the most exposed first. The large number: the "
        "share of nonmembers that score at least as high as the record: the smaller it is, the more the record stands "
        f"out. The {min(SHOWN, members)} of {members:,} members were picked because they stand out: were nothing "
        f"learned, the first of {members:,} would still stand above nearly all nonmembers, by chance. Whether a method "
        "leaks is told by its verdict, not by this list."
    )
    if len(evidence.seeds) > 1:
        said += " Numbers are means over the seeds in which the record is a member; their order weighs all of these."
    if len(methods) < len(summary.tuned):
        said += f" {len(methods)} of {len(summary.tuned)} methods are shown, those that leak first."
    if not show_text:
        return said + " Records are named by their ids alone: --show-text puts the texts of these records here."
    if not evidence.texts:
        return said + " Their texts were not kept: run the study again with --show-text."
    return said + " Their texts stand on this page: treat it as you treat the data."
