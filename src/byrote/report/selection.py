"""Which numbers of a study somebody means: by a key such as membership.auc, by method, privacy level, slice and epoch.

A key is KIND.METRIC, KIND.NAME or KIND.NAME.METRIC in the words of results.csv. KIND.METRIC is that metric of every
attack or measure of the kind. KIND.NAME stands for what the named one measures itself: the AUC of a membership attack,
every metric of its own of any other; never for what is derived of these (lifts, differences, p-values), which have to
be named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from byrote.registry import discover, nearest
from byrote.report.estimates import STATED
from byrote.report.evidence import Evidence
from byrote.report.extraction_rows import NONMEMBERS
from byrote.report.findings import Configuration, configurations
from byrote.report.measures import label
from byrote.report.results import Results
from byrote.report.rows import COSTS, Row
from byrote.store import Cell, canonical_json
from byrote.types import StudyError

KINDS = ("membership", "extraction", "poisoning", "utility", "privacy", "cost")
DERIVED = ("-vs-", "-lift", "@left-out", "@untuned", "@rightly-labelled")
"""What the name of a metric holds that is made of two numbers, or is another model's."""
ACCOUNTED = ("privacy", "cost")
"""Kinds whose numbers are counted, not estimated, and so have no interval."""
EVERY_SLICE = "all"


@dataclass(frozen=True, slots=True)
class Key:
    """What somebody means by a number."""

    kind: str
    rest: str

    @classmethod
    def read(cls, text: str) -> Key:
        """Raises StudyError where the kind is none of byrote's."""
        kind, dot, rest = text.partition(".")
        if kind not in KINDS or not dot or not rest:
            raise StudyError(
                f"{text!r} names no number.{nearest(kind, KINDS) if kind not in KINDS else ''} Write KIND.METRIC, "
                f"KIND.NAME or KIND.NAME.METRIC, as in membership.auc; the kinds are {', '.join(KINDS)}."
            )
        return cls(kind, rest)

    def __str__(self) -> str:
        return f"{self.kind}.{self.rest}"


class Identity(NamedTuple):
    """What a row measures, whatever the run, seed and epoch."""

    kind: str
    name: str
    settings: str
    """Of the attack or measure; compact JSON."""
    metric: str
    slice: str

    @property
    def label(self) -> str:
        """'reference auc', 'k-extractable, prefix_tokens 16 share on copies=8'."""
        metric = "" if self.metric == self.name else f" {self.metric}"
        return f"{label(self.name, self.settings)}{metric}{f' on {self.slice}' if self.slice else ''}"


@dataclass(frozen=True, eq=False)
class Numbers:
    """The rows of a study by configuration and by what they measure."""

    results: Results

    @property
    def evidence(self) -> Evidence:
        return self.results.evidence

    @cached_property
    def configurations(self) -> list[Configuration]:
        """Every one but the untuned model."""
        return [one for one in configurations(self.evidence) if one.method != "none"]

    @cached_property
    def rows(self) -> dict[Configuration, dict[Identity, dict[tuple[int | None, int | None], Row]]]:
        """By configuration and identity: the rows by (seed, epoch)."""
        of_run = {cell.run_id: one for one in self.configurations for cell in one.done}
        of_key = {(one.method, one.settings, one.privacy, one.delta): one for one in self.configurations}
        found: dict[Configuration, dict[Identity, dict[tuple[int | None, int | None], Row]]] = {}
        for row in self.results.rows:
            method, own = _parted(row)
            one = of_run.get(row.run_id) if row.run_id else of_key.get((row.method, method, row.privacy, row.delta))
            if one is not None:
                identity = Identity(row.kind, row.name, own, row.metric, row.slice)
                found.setdefault(one, {}).setdefault(identity, {})[row.seed, row.epoch] = row
        return found

    def at(self, one: Configuration, identity: Identity, epoch: str) -> list[Row]:
        """The row pooled over the seeds where there are several and it is pooled, else one for each seed that has one.

        `epoch` is "last", "best" (the lowest validation loss) or a number.
        """
        rows, ends = self.rows.get(one, {}).get(identity, {}), self.epochs(one, epoch)
        same = set(ends.values())
        if len(ends) > 1 and (len(same) == 1 or epoch == "last"):
            pooled = rows.get((None, same.pop() if len(same) == 1 else None))
            if pooled is not None:
                return [pooled]
        found = [rows.get((seed, end)) for seed, end in ends.items()]
        return [row for row in found if row is not None]

    def epochs(self, one: Configuration, epoch: str) -> dict[int, int | None]:
        """Which epoch is meant with each seed; none where the run has no such epoch."""
        if epoch == "last":
            return {cell.seed: self.evidence.last_epoch(cell) for cell in one.done}
        if epoch == "best":
            return {cell.seed: self._best(cell) for cell in one.done}
        return {cell.seed: int(epoch) for cell in one.done}

    def _best(self, cell: Cell) -> int | None:
        entries = self.evidence.pieces[cell.run_id].training.get("validation", [])
        known = [(entry["loss"], int(entry["epoch"])) for entry in entries if entry.get("loss") is not None]
        tuned = [(loss, epoch) for loss, epoch in known if epoch > 0]
        return min(tuned)[1] if tuned else self.evidence.last_epoch(cell)

    def chosen(self, methods: Sequence[str], levels: Sequence[str]) -> list[Configuration]:
        """The configurations of these methods (names or labels) and privacy levels; all where none is given.

        Raises StudyError that names what there is.
        """
        of_method = _some(self.configurations, methods, "--method", lambda one: (one.method, one.label))
        return _some(of_method, [_level(word) for word in levels], "--privacy", lambda one: (one.privacy, one.level))

    def identities(self, key: Key, slices: Sequence[str] = ()) -> list[Identity]:
        """What of this study a key means, over all configurations.

        Without `slices`, all records where the number is of all records, and else every slice but controls. Raises
        StudyError for a key that could never mean anything, and for one that means several things of different units.
        """
        every = dict.fromkeys(identity for of in self.rows.values() for identity in of)
        of_kind = [one for one in every if one.kind == key.kind]
        found = meant(key, of_kind)
        self._check(key, found, of_kind)
        if slices and EVERY_SLICE not in slices:
            known = {one.slice for one in every}
            for name in slices:
                if name not in known:
                    raise StudyError(f"--slice: no slice {name!r} here.{nearest(name, known)}{_listed(known)}")
            return [one for one in found if one.slice in slices]
        ordinary = [one for one in found if not one.slice.endswith(NONMEMBERS)]
        whole = {one._replace(slice="") for one in ordinary if not one.slice}
        return [one for one in ordinary if slices or not one.slice or one._replace(slice="") not in whole]

    def _check(self, key: Key, found: Sequence[Identity], of_kind: Sequence[Identity]) -> None:
        metrics = list(dict.fromkeys(one.metric for one in found))
        if key.kind in ACCOUNTED and len(metrics) > 1:
            each = ", ".join(f"{key}.{metric}" for metric in metrics)
            raise StudyError(f"{key} means several numbers of different units: give one of {each}.")
        if found:
            return
        here = {word for one in of_kind for word in (one.metric, one.name) if own(word)}
        if key.rest not in possible(key.kind) and not _possible_pair(key):
            near = nearest(key.rest, sorted(here)) or nearest(key.rest, possible(key.kind))
            near = near.replace("Did you mean '", f"Did you mean '{key.kind}.")
            raise StudyError(f"{key}: no number is called so.{near}{_listed({f'{key.kind}.{w}' for w in here})}")


def meant(key: Key, of_kind: Sequence[Identity]) -> list[Identity]:
    """What a key means among the numbers of its kind: a metric of that name before an attack or measure."""
    exact = [one for one in of_kind if key.rest in (one.metric, f"{one.name}.{one.metric}")]
    named = [one for one in of_kind if key.rest == one.name]
    return exact or [one for one in named if (one.metric == "auc" if key.kind == "membership" else own(one.metric))]


def own(metric: str) -> bool:
    """Whether it is measured itself, and not made of two numbers."""
    return not any(part in metric for part in DERIVED)


def possible(kind: str) -> list[str]:
    """The metrics and names that a kind can have at all, whether this study asks for them or not."""
    if kind == "membership":
        return [*STATED, "auc-lift", *_components("attack", kind)]
    if kind == "cost":
        return [word for name, metric in COSTS.values() for word in (metric, name)]
    if kind == "privacy":
        return ["epsilon", "epsilon_rdp", "epsilon_lower_bound"]
    if kind == "utility":
        return _components("utility", "")
    return _components("attack", kind)


def _possible_pair(key: Key) -> bool:
    """Whether it is NAME.METRIC of something that byrote has and this study does not."""
    name, _, metric = key.rest.partition(".")
    return bool(metric) and name in possible(key.kind) and key.kind not in ACCOUNTED


def _components(room: str, kind: str) -> list[str]:
    """The names of a room's components of a kind, and of their metrics."""
    found = []
    for name, component in discover(room).items():
        if not kind or getattr(component, "kind", "") == kind:
            metrics = getattr(component, "metrics", ())
            found += [name, *(metrics if isinstance(metrics, dict) else ())]
            metric = getattr(component, "metric", None)
            found += [metric] if isinstance(metric, str) else []
    return found


def _parted(row: Row) -> tuple[str, str]:
    """The settings of the method and those of the attack or measure, which one column holds together."""
    if not row.settings:
        return "", ""
    settings: dict[str, Any] = json.loads(row.settings)
    nested = settings.pop(row.name, None)
    return tuple(canonical_json(part) if part else "" for part in (settings, nested))  # type: ignore[return-value]


def _some(
    found: list[Configuration], words: Sequence[str], option: str, called: Callable[[Configuration], tuple[str, ...]]
) -> list[Configuration]:
    names = dict.fromkeys(name for one in found for name in called(one) if name)
    for word in words:
        if word not in names:
            raise StudyError(f"{option}: {word!r} is not among these results.{nearest(word, names)}{_listed(names)}")
    return [one for one in found if not words or any(word in called(one) for word in words)]


def _level(word: str) -> str:
    """A level as the column spells it: '8' of '8.0' and of 'ε 8'."""
    try:
        return f"{float(word.removeprefix('ε').strip()):g}"
    except ValueError:
        return word


def _listed(words: Iterable[str]) -> str:
    kept = sorted(filter(None, words))
    return f" There are: {'; '.join(kept)}." if kept else " There are none."
