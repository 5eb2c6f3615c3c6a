"""Claims as a study writes them: what is refused, and what belongs to all points."""

from __future__ import annotations

from pathlib import Path

import pytest

from byrote.report.estimates import P_VALUE, STATED
from byrote.study import VariedStudy, load
from byrote.study.claims import MEMBERSHIP
from byrote.types import StudyError

GOOD = """\
name: claimed
model: builtin:tiny
data: {source: builtin:aws-docs, members: 100}
methods: [full, {name: lora, r: 8}]
attacks: [loss, {name: min-k, k: 0.1}]
privacy: [none, {epsilon: 8, expected_batch_size: 50}]
claims:
  - id: one
    says: LoRA leaks less.
    measure: membership.loss.auc
    of: {method: full}
    than: {method: lora}
"""


@pytest.mark.parametrize("vary", ["", "vary: {epochs: [1, 2]}\n"])
def test_a_claim_that_names_what_is_not_there_is_refused(tmp_path: Path, vary: str) -> None:
    good = GOOD.replace("name: claimed\n", f"name: claimed\n{vary}")

    def said(old: str, new: str) -> str:
        assert old in good
        (tmp_path / "study.yaml").write_text(good.replace(old, new))
        with pytest.raises(StudyError) as error:
            load(tmp_path / "study.yaml")
        return str(error.value)

    line = good[: good.index("claims:")].count("\n") + 1
    wrong = said("{method: full}", "{method: ful}")
    assert "one: of: method: the study has no 'ful'. Did you mean 'full'?" in wrong
    assert f"line {line + 1}: claims: " in wrong, "the claim's own line"
    assert "has no membership measure 'los'. Did you mean 'loss'?" in said("membership.loss.auc", "membership.los.auc")
    assert "a measure is KIND.NAME.METRIC" in said("membership.loss.auc", "loss")
    assert "unknown key 'methd'" in said("{method: full}", "{methd: full}")
    assert "the study has no '4'" in said("{method: full}", "{privacy: '4'}")
    assert "say what it is compared with" in said("    than: {method: lora}\n", "")
    assert "margin belongs to direction" in said("    than:", "    margin: 0.1\n    than:")
    assert "rising lists two" in said("    than:", "    rising: [{method: full}]\n    than:")
    assert "unknown key 'thn'" in said("    than:", "    thn: 3\n    than:")
    assert "min-k has no field 'q'" in said("membership.loss.auc", "membership.min-k.auc\n    settings: {q: 1}")
    k = said("membership.loss.auc", "membership.min-k.auc\n    settings: {k: 0.3}")
    assert "settings: k: no min-k of the study has 0.3." in k
    assert "no membership attack has 'aux'. Did you mean 'auc'?" in said("loss.auc", "loss.aux")
    last = 2 if vary else 3
    assert f"the study has no epoch 7: its last is {last}" in said("{method: full}", "{method: full, epoch: 7}")
    tier = said("    of: {method: full}", "    where: {slice: copies=9}\n    of: {method: full}")
    assert "where: slice: the study's plants make no 'copies=9'." in tier
    twice = good[good.index("  - id: one") :]
    assert "the id 'one' stands twice" in said(twice, twice + twice)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{method: lora}", "{method: lora, r: 9}", "than: r: no method has 9."),
        ("{method: lora}", "{learning_rate: 5e-5}", "no method has '5e-5'."),  # YAML reads text here
        ("{method: lora}", "{method.r: 8}", "unknown key 'method.r'. Write r."),
        ("{method: lora}", "{method: lora, epoch: 2.0}", "a whole number from 1, last or best; got 2.0"),
        ("{method: lora}", "{method: lora, epoch: first}", "got 'first'"),
        ("{method: lora}", "{method: lora, epoch: 0}", "got 0"),
        ("{method: lora}", "{method: lora, epoch: [1, yes]}", "got [1, True]"),
        ("{method: lora}", "{method: lora, slice: 8}", "slice is the name of a slice, such as copies=8; got 8"),
        ("{method: lora}", "{method: []}", "method has no value"),
        ("{method: lora}", "{privacy: }", "privacy has no value"),
        ("{method: lora}", "{method: lora, epoch: 1}\n    at: matched", "name no epoch beside it"),
        ("{method: lora}", "untuned\n    at: matched", "at: matched needs runs on both sides"),
    ],
)
@pytest.mark.parametrize("vary", ["", "vary: {method.r: [8, 16]}\n"])
def test_a_selector_that_would_fit_no_run_or_other_ones_is_refused(
    tmp_path: Path, vary: str, old: str, new: str, words: str
) -> None:
    (tmp_path / "study.yaml").write_text(GOOD.replace("name: claimed\n", f"name: claimed\n{vary}").replace(old, new))
    with pytest.raises(StudyError) as error:
        load(tmp_path / "study.yaml")
    assert words in str(error.value)


def test_a_study_that_varies_something_claims_of_all_its_points(tmp_path: Path) -> None:
    text = GOOD.replace("name: claimed\n", "name: claimed\nvary: {epochs: [1, 2]}\n")
    (tmp_path / "study.yaml").write_text(text.replace("{method: full}", "{method: full, epochs: 2}"))
    study, _ = load(tmp_path / "study.yaml")
    assert isinstance(study, VariedStudy)
    assert [claim.id for claim in study.claims] == ["one"] and all(not point.study.claims for point in study.points)
    (tmp_path / "study.yaml").write_text(text.replace("{method: full}", "{method: full, epochs: 3}"))
    with pytest.raises(StudyError, match="epochs: the study has no 3"):
        load(tmp_path / "study.yaml")


def test_what_is_set_aside_takes_its_claims_with_it(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(GOOD)
    full, _ = load(tmp_path / "study.yaml", ["epochs=2"])
    alone, _ = load(tmp_path / "study.yaml", ["methods=[full]"])
    assert [claim.id for claim in full.claims] == ["one"] and not alone.claims
    for assigned in (["vary={}"], ["vary.model=[builtin:tiny]"]):
        study, _ = load("hou2025-offline", assigned)
        assert "Hou-C1" in {claim.id for claim in study.claims} and "Hou-C5-parameter" not in {
            claim.id for claim in study.claims
        }


def test_claims_change_no_run(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(GOOD)
    claimed, _ = load(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text(GOOD[: GOOD.index("claims:")])
    plain, _ = load(tmp_path / "study.yaml")
    ids = [
        [study.experiment(*cell, 1e-3, model="m", data="d").model_dump_json() for cell in study.cells()]  # type: ignore[union-attr]
        for study in (claimed, plain)
    ]
    assert ids[0] == ids[1] and claimed.claims and not plain.claims


def test_every_metric_of_a_membership_attack_can_be_claimed() -> None:
    assert {*STATED, "auc-lift", P_VALUE} == set(MEMBERSHIP)
