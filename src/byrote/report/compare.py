"""Two results folders side by side: the numbers that both have, their differences, and what only one of them has.

Differences are of the second less the first. Where both were measured on the very same records they are paired, else
taken as independent; all are judged together, by Holm's correction for as many as were compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from byrote.report.axes import VariedResults
from byrote.report.extraction_rows import NONMEMBERS
from byrote.report.findings import Configuration
from byrote.report.paired import At, Texts, paired, texts_of
from byrote.report.render import read_results
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.selection import ACCOUNTED, EVERY_SLICE, Identity, Key, Numbers, own
from byrote.report.settings_apart import Setting, settings_apart
from byrote.statistics.comparison import holm, p_value, within_margin
from byrote.statistics.interval import (
    FEW_SEEDS,
    difference_of_estimates,
    exponential,
    logarithm,
    pool_logs_over_seeds,
    pool_over_seeds,
)
from byrote.store import Cell
from byrote.types import MISLABELLED, Estimate, StudyError

ALPHA = 0.05
COUNTED = ("privacy.epsilon",)
"""What is counted and compared where nobody says what to compare."""


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """One side: its plain results, or those of one of its points."""

    place: Path
    results: Results
    texts: Texts

    @classmethod
    def read(cls, place: Path, results: Results | None = None) -> Folder:
        found = Results.read(place) if results is None else results
        return cls(place, found, texts_of(place))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number in both: of the same model, data, method, settings, privacy, seeds, slice and metric."""

    point: str
    model: str
    data: str
    configuration: str
    seeds: tuple[int, ...]
    identity: Identity
    first: Estimate
    second: Estimate
    difference: Estimate
    is_ratio: bool
    """Whether `difference` is the second over the first, as of perplexities."""
    records: str
    """"paired", "independent", "same run", "counted" (nothing is estimated) or "missing" (a side has no number)."""
    p: float | None = None
    holm_p: float | None = None
    few: bool = False
    """Whether the seeds are few and no single one shows a difference: a pooled one is then luck."""
    verdict: str = ""
    """"higher", "lower", "alike" or "not resolved": of the second; empty where nothing is tested."""


@dataclass(frozen=True, slots=True)
class Compared:
    """All that two folders come to side by side."""

    first: str
    second: str
    rows: tuple[Comparison, ...]
    settings: tuple[Setting, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    failed: bool
    one_seed: bool

    @property
    def tested(self) -> list[Comparison]:
        return [row for row in self.rows if row.p is not None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be compared: keys and slices as the gate reads them; nothing given means the main numbers."""

    keys: Sequence[Key] = ()
    slices: Sequence[str] = ()
    across: Sequence[str] = ()
    """"model" or "data": compare although this differs."""


def compare(first: Path, second: Path, asked: Asked | None = None) -> Compared:
    """Both folders, point by point where they vary something. Raises StudyError where nothing can be set together."""
    asked = asked or Asked()
    one, other = read_results(first), read_results(second)
    only: tuple[list[str], list[str]] = ([], [])
    rows: list[Comparison] = []
    settings: list[Setting] = []
    for point, (here, there) in _points((first, one), (second, other), only):
        settings += settings_apart(point, here.results, there.results)
        rows += _rows(point, here, there, asked, only)
    if not rows and not any(only):
        raise StudyError("no key that was asked for is a number of both folders")
    seeds = {len(row.seeds) for row in rows}
    failed = bool(one.failed or other.failed)
    return Compared(str(first), str(second), tuple(_judged(rows, _margin(one, other))), tuple(settings),
                    tuple(dict.fromkeys(only[0])), tuple(dict.fromkeys(only[1])), failed, 1 in seeds)  # fmt: skip


def _points(
    first: tuple[Path, Results | VariedResults], second: tuple[Path, Results | VariedResults],
    only: tuple[list[str], list[str]],
) -> Iterator[tuple[str, tuple[Folder, Folder]]]:  # fmt: skip
    """The points that both have, by name; ('', both) of two plain studies."""
    (here, one), (there, other) = first, second
    if isinstance(one, Results) and isinstance(other, Results):
        yield "", (Folder.read(here, one), Folder.read(there, other))
        return
    if isinstance(one, Results) or isinstance(other, Results):
        place, varied = (here, one) if isinstance(one, VariedResults) else (there, other)
        assert isinstance(varied, VariedResults)
        folders = "; ".join(str(place / point.entry.folder) for point in varied.points)
        raise StudyError(f"{place} varies something and the other folder does not: give one of its points: {folders}")
    ours, theirs = ({entry.key: (entry, found) for entry, found in side.done()} for side in (one, other))
    only[0].extend(f"point {entry.label}" for key, (entry, _) in ours.items() if key not in theirs)
    only[1].extend(f"point {entry.label}" for key, (entry, _) in theirs.items() if key not in ours)
    for key, (entry, found) in ours.items():
        if key in theirs:
            twin, there_found = theirs[key]
            pair = Folder.read(here / entry.folder, found), Folder.read(there / twin.folder, there_found)
            yield entry.label, pair


def _rows(
    point: str, here: Folder, there: Folder, asked: Asked, only: tuple[list[str], list[str]]
) -> Iterator[Comparison]:
    ours, theirs = Numbers(here.results), Numbers(there.results)
    for field in ("model", "data"):
        values = [getattr(side.results.manifest, field) for side in (here, there)]
        if values[0] != values[1] and field not in asked.across:
            for at, value in enumerate(values):
                only[at].append(f"{field} {value} (--across {field} compares all the same)")
            return
    _only_there(ours, theirs, only)
    for one in ours.configurations:
        other = _twin(one, ours, theirs)
        if other is None:
            continue
        for identity in _identities(ours, theirs, one, other, asked):
            found = _compared(point, here, there, (ours, one), (theirs, other), identity)
            if found is not None:
                yield found


def _key(one: Configuration) -> tuple[str, str, str]:
    """What two configurations must share; delta may follow from the number of records."""
    return one.method, one.settings, one.privacy


def _twin(one: Configuration, ours: Numbers, theirs: Numbers) -> Configuration | None:
    """The same on the other side; where levels differ in delta alone, that of the same delta."""
    same, alike = ([each for each in side.configurations if _key(each) == _key(one)] for side in (ours, theirs))
    several = max(len(same), len(alike)) > 1
    return next((each for each in alike if not several or each.delta == one.delta), None)


def _only_there(ours: Numbers, theirs: Numbers, only: tuple[list[str], list[str]]) -> None:
    """Models and measures that one side alone has."""
    for at, (side, other) in enumerate(((ours, theirs), (theirs, ours))):
        for one in side.configurations:
            twin = _twin(one, side, other)
            has = set() if twin is None else {cell.seed for cell in twin.done}
            missing = sorted({cell.seed for cell in one.done} - has)
            if missing:
                which = "" if twin is None else f", seed {', '.join(map(str, missing))}"
                only[at].append(f"model {one.label}{which}")
        measured = [{(i.kind, i.name, i.settings) for of in each.rows.values() for i in of} for each in (side, other)]
        names = sorted(measured[0] - measured[1])
        only[at].extend(f"{kind} {Identity(kind, name, own_, name, '').label}" for kind, name, own_ in names)


def _identities(
    ours: Numbers, theirs: Numbers, one: Configuration, other: Configuration, asked: Asked
) -> list[Identity]:
    """What of one model both sides have, and was asked for."""
    both = [identity for identity in ours.rows.get(one, {}) if identity in theirs.rows.get(other, {})]
    if asked.keys:
        wanted = {identity for key in asked.keys for identity in ours.identities(key, asked.slices)}
        return [identity for identity in both if identity in wanted]
    return [identity for identity in both if _is_main(identity) and _in(identity, asked.slices)]


def _in(identity: Identity, slices: Sequence[str]) -> bool:
    """Whether a number is of the records that are compared: all of them, wrong labels, and the slices asked for."""
    of = identity.slice
    return of in ("", MISLABELLED, *slices) or (EVERY_SLICE in slices and not of.endswith(NONMEMBERS))


def _is_main(identity: Identity) -> bool:
    """Whether a number is compared though nobody named it: what attacks and measures find themselves."""
    if identity.kind == "membership":
        return identity.metric == "auc"
    if identity.kind in ACCOUNTED:
        return f"{identity.kind}.{identity.metric}" in COUNTED
    return own(identity.metric) and not identity.metric.startswith("holm")


def _compared(
    point: str, here: Folder, there: Folder, ours: tuple[Numbers, Configuration], theirs: tuple[Numbers, Configuration],
    identity: Identity,
) -> Comparison | None:  # fmt: skip
    """One number over all seeds that both have; None where they share none."""
    known = [_by_seed(numbers, one, identity) for numbers, one in (ours, theirs)]
    seeds = sorted(known[0].keys() & known[1].keys())
    if not seeds:
        return None
    cells = [{cell.seed: cell for cell in one.done} for _, one in (ours, theirs)]
    is_ratio = identity.kind == "utility" and _is_exponential(here.results, identity)
    alone, ways = [], set()
    for seed in seeds:
        found, way = _difference(
            identity, is_ratio, (here, cells[0][seed], known[0][seed]), (there, cells[1][seed], known[1][seed])
        )
        alone.append(found)
        ways.add(way)
    way = next(name for name in ("counted", "independent", "paired", "same run", "missing") if name in ways)
    first, second = ([of[seed].estimate for seed in seeds] for of in known)
    manifest, several = here.results.manifest, len(seeds) > 1
    difference = pool_over_seeds(alone) if several and way != "same run" else alone[0]
    if way == "counted":  # nothing is estimated, so that the spread over seeds is no interval of it
        difference = replace(difference, low=None, high=None, interval="")
    return Comparison(
        point, manifest.model, manifest.data, ours[1].label, tuple(seeds), identity, _together(first, is_ratio),
        _together(second, is_ratio), difference, is_ratio, way, p=_p(difference, way), few=_few(alone, several),
    )  # fmt: skip


def _by_seed(numbers: Numbers, one: Configuration, identity: Identity) -> dict[int, Row]:
    """The row of each seed at its last epoch."""
    rows, ends = numbers.rows[one].get(identity, {}), numbers.epochs(one, "last")
    found = {seed: rows.get((seed, end)) for seed, end in ends.items()}
    return {seed: row for seed, row in found.items() if row is not None}


def _difference(
    identity: Identity, is_ratio: bool, ours: tuple[Folder, Cell, Row], theirs: tuple[Folder, Cell, Row]
) -> tuple[Estimate, str]:
    """The second less the first with one seed, of logarithms where it is a ratio; and how it was made."""
    (here, cell, row), (there, other, twin) = ours, theirs
    if row.value is None or twin.value is None:
        return Estimate.absent(row.reason or twin.reason or "not measured"), "missing"
    if identity.kind in ACCOUNTED:
        return Estimate(twin.value - row.value, n=1, null_value=0.0), "counted"
    if cell.run_id == other.run_id and row.value == twin.value:
        return Estimate(0.0, n=row.n, null_value=0.0), "same run"
    at = [
        At(side.results.evidence, side.texts, run, of.epoch or 0)
        for side, run, of in ((there, other, twin), (here, cell, row))
    ]
    found = paired(identity, at[0], at[1])
    if found is not None and found.value is not None:
        return (logarithm(found) if is_ratio else found), "paired"
    pair = (twin.estimate, row.estimate)
    return difference_of_estimates(*(map(logarithm, pair) if is_ratio else pair)), "independent"


def _is_exponential(results: Results, identity: Identity) -> bool:
    return any(one.form == "exp" for one in results.evidence.utilities if one.name == identity.name)


def _together(estimates: Sequence[Estimate], is_ratio: bool) -> Estimate:
    """The number itself over its seeds."""
    if len(estimates) == 1:
        return estimates[0]
    return pool_logs_over_seeds(estimates) if is_ratio else pool_over_seeds(estimates)


def _p(difference: Estimate, way: str) -> float | None:
    if way in ("counted", "same run") or None in (difference.value, difference.low, difference.high):
        return None
    return p_value(replace(difference, null_value=0.0))


def _few(alone: Sequence[Estimate], several: bool) -> bool:
    shown = any(one.low is not None and one.high is not None and not one.low <= 0.0 <= one.high for one in alone)
    return several and len(alone) < FEW_SEEDS and not shown


def _judged(rows: Sequence[Comparison], margin: float | None) -> Iterator[Comparison]:
    """Every row with its p-value among all, its verdict, and ratios as such."""
    adjusted = iter(holm([row.p for row in rows if row.p is not None]))
    for row in rows:
        p = next(adjusted) if row.p is not None else None
        shown = exponential(row.difference) if row.is_ratio and row.difference.value is not None else row.difference
        yield replace(row, holm_p=p, verdict=_verdict(row, p, margin), difference=shown)


def _verdict(row: Comparison, p: float | None, margin: float | None) -> str:
    if p is None:
        return "" if row.records in ("counted", "same run") else "not resolved"
    if p <= ALPHA and not row.few:
        return "higher" if (row.difference.value or 0.0) > 0.0 else "lower"
    share = row.identity.kind == "extraction" or row.identity.metric in ("auc", "share")
    near = margin is not None and share and not row.few and within_margin(row.difference, margin)
    return "alike" if near else "not resolved"


def _margin(*sides: Results | VariedResults) -> float | None:
    """The equivalence margin that both studies state."""
    found = set()
    for side in sides:
        plain = [side] if isinstance(side, Results) else [one for _, one in side.done()]
        found |= {one.evidence.margin for one in plain}
    return found.pop() if len(found) == 1 else None
