"""Components and how they are found: register, names, make, discover.

A component is one frozen pydantic model in its own file. Its fields are its settings, its
docstring is its documentation, and `@register(room, name)` names it. There is no central list:
`discover` imports every module of the room's package, and the entry points that other packages
declare under the group "byrote.<room>".
"""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from byrote.types import StudyError

# A room of components and the package that holds it.
ROOMS = {
    "source": "byrote.data",
    "plant": "byrote.plants",
    "model": "byrote.models",
    "method": "byrote.methods",
    "attack": "byrote.attacks",
    "utility": "byrote.utility",
    "tracker": "byrote.trackers",
}


class Settings(BaseModel):
    """Base of whatever a study spells: frozen, and strict about unknown keys and odd values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads yes and no as truth values, which Python would take for 1 and 0.
        values = value if isinstance(value, list) else [value]
        if cls.model_fields[info.field_name or ""].annotation is not bool and any(isinstance(v, bool) for v in values):
            raise ValueError("yes, no, true and false are truth values, not numbers or names")
        return value


class Component(Settings):
    """Base of every registered component."""

    name: ClassVar[str] = ""

    def settings(self) -> str:
        """What differs from the defaults, as compact JSON ('{"r":16}'); empty when nothing does."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(changed, sort_keys=True, separators=(",", ":")) if changed else ""

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring, for lists."""
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".") if cls.__doc__ else ""


C = TypeVar("C", bound=type[Component])

_components: dict[str, dict[str, type[Component]]] = {room: {} for room in ROOMS}
_discovered: set[str] = set()


def register(room: str, name: str) -> Callable[[C], C]:
    """Class decorator that names a component of a room. Raises ValueError on a second one of that name."""

    def add(component: C) -> C:
        known = _components[room].get(name)
        if known is not None and known.__module__ != component.__module__:
            raise ValueError(f"two {room}s are called {name!r}: {known.__module__} and {component.__module__}")
        component.name = name
        _components[room][name] = component
        return component

    return add


def discover(room: str) -> Mapping[str, type[Component]]:
    """Every component of a room by name, sorted."""
    if room not in _discovered:
        package = importlib.import_module(ROOMS[room])
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
        for entry in entry_points(group=f"byrote.{room}"):
            try:
                entry.load()
            except Exception as error:
                owner = entry.dist.name if entry.dist else "another package"
                raise StudyError(
                    f"the {room} {entry.name!r} of {owner} cannot be loaded ({type(error).__name__}: {error}): "
                    "mend or uninstall that package"
                ) from error
        _discovered.add(room)
    return dict(sorted(_components[room].items()))


def names(room: str) -> list[str]:
    return list(discover(room))


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with the closest known word, or an empty string."""
    close = difflib.get_close_matches(word.replace("_", "-"), list(known), n=1, cutoff=0.5)
    close = close or difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def explain(error: ValidationError, known: Mapping[str, Any], where: str) -> str:
    """The first problem of a pydantic error in words: what, where, and the nearest right key."""
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        return f"{where}: unknown setting {path!r}.{nearest(key, known)} Known: {', '.join(known)}."
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {path}: {message}" if path else f"{where}: {message}"


def make(room: str, spec: str | Mapping[str, Any]) -> Component:
    """A component from its name, or from a mapping with "name" and settings.

    Raises StudyError that names the nearest right name or setting.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    settings = dict(spec)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise StudyError(f"each {room} is a name, or a mapping with 'name' and settings; got {spec!r}")
    known = discover(room)
    if name not in known:
        raise StudyError(f"unknown {room} {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")
    component = known[name]
    try:
        return component.model_validate(settings)
    except ValidationError as error:
        raise StudyError(explain(error, component.model_fields, f"{room} {name}")) from None
