"""The JSON Schema of study files: it takes every study that byrote takes, and sees what is misspelt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from byrote.registry import Component, discover
from byrote.study import shipped_studies
from byrote.study.axes import VariedStudy
from byrote.study.fields import as_spec
from byrote.study.reading import load, read_yaml
from byrote.study.schema import ROOMS, schema_text, study_schema
from small_study import caller

KEPT = Path(__file__).parents[1] / "docs" / "study.schema.json"
STUDY: dict[str, Any] = {
    "name": "small",
    "model": "builtin:tiny",
    "data": {"source": "rows.csv", "text": "body", "members": 100},
    "methods": ["full", {"name": "lora", "r": 8}],
    "privacy": ["none", {"epsilon": 8}],
    "attacks": ["loss", {"name": "min-k", "k": 0.1}],
    "vary": {"epochs": [1, 2], "method.r": [4, 8], "data.members": [50, 100], "attacks.min-k.k": [0.1, 0.2],
             "points": [{"epochs": 9, "seeds": [1]}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_copy_in_the_documentation_is_the_schema_of_today() -> None:
    assert KEPT.read_text(encoding="utf-8") == schema_text(), "run: byrote schema > docs/study.schema.json"


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_fits(name: str, validator: jsonschema.Draft202012Validator) -> None:
    path = shipped_studies()[name]
    validator.validate(read_yaml(path.read_text(encoding="utf-8"), name))
    study, _ = load(path)
    for one in [point.study for point in study.points] if isinstance(study, VariedStudy) else [study]:
        every_default = one.model_dump(mode="json") | {"name": name}  # a point's name may be longer
        validator.validate(every_default)


@pytest.mark.parametrize(
    ("key", "component"),
    [(key, component) for key, room in ROOMS.items() for component in discover(room).values()],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_component_fits_by_its_name_and_with_all_its_settings(
    key: str, component: type[Component], validator: jsonschema.Draft202012Validator
) -> None:
    needed = {name: field for name, field in component.model_fields.items() if field.is_required()}
    if not needed:
        validator.validate({**STUDY, key: [component.name]})
        validator.validate({**STUDY, key: as_spec(component())})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**STUDY, key: [{"name": component.name, "no_such_setting": 1}]})


def test_what_is_left_out_when_it_is_varied(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(STUDY)
    varied = {key: value for key, value in STUDY.items() if key != "model"}
    with pytest.raises(jsonschema.ValidationError, match="'model' is a required property"):
        validator.validate({key: value for key, value in varied.items() if key != "vary"})
    validator.validate({**varied, "vary": {"model": ["builtin:tiny"]}})


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what lies at a path to the last of these."""

    def change(study: dict[str, Any]) -> None:
        *places, last, value = path
        for place in places:
            study = study[place]
        study[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("epocs", 2),
        put("epochs", 0),
        put("epochs", "two"),
        put("data", "membrs", 100),
        put("data", "members", 1),
        put("data", {"members": 100, "text": "body"}),
        put("methods", ["loora"]),
        put("methods", [{"r": 8}]),
        put("methods", 1, "rr", 8),
        put("methods", 1, "r", 0),
        put("attacks", ["los"]),
        put("attacks", 1, "kk", 0.1),
        put("utility", ["loss"]),
        put("privacy", 1, "target_epsilon", 8),
        put("privacy", [{"delta": 1e-5}]),
        put("privacy", "some"),
        put("dtype", "float16"),
        put("seeds", [-1]),
        put("vary", "epocs", [1]),
        put("vary", "epochs", []),
        put("vary", "epochs", ["two"]),
        put("vary", "method.rr", [1]),
        put("vary", "seeds", [[1]]),
        put("vary", "points", [{"epocs": 1}]),
        put("claims", [{"id": "a", "says": "b", "measure": "membership.loss.auc", "directon": "higher"}]),
        put("report_too", "wandb"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_seen(
    change: Callable[[dict[str, Any]], None], validator: jsonschema.Draft202012Validator
) -> None:
    study = copy.deepcopy(STUDY)
    change(study)
    if "source" not in study["data"]:
        study.pop("vary")  # which might give it
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(study)


def test_fields_are_described(validator: jsonschema.Draft202012Validator) -> None:
    schema = validator.schema
    assert schema["properties"]["early_stop"]["description"].startswith("Stop after so many epochs")
    assert "Hu et al. 2021 (2106.09685)" in schema["$defs"]["method.lora"]["description"]
    assert schema["$defs"]["Privacy"]["properties"]["epsilon"]["description"].startswith("The target")


def test_init_writes_it_beside_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validator: jsonschema.Draft202012Validator
) -> None:
    byrote = caller(capsys)
    (tmp_path / "rows.csv").write_text("id,body\n" + "".join(f"{n},one two three four {n}\n" for n in range(200)))
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("200,\n")
    code, out, _ = byrote("init", tmp_path / "rows.csv")
    assert code == 0 and "1 of 201 rows would be left out (1 empty), the first: rows.csv:202" in out
    text = (tmp_path / "rows.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=study.schema.json\n")
    assert (tmp_path / "study.schema.json").read_text(encoding="utf-8") == schema_text()
    validator.validate(read_yaml(text, "rows.yaml"))
    code, out, _ = byrote("schema")
    assert code == 0 and out == schema_text()
