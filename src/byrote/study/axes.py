"""What a study varies: `vary` gives values to fields, and every combination of them is a study of its own, a point.

A field of the methods (`method.r: [8, 16]`) makes no point: it multiplies the methods inside each one, so that they
are compared on the same records. All here is done on what a person wrote, before it is checked as a study.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from byrote.claims import Claim
from byrote.registry import discover, make, nearest
from byrote.study.elsewhere import ELSEWHERE
from byrote.study.model import Data, Study
from byrote.types import StudyError

VARY = "vary"
POINTS = "points"
"""The key under `vary` that lists single points besides every combination of the axes."""
METHOD = "method."
ROOMS = {"plants": "plant", "attacks": "attack", "utility": "utility"}
"""Lists of a study whose components are named in a path (`plants.duplicates.copies`), and their rooms."""
NOT_VARIED = {
    "name": "a point is named by its values",
    "question": "a study has one question",
    "seeds": "give them as a list: seeds: [0, 1, 2]",
    "methods": "give them as a list, or vary a field of theirs, as in method.r",
    "claims": "they are about all points together",
    "report_to": "give the trackers as a list: report_to: [mlflow, tensorboard]",
    "privacy": "give the levels as a list: privacy: [none, {epsilon: 8}]",
}
"""What has a better way of its own."""
FOLDER_LENGTH = 100

Raw = Mapping[str, Any]
Place = Callable[[Sequence[str | int]], str]
"""Where a key of the study stands, for messages: "study.yaml, line 12"."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A field and the values that it takes."""

    path: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    """The values as people read them."""
    combined: int | None = None
    """How many of them, the first, are combined with the other axes; the rest stand in single points. None: all."""

    @property
    def of_methods(self) -> bool:
        """Whether it multiplies the methods inside a point."""
        return self.path.startswith(METHOD)


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of values, and the study that it is."""

    values: Mapping[str, Any]
    words: Mapping[str, str]
    """The values as people read them."""
    folder: str
    """"model=tiny-4m,epochs=3"."""
    study: Study

    @property
    def label(self) -> str:
        return label_of(self.words)


@dataclass(frozen=True, slots=True)
class VariedStudy:
    """A study that varies something: an ordinary study for each point."""

    name: str
    question: str
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    claims: tuple[Claim, ...] = ()


def axes_of(raw: Raw, at: Place) -> list[Axis]:
    """The axes that a study asks for. Raises StudyError that names the key and the nearest right one."""
    vary = raw.get(VARY)
    if vary is None:
        return []
    if not isinstance(vary, Mapping):
        raise StudyError(f"{at([VARY])}: vary: must be a mapping of fields to lists of values, not {vary!r}")
    axes = [_axis(raw, str(path), values, at([VARY, str(path)])) for path, values in vary.items() if path != POINTS]
    return _with_points(axes, single_points(raw, at))


def single_points(raw: Raw, at: Place) -> list[Raw]:
    """The points that `vary` lists one by one, as fields and their values."""
    listed = (raw.get(VARY) or {}).get(POINTS, [])
    place = at([VARY, POINTS])
    if not isinstance(listed, list) or not all(isinstance(point, Mapping) and point for point in listed):
        raise StudyError(
            f"{place}: vary.{POINTS}: must be a list of mappings such as "
            f"{{model: builtin:tiny-16m, epochs: 2}}; got {listed!r}"
        )
    for path in (str(path) for point in listed for path in point):
        named = path in ("name", "question", "claims", "report_to") or path.startswith(METHOD)
        if named or (path not in NOT_VARIED and (problem := _cannot_vary(raw, path))):
            why = f"{path} cannot stand in a single point" if named else problem
            raise StudyError(f"{place}: vary.{POINTS}: {why}")
    _check_data([point["data"] for point in listed if "data" in point], f"{place}: vary.{POINTS}: data")
    return listed


def _with_points(axes: Sequence[Axis], points: Sequence[Raw]) -> list[Axis]:
    """The axes with the values that only single points give to them."""
    found = []
    for axis in axes:
        values, labels = list(axis.values), list(axis.labels)
        for value in (point[axis.path] for point in points if axis.path in point):
            if value not in values:
                values.append(value)
                labels.append(_words(value))
        found.append(Axis(axis.path, tuple(values), tuple(labels), len(axis.values)))
    return found


def _axis(raw: Raw, path: str, values: Any, place: str) -> Axis:
    if problem := _cannot_vary(raw, path):
        raise StudyError(f"{place}: vary: {problem}")
    if not isinstance(values, list) or not values:
        raise StudyError(f"{place}: vary.{path}: must be a list of values; got {values!r}")
    if path == "data":
        _check_data(values, f"{place}: vary.data")
    spelt = [json.dumps(value, sort_keys=True, default=str) for value in values]
    if twice := [value for value, count in Counter(spelt).items() if count > 1]:
        raise StudyError(f"{place}: vary.{path}: {twice[0]} stands twice")
    labels = [_words(value) for value in values]
    return Axis(path, tuple(values), tuple(labels if len(set(labels)) == len(labels) else spelt))


def _check_data(values: Sequence[Any], where: str) -> None:
    """Raises StudyError for a value of data that no other can be laid over."""
    if wrong := [value for value in values if not isinstance(value, Mapping)]:
        raise StudyError(
            f"{where}: each value is a mapping that is laid over data, such as {{source: more.csv}}; got {wrong[0]!r}"
        )


def _cannot_vary(raw: Raw, path: str) -> str:
    """Why nothing of a study can be varied by this path; empty where it can."""
    first, _, rest = path.partition(".")
    if path in NOT_VARIED:
        return f"{path} cannot be varied: {NOT_VARIED[path]}"
    if (first == "data" and rest in Data.model_fields) or path in Study.model_fields:
        return ""
    if first in ROOMS and rest.count(".") == 1:
        return _unknown_part(raw, first, *rest.split("."))
    if first == "method" and rest:
        fields = {name for spec in _specs(raw, "methods") for name in _fields("method", spec)}
        if rest in fields or "methods" not in raw:
            return ""
        return f"no method of this study has the field {rest!r}.{nearest(rest, sorted(fields))}"
    if (last := path.rpartition(".")[2]) in ELSEWHERE:
        return f"unknown field {path!r}: byrote calls it {ELSEWHERE[last]!r}."
    known = [name for name in Study.model_fields if name not in NOT_VARIED]
    known += [f"data.{name}" for name in Data.model_fields]
    said = (
        f"unknown field {path!r}.{nearest(path, known)} A path names a field of the study, one of data (data.members)"
    )
    return f"{said}, of its methods (method.r), or of one plant or attack (plants.duplicates.copies)."


def _unknown_part(raw: Raw, key: str, name: str, field: str) -> str:
    specs = [spec for spec in _specs(raw, key) if spec.get("name") == name]
    if not specs:
        listed = [str(spec.get("name")) for spec in _specs(raw, key)]
        return f"the study lists no {name!r} under {key}.{nearest(name, listed)}"
    fields = _fields(ROOMS[key], specs[0])
    return "" if field in fields else f"{name} has no field {field!r}.{nearest(field, fields)}"


def _specs(raw: Raw, key: str) -> list[dict[str, Any]]:
    """The components of a list of the study, each as a mapping with its name."""
    written = raw.get(key) or []
    written = written if isinstance(written, list) else [written]
    return [dict(spec) if isinstance(spec, Mapping) else {"name": spec} for spec in written]


def _fields(room: str, spec: Raw) -> list[str]:
    known = discover(room).get(str(spec.get("name")))
    return list(known.model_fields) if known is not None else []


def label_of(words: Mapping[str, str]) -> str:
    """A point in words: 'model tiny-4m, epochs 3'; 'all' where nothing but methods is varied."""
    return ", ".join(f"{path} {word}" for path, word in words.items()) or "all"


class Combination(NamedTuple):
    """The values of a point, these in words, and what was written with them filled in."""

    values: dict[str, Any]
    words: dict[str, str]
    raw: dict[str, Any]

    @property
    def label(self) -> str:
        return label_of(self.words)


def combinations(raw: Raw, axes: Sequence[Axis], at: Place) -> list[Combination]:
    """Every point, the first axis outermost. Raises StudyError where a component does not take a value."""
    fixed = {key: value for key, value in raw.items() if key != VARY}
    for axis in axes:
        if axis.of_methods and "methods" in raw:
            fixed["methods"] = _multiplied(fixed, axis, at)
    outer = [axis for axis in axes if not axis.of_methods]
    found = []
    columns = [list(zip(axis.values, axis.labels, strict=True))[: axis.combined] for axis in outer]
    for chosen in itertools.product(*columns):
        filled, values, words = fixed, dict[str, Any](), dict[str, str]()
        for axis, (value, word) in zip(outer, chosen, strict=True):
            filled = _filled(filled, axis.path, value, at)
            values[axis.path], words[axis.path] = value, word
        found.append(Combination(values, words, filled))
    return found + [_single(fixed, outer, point, at) for point in single_points(raw, at)]


def _single(fixed: Raw, axes: Sequence[Axis], point: Raw, at: Place) -> Combination:
    """A point that is listed by itself: it takes the study's own value on each axis that it does not name."""
    missing = [axis.path for axis in axes if axis.path not in point]
    values, words, filled = dict[str, Any](), dict[str, str](), dict(fixed)
    for axis in axes:
        if axis.path in missing:
            own = _own_value(fixed, axis)
            if own is None:
                raise StudyError(
                    f"{at([VARY, POINTS])}: vary.{POINTS}: {dict(point)} says nothing of {axis.path}, which is varied"
                )
            values[axis.path], words[axis.path] = own
    for path, value in point.items():
        labels = next((axis for axis in axes if axis.path == path), None)
        values[path] = value
        words[path] = _words(value) if labels is None else labels.labels[list(labels.values).index(value)]
    for path, value in values.items():
        filled = _filled(filled, path, value, at)
    ordered = [axis.path for axis in axes] + [path for path in point if path not in {axis.path for axis in axes}]
    return Combination({path: values[path] for path in ordered}, {path: words[path] for path in ordered}, filled)


def _own_value(fixed: Raw, axis: Axis) -> tuple[Any, str] | None:
    """The value of the axis that the study itself has outside `vary`, with its label."""
    own = _written(fixed, axis.path)
    for value, label in zip(axis.values, axis.labels, strict=True):
        if own == value or (axis.path == "data" and isinstance(own, Mapping) and value.items() <= own.items()):
            return value, label
    return None


def _written(raw: Raw, path: str) -> Any:
    """What the study has for a field that can be varied; None where it says nothing."""
    key, _, rest = path.partition(".")
    if key in ROOMS and rest:
        name, _, field = rest.partition(".")
        return next((spec.get(field) for spec in _specs(raw, key) if spec.get("name") == name), None)
    if key == "data" and rest:
        data = raw.get("data")
        return data.get(rest) if isinstance(data, Mapping) else None
    return raw.get(key)


def _multiplied(raw: Raw, axis: Axis, at: Place) -> list[dict[str, Any]]:
    """The methods, those with the field once for each of its values."""
    field = axis.path.removeprefix(METHOD)
    methods = []
    for spec in _specs(raw, "methods"):
        if field in _fields("method", spec):
            methods += [_checked("method", {**spec, field: value}, axis.path, at) for value in axis.values]
        else:
            methods.append(spec)
    return methods


def _checked(room: str, spec: dict[str, Any], path: str, at: Place) -> dict[str, Any]:
    try:
        make(room, spec)
    except StudyError as error:
        raise StudyError(f"{at([VARY, path])}: vary.{path}: {error}") from None
    return spec


def _filled(raw: Raw, path: str, value: Any, at: Place) -> dict[str, Any]:
    """The study with one field set."""
    key, _, rest = path.partition(".")
    if key in ROOMS and rest:
        name, _, field = rest.partition(".")
        specs = [
            _checked(ROOMS[key], {**spec, field: value}, path, at) if spec.get("name") == name else spec
            for spec in _specs(raw, key)
        ]
        return {**raw, key: specs}
    if key == "data":
        data = raw.get("data")
        over = {rest: value} if rest else value
        return {**raw, "data": {**data, **over} if isinstance(data, Mapping) else over}
    return {**raw, key: value}


def folders_of(points: Sequence[Combination]) -> list[str]:
    """A folder's name for each point, which hangs on its own values alone: 'model=tiny-4m,epochs=3'."""
    names = [
        ",".join(f"{path}={_plain(word)}" for path, word in point.words.items())[:FOLDER_LENGTH] or "all"
        for point in points
    ]
    alike = Counter(name.casefold() for name in names)  # as some file systems see them
    return [
        name if alike[name.casefold()] == 1 else f"{name[: FOLDER_LENGTH - 9]}-{_hash(point.label)}"
        for name, point in zip(names, points, strict=True)
    ]


def _plain(label: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", label, flags=re.ASCII).strip("-.") or "-"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _words(value: Any) -> str:
    """A value as people read it: 'tiny' of 'builtin:tiny', 'aws-commands' of a mapping with that source."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, Mapping):
        parts = [_words(part) if key == "source" else f"{key} {_words(part)}" for key, part in value.items()]
        return ", ".join(parts) or "{}"
    if isinstance(value, list):
        return "/".join(map(_words, value)) or "[]"
    return f"{value:g}" if isinstance(value, float) else str(value).removeprefix("builtin:")
