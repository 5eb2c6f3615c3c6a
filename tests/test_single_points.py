"""`vary.points`: single points beside every combination of the axes."""

from __future__ import annotations

from pathlib import Path

import pytest

from byrote.study import VariedStudy, load
from byrote.types import StudyError

GOOD = """\
name: scale
model: builtin:tiny
data: {source: builtin:aws-docs, members: 100}
vary:
  model: [builtin:tiny, builtin:tiny-4m]
  data: [{source: builtin:aws-docs}, {source: builtin:aws-commands}]
  points:
    - {model: builtin:tiny-16m, seeds: [0], epochs: 2}
methods: [full, lora]
seeds: [0, 1, 2]
"""


def read(folder: Path, text: str) -> VariedStudy:
    (folder / "study.yaml").write_text(text)
    study, _ = load(folder / "study.yaml")
    assert isinstance(study, VariedStudy)
    return study


def test_a_single_point_sets_its_own_fields_and_takes_the_study_s_value_elsewhere(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    assert len(study.points) == 5
    *grid, single = study.points
    assert [(point.study.model, point.study.data.source, point.study.seeds) for point in grid] == [
        (model, data, [0, 1, 2])
        for model in ("builtin:tiny", "builtin:tiny-4m")
        for data in ("builtin:aws-docs", "builtin:aws-commands")
    ]
    alone = single.study
    assert (alone.model, alone.data.source, alone.seeds, alone.epochs) == (
        "builtin:tiny-16m", "builtin:aws-docs", [0], 2,
    )  # fmt: skip
    assert single.words == {"model": "tiny-16m", "data": "aws-docs", "seeds": "0", "epochs": "2"}
    assert single.folder == "model=tiny-16m,data=aws-docs,seeds=0,epochs=2"
    axis = study.axes[0]
    assert axis.labels == ("tiny", "tiny-4m", "tiny-16m"), "its value stands on the axis, for pictures and claims"


def test_a_point_that_does_not_name_a_field_of_data_or_of_a_plant_keeps_the_study_s(tmp_path: Path) -> None:
    vary = "vary: {data.members: [100, 50], plants.duplicates.members: [5, 10], points: [{epochs: 9}]}\n"
    plants = "plants: [{name: duplicates, members: 10}]\n"
    text = GOOD[: GOOD.index("vary:")] + vary + plants + GOOD[GOOD.index("methods:") :]
    single = read(tmp_path, text).points[-1]
    assert single.words == {"data.members": "100", "plants.duplicates.members": "10", "epochs": "9"}


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("{points: [{epochs: 9}, {epochs: 9}]}", "epochs 9 and epochs 9 are the same study"),
        ("{epochs: [3, 4], points: [{epochs: 4}]}", "epochs 4 and epochs 4 are the same study"),
        ("{model: [builtin:tiny], points: [{model: tiny}]}", "two points are called model tiny"),
        ("{claims: [[], []]}", "claims cannot be varied"),
        ("{points: [{claims: []}]}", "claims cannot stand in a single point"),
    ],
)
def test_no_two_points_share_a_folder(tmp_path: Path, vary: str, said: str) -> None:
    text = GOOD[: GOOD.index("vary:")] + f"vary: {vary}\n" + GOOD[GOOD.index("methods:") :]
    with pytest.raises(StudyError) as error:
        read(tmp_path, text)
    assert said in str(error.value)


def test_points_alone_stand_beside_the_study_itself(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("vary:")] + "vary: {points: [{epochs: 9}]}\n" + GOOD[GOOD.index("methods:") :]
    study = read(tmp_path, text)
    assert [(point.study.epochs, point.label) for point in study.points] == [(3, "all"), (9, "epochs 9")]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: 2}", "epoch: 2}", "unknown field 'epoch'. Did you mean 'epochs'?"),
        ("epochs: 2}", "name: x}", "name cannot stand in a single point"),
        ("epochs: 2}", "method.r: 2}", "method.r cannot stand in a single point"),
        ("epochs: 2}", "data: x}", "vary.points: data: each value is a mapping that is laid over data"),
        ("- {model: builtin:tiny-16m, seeds: [0], epochs: 2}", "- 3", "must be a list of mappings"),
        ("model: builtin:tiny\n", "model: builtin:smollm2-135m\n", "says nothing of model"),
    ],
)
def test_what_no_point_can_be_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new, 1)
    if "says nothing" in said:
        text = text.replace("{model: builtin:tiny-16m, ", "{")
    with pytest.raises(StudyError, match="line 7") as error:
        read(tmp_path, text)
    assert said in str(error.value)
