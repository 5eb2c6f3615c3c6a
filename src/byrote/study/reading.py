"""From a YAML file to a checked study; every mistake is named with its line and the nearest right word."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from byrote.claims import Claim
from byrote.registry import nearest
from byrote.study.axes import (
    VARY,
    Axis,
    Combination,
    Place,
    Point,
    VariedStudy,
    axes_of,
    combinations,
    folders_of,
    single_points,
)
from byrote.study.claims import Asked, problem_with
from byrote.study.elsewhere import ELSEWHERE
from byrote.study.model import Data, Study
from byrote.types import StudyError

DATA_FILES = (".jsonl", ".csv", ".parquet", ".txt")
"""Endings that a study never has."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            keys.append(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises StudyError that names the line."""
    try:
        loader = _Loader(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        hint = ". YAML indents with spaces, not with tabs." if "'\\t'" in str(error.problem) else ""
        raise StudyError(f"{where}: {line}{error.problem or error}{hint}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise StudyError(f"{where}: {' '.join(str(error).split())}") from None
    try:
        json.dumps(value, default=str)
    except (ValueError, RecursionError):
        raise StudyError(f"{where}: an alias (*name) stands inside its own anchor (&name)") from None
    if not isinstance(value, dict):
        raise StudyError(f"{where}: a study is a mapping of settings (name: ..., model: ..., data: ...)")
    return value


def override(raw: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The raw study with `key.path=value` assignments applied; values are read as YAML."""
    changed: dict[str, Any] = json.loads(json.dumps(raw, default=str))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not all(path.split(".")):
            raise StudyError(f"--set {assignment!r}: write key=value, for example --set epochs=2")
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise StudyError(f"--set {assignment!r}: the value is not YAML") from None
        # What is varied is named by a path that has dots itself.
        *parents, last = path.split(".", 1) if path.startswith(f"{VARY}.") else path.split(".")
        place = changed
        for parent in parents:
            step = place.setdefault(parent, {})
            if not isinstance(step, dict):
                raise StudyError(f"--set {assignment!r}: {parent} is not a mapping; set the whole of {parent}")
            place = step
        place[last] = value
    return changed


def study_from(
    raw: Mapping[str, Any],
    where: str,
    text: str = "",
    assigned: Sequence[str] = (),
    varied: Sequence[str] = (),
) -> Study:
    """A checked study. Raises StudyError that names the file, the line, the key and the nearest right one.

    `text` is the YAML that `raw` was read from, `assigned` the paths that --set changed in it, and `varied` those
    that were filled in from its `vary`.
    """
    try:
        return Study.model_validate(dict(raw))
    except ValidationError as error:
        problems = error.errors()
        # A misspelt key makes the right one missing: the misspelt one is what to show.
        problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
        path = _in_study(problem["loc"], raw)
        dotted = ".".join(map(str, path))
        filled = next((name for name in varied if _inside(dotted, name)), None)
        place = _place(where, text, path if filled is None else [VARY, filled], assigned)
        if problem["type"] == "extra_forbidden":
            raise StudyError(f"{place}: {_unknown_key(path)}") from None
        if problem["type"] == "missing":
            raise StudyError(f"{place}: {'.'.join(map(str, problem['loc']))} is missing") from None
        alike = [each for each in problems if _in_study(each["loc"], raw) == path]
        raise StudyError(f"{place}: {dotted}: {_in_words(alike)}") from None


def varied_from(raw: Mapping[str, Any], where: str, text: str = "", assigned: Sequence[str] = ()) -> VariedStudy | None:
    """The points of a study that varies something; None where it varies nothing. Raises StudyError as above."""

    def at(path: Sequence[str | int]) -> str:
        return _place(where, text, path, assigned)

    axes = axes_of(raw, at)
    if not axes and not single_points(raw, at):
        return None
    paths = [axis.path for axis in axes]
    if hidden := [name for name in assigned if name in paths]:
        path = hidden[0]
        raise StudyError(
            f"{where}, with --set {path}: the study varies it: --set 'vary.{path}=[...]' changes the values"
        )
    claimed = raw.get("claims") or []
    found = combinations({key: value for key, value in raw.items() if key != "claims"}, axes, at)
    studies = _checked_points(found, lambda filled: study_from(filled, where, text, assigned, paths))
    alike: dict[str, str] = {}
    for point, study in zip(found, studies, strict=True):
        if (same := study.model_dump_json()) in alike:
            raise StudyError(f"{at([VARY])}: vary: {alike[same]} and {point.label} are the same study")
        if point.label in alike.values():
            raise StudyError(f"{at([VARY])}: vary: two points are called {point.label}: spell their values alike")
        alike[same] = point.label
    points = [
        Point(
            point.values, point.words, folder, study.model_copy(update={"name": _point_name(study.name, point.label)})
        )
        for point, folder, study in zip(found, folders_of(found), studies, strict=True)
    ]
    claims = _claims(claimed, studies, axes, at, assigned)
    return VariedStudy(studies[0].name, studies[0].question, tuple(axes), tuple(points), tuple(claims))


def _claims(
    raw: Any, studies: Sequence[Study], axes: Sequence[Axis], at: Place, assigned: Sequence[str]
) -> list[Claim]:
    """What a study claims of all its points together, less what --set took away from it."""
    try:
        claims = TypeAdapter(list[Claim]).validate_python(raw)
    except ValidationError as error:
        problems = error.errors()
        problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
        path = ["claims", *problem["loc"]]
        if problem["type"] == "extra_forbidden":
            said = f"unknown key {path[-1]!r}.{nearest(str(path[-1]), list(Claim.model_fields))}"
            raise StudyError(f"{at(path)}: {'.'.join(map(str, path[:-1]))}: {said}") from None
        if problem["type"] == "missing":
            raise StudyError(f"{at(path[:-1])}: {'.'.join(map(str, path))} is missing") from None
        raise StudyError(f"{at(path)}: {'.'.join(map(str, path))}: {_in_words([problem])}") from None
    asked = [Asked(*(getattr(study, field) for field in Asked._fields)) for study in studies]
    if assigned and not any(_inside(name, "claims") for name in assigned):
        claims = [claim for claim in claims if problem_with([claim], asked, axes) is None]
    if found := problem_with(claims, asked, axes):
        raise StudyError(f"{at(['claims', found[0]])}: claims: {found[1]}")
    return claims


def _checked_points(points: Sequence[Combination], check: Callable[[Mapping[str, Any]], Study]) -> list[Study]:
    """Every point as a study. Raises StudyError, with the point where not all of them fail alike."""
    studies: list[Study] = []
    errors: dict[str, str] = {}
    for point in points:
        try:
            studies.append(check(point.raw))
        except StudyError as error:
            errors.setdefault(str(error), point.label)
    if errors:
        message, label = next(iter(errors.items()))
        raise StudyError(message if len(errors) == 1 and not studies else f"{message} (at {label})")
    return studies


def _point_name(name: str, label: str) -> str:
    """The study's name with the point's values, as a report's title has it."""
    whole = name if label == "all" else f"{name}: {label}"
    return "".join(sign if sign.isprintable() and sign not in "/\\" else "-" for sign in whole)


def _place(where: str, text: str, path: Sequence[str | int], assigned: Sequence[str]) -> str:
    """Where a key stands, for messages: the file with its line, or with the --set that gave it."""
    dotted = ".".join(map(str, path))
    if any(_inside(dotted, name) for name in assigned):
        return f"{where}, with --set {dotted}"
    line = _line_of(text, path)
    return f"{where}, line {line}" if line else where


def _inside(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _in_study(location: tuple[int | str, ...], raw: Mapping[str, Any]) -> list[str | int]:
    """The part of a pydantic location that a person wrote; the rest names branches of a type."""
    place: Any = raw
    path: list[str | int] = []
    for part in location:
        inside = isinstance(place, dict) and part in place
        if not inside and not (isinstance(place, list) and isinstance(part, int) and part < len(place)):
            break
        path.append(part)
        place = place[part]
    return path


def _unknown_key(path: list[str | int]) -> str:
    key, inside = str(path[-1]), path[0] == "data" and len(path) > 1
    here, there = (Data, Study) if inside else (Study, Data)
    if key in ELSEWHERE:
        return f"unknown key {key!r}: byrote calls it {ELSEWHERE[key]!r}."
    if key in there.model_fields:
        return f"unknown key {key!r}: it belongs {'at the top level' if inside else 'under data'}."
    known = [*here.model_fields, *([] if inside else [VARY])]
    return f"unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}."


def _in_words(problems: Sequence[Any]) -> str:
    """What is wrong with one value; several problems are the branches of a choice."""
    first = problems[0]
    if first["type"] == "value_error":
        return str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "model_type":
        return f"must be a mapping of settings, not {first['input']!r}"
    if first["type"] in ("too_short", "string_too_short"):
        return "must not be empty"
    musts = [str(each["msg"]).removeprefix("Input should be ").removeprefix("String should ") for each in problems]
    got = "nothing" if first["input"] is None else repr(first["input"])
    return f"must be {', or '.join(dict.fromkeys(musts))}; got {got}"


def _line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line (from 1) on which the deepest known part of a path stands in a YAML text."""
    if not text:
        return None
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def shipped_studies() -> dict[str, Path]:
    """The studies that come with byrote, by name: in the package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    folder = next((f for f in (here / "studies", here.parents[1] / "studies") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def load_study(reference: str | Path, assignments: Sequence[str] = ()) -> tuple[Study, Path]:
    """A study from a file or by the name of a shipped one, and the folder its paths are relative to.

    Raises StudyError where it varies something: see `load`.
    """
    study, folder = load(reference, assignments)
    if isinstance(study, VariedStudy):
        varied = ", ".join(axis.path for axis in study.axes)
        raise StudyError(
            f"{reference}: the study varies {varied}: here give one point, with --set vary={{}} and its values"
        )
    return study, folder


def load(reference: str | Path, assignments: Sequence[str] = ()) -> tuple[Study | VariedStudy, Path]:
    """A study, or the points of one that varies something, from a file or by the name of a shipped one.

    The folder is what their paths are relative to.
    """
    path = Path(reference)
    if not path.is_file():
        shipped = shipped_studies()
        if str(reference) not in shipped:
            near = _nearest_file(path) or nearest(path.stem, list(shipped))
            raise StudyError(f"no study file {str(reference)!r}.{near} Shipped studies: {', '.join(shipped)}.")
        path = shipped[str(reference)]
    if path.suffix.lower() in DATA_FILES:
        raise StudyError(f"{path} is data, not a study. Write a study for it: byrote init {shlex.quote(str(path))}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot read the study {path}: {error}") from None
    changed = override(read_yaml(text, str(path)), assignments)
    assigned = [assignment.partition("=")[0] for assignment in assignments]
    varied = varied_from(changed, str(path), text, assigned)
    return varied or _alone(changed, str(path), text, assigned), path.resolve().parent


def _nearest_file(path: Path) -> str:
    """' Did you mean ...?' with the study beside it whose name comes closest, or an empty string."""
    try:
        beside = [one.name for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.8)
    return f" Did you mean {str(path.parent / close[0])!r}?" if close else ""


def _alone(raw: Mapping[str, Any], where: str, text: str, assigned: Sequence[str]) -> Study:
    """A study that varies nothing, with its claims."""

    def at(path: Sequence[str | int]) -> str:
        return _place(where, text, path, assigned)

    alone = {key: value for key, value in raw.items() if key not in (VARY, "claims")}
    study = study_from(alone, where, text, assigned)
    return study.model_copy(update={"claims": _claims(raw.get("claims") or [], [study], [], at, assigned)})
