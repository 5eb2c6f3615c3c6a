"""Limits that results must keep, for use in continuous integration: what passed, what failed, and why.

A limit is kept where the whole 95% interval keeps it: its upper end for a largest value, its lower end for a least
one. What is counted rather than estimated (an epsilon spent, a cost) has no interval and is judged itself. A number
that is missing fails, and so does everything about a run that failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from byrote.report.axes import VariedResults
from byrote.report.controls import SEEN, on_positive
from byrote.report.findings import Configuration
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.selection import ACCOUNTED, Identity, Key, Numbers
from byrote.types import StudyError

Sense = Literal["max", "min", "max-observed"]
SIGNS: dict[Sense, str] = {"max": "<=", "min": ">=", "max-observed": "observed <="}
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that was asked for."""

    key: Key
    sense: Sense
    limit: float

    @classmethod
    def read(cls, text: str, sense: Sense) -> Limit:
        """From 'membership.auc=0.6'; the metric may hold '=' itself. Raises StudyError."""
        key, equals, number = text.rpartition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not equals or not math.isfinite(limit):
            raise StudyError(f"--{sense} {text!r}: write KEY=NUMBER, for example --{sense} membership.auc=0.6")
        return cls(Key.read(key), sense, limit)

    def __str__(self) -> str:
        return f"{self.key} {SIGNS[self.sense]} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of which numbers the limits are asked."""

    methods: Sequence[str] = ()
    privacy: Sequence[str] = ()
    slices: Sequence[str] = ()
    epoch: str = "last"

    def __post_init__(self) -> None:
        if self.epoch not in ("last", "best") and not (self.epoch.isdecimal() and int(self.epoch)):
            raise StudyError(f"--epoch: last, best, or a number from 1; got {self.epoch!r}")


@dataclass(frozen=True, slots=True)
class Check:
    """One number against one limit. `why` says in words why it passed or failed."""

    limit: str
    point: str
    of: str
    """The configuration."""
    what: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    seed: int | None
    """None where the number is pooled over seeds."""
    passed: bool
    why: str

    def line(self) -> str:
        """'passed  membership.auc <= 0.6  lora: reference auc 0.549 [0.509, 0.588], n 400'."""
        where = ", ".join(filter(None, [self.point, self.of, "" if self.seed is None else f"seed {self.seed}"]))
        number = "missing" if self.value is None else _number(self.value)
        limits = "" if self.low is None or self.high is None else f" [{_number(self.low)}, {_number(self.high)}]"
        size = f", n {self.n:,}" if self.n is not None and limits else ""
        why = f": {self.why}" if self.why else ""
        return (
            f"{'passed' if self.passed else 'FAILED'}  {self.limit}  {where}: {self.what} {number}{limits}{size}{why}"
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """Every check, and what fails the gate whatever the numbers are."""

    checks: tuple[Check, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks) and not self.problems

    def lines(self) -> Iterator[str]:
        """One line for each problem and check, and what they come to."""
        for problem in self.problems:
            yield f"FAILED  {problem}"
        for check in self.checks:
            yield check.line()
        failed = sum(not check.passed for check in self.checks)
        if self.passed:
            yield f"The gate is passed: {len(self.checks)} of {len(self.checks)} checks."
        else:
            also = f", and {len(self.problems)} problem(s) beside them" if self.problems else ""
            yield f"The gate is FAILED: {failed} of {len(self.checks)} checks failed{also}."

    def as_json(self) -> dict[str, Any]:
        """For a machine; the same words."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, "problems": list(self.problems), "checks": checks}


def gate(results: Results | VariedResults, limits: Sequence[Limit], wanted: Wanted) -> Gate:
    """Every limit on every configuration that is wanted, of every point. Raises StudyError for what means nothing."""
    if not isinstance(results, VariedResults):
        return _gate(results, limits, wanted)
    found = [(entry.label, _gate(one, limits, wanted, entry.label)) for entry, one in results.done()]
    missing = [f"{point.entry.label}: {point.reason}" for point in results.points if point.results is None]
    problems = [f"{label}: {problem}" for label, one in found for problem in one.problems]
    return Gate(tuple(check for _, one in found for check in one.checks), (*missing, *problems))


def _gate(results: Results, limits: Sequence[Limit], wanted: Wanted, point: str = "") -> Gate:
    numbers = Numbers(results)
    chosen = numbers.chosen(wanted.methods, wanted.privacy)
    checks = []
    for limit in limits:
        identities = numbers.identities(limit.key, wanted.slices)
        for one in chosen:
            if one.done:
                checks += list(_of(numbers, one, limit, identities, wanted.epoch, point))
    names = {one.method for one in chosen} | set(wanted.methods)
    problems = [*_unfinished(results, names if wanted.methods else ()), *_problems(results, chosen, limits)]
    return Gate(tuple(checks), tuple(problems))


def _of(
    numbers: Numbers, one: Configuration, limit: Limit, identities: Sequence[Identity], epoch: str, point: str
) -> Iterator[Check]:
    """The limit on every number of one configuration that it means; a missing one is a check that fails."""
    seen = False
    for identity in identities:
        rows = numbers.at(one, identity, epoch)
        seen |= bool(rows)
        for row in rows:
            yield _check(limit, point, one, identity, row)
        absent = _absent(numbers, one, identity, rows, epoch)
        if rows and absent:
            why = f"no such number of seed {', '.join(map(str, absent))}"
            yield _missing(limit, point, one, identity.label, why)
        if not rows and identity in numbers.rows.get(one, {}):
            yield _missing(limit, point, one, identity.label, f"not measured at epoch {epoch}")
            seen = True
    if not seen:
        yield _missing(limit, point, one, str(limit.key), _hint(limit.key, one))


def _absent(numbers: Numbers, one: Configuration, identity: Identity, rows: Sequence[Row], epoch: str) -> list[int]:
    """The seeds without the number, though others, perhaps pooled, have it."""
    done = {cell.seed for cell in one.done}
    if not any(row.seed is None for row in rows):
        return sorted(done - {row.seed for row in rows if row.seed is not None})
    if all(row.value is None or row.n is None or row.n >= len(done) for row in rows):
        return []  # without a value it has failed already, and says why
    of = numbers.rows[one][identity]
    alone = {seed: of.get((seed, end)) for seed, end in numbers.epochs(one, epoch).items()}
    return sorted(seed for seed, row in alone.items() if row is None or row.value is None)


def _hint(key: Key, one: Configuration) -> str:
    if key.kind == "privacy" and not one.private:
        return "it was trained without privacy, which bounds nothing; --privacy chooses the levels that are judged"
    return "these results have no such number: the study did not ask for it"


def _missing(limit: Limit, point: str, one: Configuration, what: str, why: str) -> Check:
    return Check(str(limit), point, one.label, what, None, None, None, None, None, False, why)


def _check(limit: Limit, point: str, one: Configuration, identity: Identity, row: Row) -> Check:
    passed, why = _judged(limit, identity, row)
    return Check(
        str(limit), point, one.label, identity.label, row.value, row.low, row.high, row.n, row.seed, passed, why
    )


def _judged(limit: Limit, identity: Identity, row: Row) -> tuple[bool, str]:
    """Whether the number keeps the limit, and why not."""
    if row.value is None:
        return False, row.reason
    if limit.sense == "max-observed":
        return row.value <= limit.limit, "" if row.value <= limit.limit else "the number itself is beyond the limit"
    if identity.kind in ACCOUNTED:
        kept = row.value <= limit.limit if limit.sense == "max" else row.value >= limit.limit
        return kept, "" if kept else f"it is {'above' if limit.sense == 'max' else 'below'} the limit"
    if row.low is None or row.high is None:
        return False, "it has no interval, so nothing shows how far it may be off"
    if limit.sense == "min":
        return row.low >= limit.limit, "" if row.low >= limit.limit else _reaches(row.value >= limit.limit, row.low)
    if row.high <= limit.limit:
        return True, ""
    if row.value == 0.0 and row.interval == "clopper-pearson":
        return False, _none_came_out(limit, row, row.high)
    return False, _reaches(row.value <= limit.limit, row.high)


def _reaches(inside: bool, end: float) -> str:
    """Whether the number or only its interval is beyond the limit: more records may mend the second."""
    if inside:
        return f"the number keeps the limit, but its interval reaches {_number(end)}: audit more records"
    return "the number itself is beyond the limit"


def _none_came_out(limit: Limit, row: Row, high: float) -> str:
    """Nothing was seen, and the limit is below what so few records can show."""
    up = _number(math.ceil(high * 1000) / 1000)
    said = f"0 of {row.n:,} came out, but the interval reaches {up}"
    if limit.limit <= 0.0:
        return f"{said}: no number of records shows 0. Allow {up}, or judge what was seen: --max-observed {limit.key}=0"
    needed = math.ceil(math.log(TAIL) / math.log1p(-limit.limit))
    return f"{said}: allow {up}, or audit {needed:,} records or more"


def _problems(results: Results, chosen: Sequence[Configuration], limits: Sequence[Limit]) -> Iterator[str]:
    """What fails the gate whatever the numbers are: runs that failed, and controls that say not to trust them."""
    if not any(one.done for one in chosen):
        yield "no tuned model has numbers here"
    for one in chosen:
        for cell in one.cells:
            if cell.status == "failed":
                yield f"{one.label}, seed {cell.seed}, failed: {cell.error or 'no reason was recorded'}"
    kinds = {limit.key.kind for limit in limits}
    if "privacy" in kinds:
        yield from results.banners
    if "membership" in kinds:
        yield from results.broken_splits
        control = [estimate for _, estimate in on_positive(results.evidence) if estimate.high is not None]
        if control and all((estimate.high or 0.0) < SEEN for estimate in control):
            yield "no attack sees even members that were over-fitted on purpose: that none finds others says nothing"


def _unfinished(results: Results, names: Collection[str]) -> Iterator[str]:
    """The methods, of these or of all, of which the study asked for more runs than have ended."""
    study = results.manifest.study
    planned: Counter[str] = Counter()
    for method in study.get("methods", []):
        spec = method if isinstance(method, dict) else {"name": method}
        levels = [one for one in study.get("privacy", ["none"]) if one == "none" or spec.get("private", True)]
        planned[str(spec.get("name"))] += len(levels) * len(study.get("seeds", [0]))
    ended = Counter(cell.method for cell in results.manifest.cells)
    for name, count in planned.items():
        if ended[name] < count and (not names or name in names):
            yield f"the study is not finished: {ended[name]} of {count} runs of {name} have ended. Run it again"


def _number(value: float) -> str:
    """Three decimals for what is near one, three digits else."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
