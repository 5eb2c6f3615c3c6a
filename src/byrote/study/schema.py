"""The JSON Schema of study files, so that editors complete keys, show what they mean and mark what is misspelt.

It is made from the same models that check a study, with every component that is installed. What only the study as a
whole can tell (does a claim name an attack of the study?) is left to byrote.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
from functools import cache
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from byrote.claims import Claim
from byrote.registry import Component, discover
from byrote.study.axes import NOT_VARIED, POINTS, VARY
from byrote.study.fields import LENGTHS
from byrote.study.model import Data, Study
from byrote.study.privacy import Privacy

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROOMS = {"methods": "method", "plants": "plant", "attacks": "attack", "utility": "utility", "report_to": "tracker"}
SEVERAL = ("methods", "plants", "attacks", "utility", "privacy", "seeds", "nulls", "claims", "report_to")
"""Lists of which a single element may stand alone."""
FILE = "study.schema.json"
MODELINE = f"# yaml-language-server: $schema={FILE}"
"""What tells editors where the schema of a YAML file is: beside it."""


def schema_text() -> str:
    """The schema as a file holds it."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def study_schema() -> Schema:
    """The schema of a study file."""
    schema = Study.model_json_schema()
    defs: Schema = schema.pop("$defs")
    defs.pop("Component")
    for model in (Study, Data, Privacy, Claim):
        _describe(schema if model is Study else defs[model.__name__], model)
    for key, room in ROOMS.items():
        schema["properties"][key]["items"] = {"$ref": f"#/$defs/{room}"}
        for name, component in discover(room).items():
            defs[f"{room}.{name}"] = _settings(component, defs)
        defs[room] = {"anyOf": [_named(room, component) for component in discover(room).values()]}
    for key in SEVERAL:
        schema["properties"][key] = _or_alone(schema["properties"][key])
    schema["properties"]["report_to"]["anyOf"].append({"const": "none"})
    defs["Data"]["properties"]["attributes"] = _or_alone(defs["Data"]["properties"]["attributes"])
    defs["Privacy"]["anyOf"] = [{"required": [name]} for name in ("epsilon", "noise_multiplier")]
    _suggest(schema["properties"]["model"], "model")
    _suggest(defs["Data"]["properties"]["source"], "source")
    needed = defs["Data"].pop("required")
    schema["properties"][VARY] = _vary(schema["properties"], defs)
    schema["required"] = ["name", "methods"]
    # What is varied need not stand in its place, too.
    schema["if"] = {"not": {"required": [VARY]}}
    schema["then"] = {"required": ["model", "data"], "properties": {"data": {"required": needed}}}
    return {"$schema": DIALECT, **schema, "title": "A study of byrote", "$defs": defs}


def _named(room: str, component: type[Component]) -> Schema:
    """A component by its name alone, or with settings."""
    alone = {"const": component.name, "description": component.summary()}
    return {"anyOf": [alone, {"$ref": _place("$defs", f"{room}.{component.name}")}]}


def _settings(component: type[Component], defs: Schema) -> Schema:
    """A component with its settings."""
    own = component.model_json_schema(ref_template="#/$defs/{model}")
    defs.update(own.pop("$defs", {}))
    _describe(own, component)
    properties = own.get("properties", {})
    if LENGTHS in properties:
        several = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
        properties[LENGTHS] = {"anyOf": [properties[LENGTHS], several]}
    own["properties"] = {"name": {"const": component.name}, **properties}
    own["required"] = ["name", *own.get("required", [])]
    own["title"] = component.name
    return own


def _place(*steps: str) -> str:
    """The reference to a part of the schema."""
    return "#/" + "/".join(quote(step) for step in steps)


def _or_alone(several: Schema) -> Schema:
    outer: Schema = {key: several.pop(key) for key in ("default", "description") if key in several}
    return {**outer, "anyOf": [several["items"], several]}


def _suggest(of: Schema, room: str) -> None:
    """Any text, with the built-in names as suggestions."""
    names = [name for name in discover(room) if name.startswith("builtin:")]
    text = {key: of.pop(key) for key in ("type", "minLength") if key in of}
    of["anyOf"] = [{"enum": names}, text]


def _vary(fields: Schema, defs: Schema) -> Schema:
    """Every path that can be varied, with a list of values each, and single points."""
    found = {name: _place("properties", name) for name in fields if name not in (*NOT_VARIED, "claims", "data")}
    found |= {f"data.{name}": _place("$defs", "Data", "properties", name) for name in defs["Data"]["properties"]}
    found["data"] = _place("$defs", "Data")
    of_methods: dict[str, list[str]] = {}
    for key, room in ROOMS.items():
        for name in discover(room) if key not in NOT_VARIED or room == "method" else ():
            home = f"{room}.{name}"
            for field in [field for field in defs[home]["properties"] if field != "name"]:
                place = _place("$defs", home, "properties", field)
                if room == "method":  # several methods may have a field of one name
                    of_methods.setdefault(f"method.{field}", []).append(place)
                else:
                    found[f"{key}.{name}.{field}"] = place
    values: Schema = {path: {"$ref": place} for path, place in found.items()}
    values |= {path: {"anyOf": [{"$ref": place} for place in places]} for path, places in of_methods.items()}
    axes = {path: {"type": "array", "minItems": 1, "items": one} for path, one in values.items()}
    single = {path: {"$ref": place} for path, place in found.items()}
    whole = ("name", "question", "report_to")  # of the study, and never of one point
    single |= {name: {"$ref": _place("properties", name)} for name in NOT_VARIED if name not in whole}
    point = {"type": "object", "minProperties": 1, "properties": single, "additionalProperties": False}
    points: Schema = {"type": "array", "items": point}
    return {
        "type": "object",
        "description": "Fields and the values that each takes: every combination is a study of its own.",
        "properties": {**axes, POINTS: points},
        "additionalProperties": False,
    }


def _describe(schema: Schema, model: type[BaseModel]) -> None:
    """Put the words below each field beside it, and take away titles that only repeat the key."""
    schema["description"] = inspect.cleandoc(model.__doc__ or "")
    words = _words(model)
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if name in words:
            field["description"] = words[name]


def _words(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field, of the class and those it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _classes(kind.__module__).get(kind.__name__, {})
    return found


@cache
def _classes(module: str) -> dict[str, dict[str, str]]:
    """By class of a module: what stands below each of its fields."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError, SyntaxError):  # what was made at run time has no text
        return {}
    return {node.name: _below(node.body) for node in tree.body if isinstance(node, ast.ClassDef)}


def _below(body: list[ast.stmt]) -> dict[str, str]:
    found = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            value = below.value if isinstance(below, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = " ".join(value.value.split()).strip('"')
    return found
