"""The page about the study file knows every key, and no other, and its defaults are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from byrote.study import Study
from byrote.study.axes import VARY
from byrote.study.experiment import Training
from byrote.study.model import Data
from byrote.study.privacy import Privacy

DOCS = Path(__file__).parents[1] / "docs"


def keys(page: str, heading: str, default_at: int) -> dict[str, str]:
    """What the tables under a heading name, and the default that they give."""
    section = (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[default_at] for row in rows}


TRAINING = {*Training.model_fields, "learning_rate"}
ASKED = {*Study.model_fields, VARY} - TRAINING


@pytest.mark.parametrize(
    ("heading", "fields"),
    [("What is asked", ASKED), ("How it is trained", TRAINING), ("The data", {*Data.model_fields})],
)
def test_the_keys_are_those_of_the_code(heading: str, fields: set[str]) -> None:
    assert set(keys("study-file.md", heading, 1)) == fields


def test_privacy_levels_too() -> None:
    assert set(keys("private-training.md", "A privacy level", 1)) == set(Privacy.model_fields)


@pytest.mark.parametrize(
    ("page", "heading", "fields"),
    [
        ("study-file.md", "What is asked", Study.model_fields),
        ("study-file.md", "How it is trained", Study.model_fields),
        ("study-file.md", "The data", Data.model_fields),
        ("private-training.md", "A privacy level", Privacy.model_fields),
    ],
)
def test_stated_defaults_are_the_codes(page: str, heading: str, fields: dict[str, FieldInfo]) -> None:
    checked = 0
    for key, stated in keys(page, heading, 1).items():
        given = re.fullmatch(r"`(.+)`|(needed)", stated)
        default = None if key == VARY or given is None else default_of(fields[key])
        if given is not None and default is not None:  # None stands for a default that is told in words
            assert spelled(default) == (given[1] or given[2]), key
            checked += 1
    assert checked >= 4


def default_of(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def spelled(default: Any) -> str:
    if default is PydanticUndefined:
        return "needed"
    if isinstance(default, float) and default == int(default) and default != 1.0:
        return str(int(default))
    return default if isinstance(default, str) else json.dumps(default).replace('"', "")
