"""Study files: every mistake is named with its line and the nearest right word; good ones mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from byrote.methods.lora import LoRA
from byrote.study import Study, as_spec, load, load_study, read_yaml, shipped_studies
from byrote.study.reading import ELSEWHERE, override
from byrote.types import StudyError

GOOD = """\
# A comment
name: tickets
model: builtin:tiny
data:
  source: tickets.jsonl
  text: ticket
  members: 100
methods:
  - full
  - {name: lora, r: 16}
attacks: [loss, min-k]
seeds: [0, 1]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    return path


def error_of(path: Path, text: str, settings: list[str] | None = None) -> str:
    """What a person is told about a study, with the file's folder left out."""
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study(path, settings or [])
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message and "pydantic" not in message
    return message.replace(str(path), "s.yaml")


# --- good ones -----------------------------------------------------------------------------------


def test_the_equivalence_margin_is_a_question_to_the_results_and_changes_no_run(study: Path) -> None:
    made, _ = load_study(study)
    wider, _ = load_study(study, ["equivalence_margin=0.1"])
    assert (made.equivalence_margin, wider.equivalence_margin) == (0.05, 0.1)
    for one in made.methods:
        ids = [
            of.experiment(one, "none", 0, 1e-3, model="m", data="d").model_dump_json() for of in (made, wider)
        ]  # fmt: skip
        assert ids[0] == ids[1]
    assert "equivalence_margin" in error_of(study, GOOD + "equivalence_margin: 0\n")
    assert "equivalence_margin" in error_of(study, GOOD + "equivalence_margin: 0.5\n")


def test_a_study_means_what_it_says(study: Path) -> None:
    made, folder = load_study(study)
    assert folder == study.parent
    assert [as_spec(method)["name"] for method in made.methods] == ["full", "lora"]
    assert made.methods[1].settings() == '{"r":16}'  # type: ignore[attr-defined]
    assert made.seeds == [0, 1] and made.learning_rate == "auto" and made.data.nonmembers is None
    assert [(method.name, privacy, seed) for method, privacy, seed in made.cells()] == [
        ("full", "none", 0),
        ("lora", "none", 0),
        ("full", "none", 1),
        ("lora", "none", 1),
    ]
    assert Study.model_validate(made.model_dump(mode="json")) == made  # what the manifest keeps is the study


def test_one_of_a_kind_needs_no_list(study: Path) -> None:
    text = GOOD.replace("seeds: [0, 1]", "seeds: 3").replace("attacks: [loss, min-k]", "attacks: {name: min-k, k: 0.1}")
    study.write_text(text)
    made, _ = load_study(study)
    assert made.seeds == [3] and [as_spec(attack) for attack in made.attacks] == [{"name": "min-k", "k": 0.1}]


def test_numbers_may_be_spelt_as_people_do(study: Path) -> None:
    study.write_text(GOOD + "learning_rate: 5e-5\nwarmup_ratio: 0\nmax_grad_norm: null\n")  # YAML takes 5e-5 for text
    made, _ = load_study(study)
    assert (made.learning_rate, made.warmup_ratio, made.max_grad_norm) == (5e-5, 0.0, None)


def test_windows_line_ends_and_a_byte_order_mark(study: Path) -> None:
    study.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_study(study)[0].name == "tickets"


def test_anchors_and_merges(study: Path) -> None:
    methods = "- &low {name: lora, r: 2}\n  - {<<: *low, lora_alpha: 4}"
    study.write_text(GOOD.replace("- full\n  - {name: lora, r: 16}", methods))
    assert load_study(study)[0].methods[1] == LoRA(r=2, lora_alpha=4)


def test_every_shipped_study_is_good() -> None:
    shipped = shipped_studies()
    assert "demo" in shipped
    for name, path in shipped.items():
        assert load(name)[1] == path.parent, name
        assert path.read_text().startswith("# "), f"the first line of {name} says what it is, for `byrote list`"


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ("methods:", "metods:", "s.yaml, line 8: unknown key 'metods'. Did you mean 'methods'? Known: "),
        ("model:", "modle:", "s.yaml, line 3: unknown key 'modle'. Did you mean 'model'? Known: "),
        ("  members:", "  member:", "s.yaml, line 7: unknown key 'member'. Did you mean 'members'? Known: source, "),
        ("  members:", "  epochs: 2\n  members:", "s.yaml, line 7: unknown key 'epochs': it belongs at the top level."),
        ("seeds:", "members: 5\nseeds:", "s.yaml, line 12: unknown key 'members': it belongs under data."),
        ("r: 16", "rr: 16", "s.yaml, line 10: methods.1: method lora: unknown setting 'rr'. Did you mean 'r'? "),
        ("min-k]", "{name: min-k, kk: 1}]", "s.yaml, line 11: attacks.1: attack min-k: unknown setting 'kk'. Did you "),
        ("name: lora", "name: loar", "s.yaml, line 10: methods.1: unknown method 'loar'. Did you mean 'lora'? Known: "),
        (
            "min-k]",
            "minK]",
            "s.yaml, line 11: attacks.1: unknown attack 'minK'. Did you mean 'min-k'? Known: ",
        ),
        ("- full", "- {full: {}}", "s.yaml, line 9: methods.0: each method is a name, or a mapping with 'name' and "),
        ("name: tickets\n", "", "s.yaml: name is missing"),
        ("  members: 100\n", "", "s.yaml, line 4: data.members is missing"),
        ("seeds:", "true: 3\nseeds:", "s.yaml, line 12: unknown key 'true'. "),
    ],
)
def test_wrong_keys_are_named_with_the_right_one(study: Path, wrong: str, right: str, told: str) -> None:
    assert GOOD.count(wrong) == 1
    assert error_of(study, GOOD.replace(wrong, right)).startswith(told)


@pytest.mark.parametrize(("theirs", "ours"), ELSEWHERE.items())
def test_keys_from_elsewhere_name_ours(study: Path, theirs: str, ours: str) -> None:
    assert error_of(study, GOOD + f"{theirs}: 3\n") == (
        f"s.yaml, line 13: unknown key {theirs!r}: byrote calls it {ours!r}."
    )


def test_what_elsewhere_calls_ours_exists() -> None:
    for ours in ELSEWHERE.values():
        if ours.startswith("privacy"):
            continue  # its settings come with private training
        section, _, key = ours.rpartition(".")
        fields = Study.model_fields["data"].annotation.model_fields if section else Study.model_fields  # type: ignore[union-attr]
        assert key in fields


# --- values --------------------------------------------------------------------------------------

AT_LEAST_1 = "must be greater than or equal to 1; got"
TRUTH = "yes, no, true and false are truth values, not numbers or names"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("epochs: -3", f"epochs: {AT_LEAST_1} -3"),
        ("epochs: 0", f"epochs: {AT_LEAST_1} 0"),
        ("epochs: many", "epochs: must be a valid integer, unable to parse string as an integer; got 'many'"),
        ("epochs: 2.5", "epochs: must be a valid integer, got a number with a fractional part; got 2.5"),
        ("epochs: yes", f"epochs: {TRUTH}"),
        ("epochs:", "epochs: must be a valid integer; got nothing"),
        ("epochs: [1, 2]", "epochs: must be a valid integer; got [1, 2]"),
        ("learning_rate: off", f"learning_rate: {TRUTH}"),
        ("learning_rate: 0", "learning_rate: must be 'auto', or greater than 0; got 0"),
        ("learning_rate: fast", "learning_rate: must be 'auto', or a valid number, unable to parse string as a number"),
        ("learning_rate: .nan", "learning_rate: must be 'auto', or a finite number; got nan"),
        ("max_grad_norm: .inf", "max_grad_norm: must be a finite number; got inf"),
        ("weight_decay: -1", "weight_decay: must be greater than or equal to 0; got -1"),
        ("warmup_ratio: 1", "warmup_ratio: must be less than 1; got 1"),
        ("dtype: fp16", "dtype: must be 'float32' or 'bfloat16'; got 'fp16'"),
        ("device: [cpu]", "device: must be a valid string; got ['cpu']"),
        ("utility: [1]", "utility.0: each utility is a name, or a mapping with 'name' and settings; got 1"),
        ("utility:", "utility: each utility is a name, or a mapping with 'name' and settings; got nothing"),
        ("privacy: 8", "privacy: a privacy level is none, or a mapping such as {epsilon: 8}; got 8"),
        ("privacy: {epsilon: 0}", "privacy: epsilon: must be above 0, but is 0"),
        ("early_stop: 0", f"early_stop: {AT_LEAST_1} 0"),
        ("trust_remote_code: perhaps", "trust_remote_code: must be a valid boolean, unable to interpret input"),
    ],
)
def test_wrong_values_are_told_in_words(study: Path, line: str, told: str) -> None:
    assert error_of(study, f"{GOOD}{line}\n").startswith(f"s.yaml, line 13: {told}")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seeds: [0, 1]", "seeds: []", "line 12: seeds: must not be empty"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "line 12: seeds: 0 stands twice with the same settings"),
        ("seeds: [0, 1]", "seeds: [0, -1]", "line 12: seeds.1: must be greater than or equal to 0; got -1"),
        ("seeds: [0, 1]", "seeds: [0, yes]", f"line 12: seeds: {TRUTH}"),
        ("seeds: [0, 1]", "seeds: [0, 1e30]", "line 12: seeds.1: "),
        ("[loss, min-k]", "[loss, {name: loss}]", "line 11: attacks: loss stands twice with the same settings"),
        ("- full\n", "- {name: lora, r: 16}\n", "line 8: methods: lora stands twice with the same settings"),
        ("r: 16", "r: -1", "line 10: methods.1: method lora: r: Input should be greater than or equal to 1"),
        ("r: 16", "lora_alpha: .inf", "line 10: methods.1: method lora: lora_alpha: Input should be a finite number"),
        ("r: 16", "r: yes", "line 10: methods.1: method lora: r: yes, no, true and false are truth values"),
        (
            "methods:\n  - full\n  - {name: lora, r: 16}\n",
            "methods: []\n",
            "line 8: methods: must not be empty",
        ),
        ("members: 100", "members: 1", "line 7: data.members: must be greater than or equal to 2; got 1"),
        ("members: 100", "members: 100\n  prompt: p", "line 4: data: give either text, or prompt and completion, not"),
        ("text: ticket", "prompt: p", "line 4: data: prompt and completion go together: name both columns"),
        ("text: ticket", "min_tokens: 9\n  max_tokens: 8", "line 4: data: min_tokens 9 is above max_tokens 8"),
        ("text: ticket", "on_bad_rows: ignore", "line 6: data.on_bad_rows: must be 'error' or 'skip'; got 'ignore'"),
        ("name: tickets", "name: a/b", "line 2: name: a name may not have slashes"),
        ("name: tickets", 'name: "a\\nb"', "line 2: name: a name may not have slashes, line ends"),
        ("name: tickets", "name: ''", "line 2: name: must not be empty"),
        ("name: tickets", "name: 5", "line 2: name: must be a valid string; got 5"),
    ],
)
def test_wrong_values_in_lists_and_data(study: Path, old: str, new: str, told: str) -> None:
    assert GOOD.count(old) == 1
    assert error_of(study, GOOD.replace(old, new)).startswith(f"s.yaml, {told}")


def test_data_that_is_no_mapping(study: Path) -> None:
    text = GOOD.replace("data:\n  source: tickets.jsonl\n  text: ticket\n  members: 100\n", "data: tickets.jsonl\n")
    assert error_of(study, text) == "s.yaml, line 4: data: must be a mapping of settings, not 'tickets.jsonl'"


# --- YAML ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "s.yaml: a study is a mapping of settings (name: ..., model: ..., data: ...)"),
        ("# only a comment\n", "s.yaml: a study is a mapping of settings"),
        ("- name: a\n", "s.yaml: a study is a mapping of settings"),
        ("just words\n", "s.yaml: a study is a mapping of settings"),
        ("name: a\nname: b\n", "s.yaml: line 2: key 'name' stands twice"),
        ("name: a\ndata:\n  members: 1\n  members: 2\n", "s.yaml: line 4: key 'members' stands twice"),
        (
            "name: a\n\tmodel: b\n",
            "s.yaml: line 2: found character '\\t' that cannot start any token. YAML ",
        ),
        ("name: a\nmethods: [full\nseeds: 1\n", "s.yaml: line 3: "),
        ("name: 'a\n", "s.yaml: line 2: "),
        ("a: !!python/object/apply:os.system [ls]\n", "s.yaml: line 1: could not determine a constructor for the tag"),
        ("name: a\n---\nname: b\n", "s.yaml: line 2: "),
        ("a: &a [*a]\n", "s.yaml: an alias (*name) stands inside its own anchor"),
        ("a: " + "[" * 1200, "s.yaml: "),
        ("name: a\x00b\n", "s.yaml: unacceptable character #x0000"),
        ("day: 2024-13-45\n", "s.yaml: month must be in 1..12"),
        ("{[a]: b}\n", "s.yaml: line 1: found unhashable key"),
    ],
)
def test_broken_yaml_is_told_with_its_line(study: Path, text: str, told: str) -> None:
    assert error_of(study, text).startswith(told)


def test_no_object_is_made_from_yaml(tmp_path: Path) -> None:
    mark = tmp_path / "made"
    with pytest.raises(StudyError):
        read_yaml(f"a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{mark}]]", "s")
    assert not mark.exists()


def test_files_that_are_no_text(study: Path) -> None:
    study.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(StudyError, match=r"cannot read the study .*codec can't decode"):
        load_study(study)


@pytest.mark.parametrize(
    ("typed", "near"), [("demoo", " Did you mean 'demo'?"), ("demo.yaml", " Did you mean 'demo'?")]
)
def test_a_study_that_is_not_there(tmp_path: Path, typed: str, near: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(typed)
    assert str(caught.value).startswith(f"no study file {typed!r}. Did you mean 'demo'? Shipped studies: ")
    with pytest.raises(StudyError, match="no study file"):
        load_study(tmp_path)


def test_a_study_beside_it_is_nearer_than_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD)
    with pytest.raises(StudyError, match=r"Did you mean '.*small\.yaml'\?"):
        load_study(tmp_path / "smal.yaml")
    with pytest.raises(StudyError) as caught:
        load_study(tmp_path / "quite different.yaml")
    assert "small.yaml" not in str(caught.value), "a long folder in common makes no name alike"


def test_a_folder_is_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    for named in (".", ""):
        with pytest.raises(StudyError, match="no study file"):
            load_study(named)


def test_data_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "my rows.csv").write_text("text\na few words\n")
    with pytest.raises(StudyError, match=r"is data, not a study\. Write a study for it: byrote init '.*my rows\.csv'"):
        load_study(tmp_path / "my rows.csv")


# --- --set ---------------------------------------------------------------------------------------


def test_settings_override(study: Path) -> None:
    changes = [
        "epochs=7",
        "data.members=50",
        "methods=[head, {name: lora, r: 2}]",
        "learning_rate=1e-3",
        "question=a=b",
    ]
    made, _ = load_study(study, [*changes, "data.group=who", "epochs=8"])
    assert (made.epochs, made.data.members, made.data.group, made.learning_rate) == (8, 50, "who", 1e-3)
    assert [method.name for method in made.methods] == ["head", "lora"] and made.question == "a=b"
    assert made.data.text == "ticket"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("epochs", "--set 'epochs': write key=value, for example --set epochs=2"),
        ("=3", "--set '=3': write key=value"),
        ("data..members=3", "--set 'data..members=3': write key=value"),
        ("epochs=[", "--set 'epochs=[': the value is not YAML"),
        ("seeds=2024-13-45", "--set 'seeds=2024-13-45': the value is not YAML"),
        ("epochs=!!python/name:os.system", "--set 'epochs=!!python/name:os.system': the value is not YAML"),
        ("methods.0.r=3", "--set 'methods.0.r=3': methods is not a mapping; set the whole of methods"),
        ("epochs=-1", f"s.yaml, with --set epochs: epochs: {AT_LEAST_1} -1"),
        ("epochs=", "s.yaml, with --set epochs: epochs: must be a valid integer; got nothing"),
        ("epocs=1", "s.yaml, with --set epocs: unknown key 'epocs'. Did you mean 'epochs'? "),
        ("data.member=1", "s.yaml, with --set data.member: unknown key 'member'. Did you mean 'members'? "),
        ("data={source: x, membrs: 3}", "s.yaml, with --set data.membrs: unknown key 'membrs'. "),
        ("attacks=[los]", "s.yaml, with --set attacks.0: attacks.0: unknown attack 'los'. Did you mean 'loss'? "),
    ],
)
def test_bad_settings_are_told_apart_from_the_file(study: Path, setting: str, told: str) -> None:
    assert error_of(study, GOOD, [setting]).startswith(told)


def test_the_line_stays_right_beside_a_setting(study: Path) -> None:
    told = error_of(study, GOOD + "epoch: 3\n", ["seeds=1"])
    assert told.startswith("s.yaml, line 13: unknown key 'epoch'. Did you mean 'epochs'?")


def test_overriding_leaves_the_original_alone() -> None:
    raw: dict[str, Any] = {"data": {"members": 1}}
    assert override(raw, ["data.members=2", "new.deep.key=3"]) == {"data": {"members": 2}, "new": {"deep": {"key": 3}}}
    assert raw == {"data": {"members": 1}}
