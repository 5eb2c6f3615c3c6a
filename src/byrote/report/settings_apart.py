"""In which settings two studies differ, and in what ran them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from byrote.report.formats import ABSENT
from byrote.report.results import Results
from byrote.store import canonical_json

WORDS = ("name", "question", "claims", "report_to")
"""What a study says about itself, which no number hangs on."""


class Setting(NamedTuple):
    """A setting that the two studies do not share."""

    point: str
    path: str
    first: str
    second: str


def settings_apart(point: str, ours: Results, theirs: Results) -> Iterator[Setting]:
    """Every setting of the studies, and version of what ran them, that differs."""
    one, other = (dict(_flat(_facts(side))) for side in (ours, theirs))
    for path in dict.fromkeys([*one, *other]):
        first, second = (side.get(path, ABSENT) for side in (one, other))
        if first != second:
            yield Setting(point, path, first, second)


def _facts(results: Results) -> dict[str, Any]:
    manifest = results.manifest
    facts = {key: value for key, value in manifest.study.items() if key not in WORDS}
    versions = {
        name: sorted({str(pieces.environment.get("versions", {}).get(name, ABSENT)) for pieces in of})
        for name in ("torch", "transformers", "peft")
        if (of := [results.evidence.pieces[cell.run_id] for cell in results.evidence.runs()])
    }
    return {**facts, "byrote": manifest.byrote, "versions": {name: ", ".join(of) for name, of in versions.items()}}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings by dotted path; a component of a list has its name in the path."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(part, f"{path}.{key}" if path else str(key))
    elif names := _names(value):
        yield path, ", ".join(names)
        for name, part in zip(names, value, strict=True):
            settings = {key: setting for key, setting in part.items() if key != "name"}
            yield from _flat(settings, f"{path}.{name}") if settings else ()
    else:
        yield path, value if isinstance(value, str) else canonical_json(_short(value))


def _names(value: Any) -> list[str]:
    """The names of a list of components, numbered where one stands again; none of any other value."""
    if not isinstance(value, list) or not all(isinstance(part, dict) and "name" in part for part in value):
        return []
    names = [str(part["name"]) for part in value]
    before = [names[:at].count(name) for at, name in enumerate(names)]
    return [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]


def _short(value: Any) -> Any:
    """A list whose mappings say only what is set."""
    if not isinstance(value, list):
        return value
    return [{k: v for k, v in part.items() if v is not None} if isinstance(part, dict) else part for part in value]
