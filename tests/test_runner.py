"""The runner: the same seed gives the same numbers, identities say what changes weights, nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from byrote.methods.full import Full
from byrote.report.results import Results
from byrote.runner.study import default_folder, run
from byrote.store import Store, identity
from byrote.study import Experiment, Study
from byrote.study.experiment import Training as Settings
from byrote.study.privacy import Privacy
from conftest import make_model
from small_study import (
    ALL,
    RATE,
    STEPS,
    Watcher,
    make_folder,
    run_facts,
    run_facts_of,
    run_ids,
    settings,
    study_of,
)

pytestmark = pytest.mark.usefixtures("quick")


# --- the same seed, and another ------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers_in_another_folder_and_any_order(folder: Path, tmp_path: Path) -> None:
    lora = {"name": "lora", "lora_dropout": 0.1}
    one = run_facts_of(study_of(folder, methods=["full", lora]), tmp_path / "one")
    torch.manual_seed(12345)
    other = run_facts_of(study_of(folder, methods=[lora, "full"], attacks=["reference", "loss"]), tmp_path / "other")
    same = [name for name in one if name.startswith("cell") or "stats/" in name or name.endswith("training")]
    assert len(same) >= 3 + 1 + 2 * 3
    assert all(one[name] == other[name] for name in same)


def test_another_seed_draws_another_split_and_trains_another_model(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, methods=["full", "lora"], seeds=[0, 1])
    found = run_facts_of(study, tmp_path)
    ids = run_ids(tmp_path)
    assert len({ids["full 0"], ids["full 1"], ids["lora 0"], ids["lora 1"], ids["none 0"]}) == 5
    assert ids["none 0"] == ids["none 1"]
    members = {
        seed: [
            record
            for record, split, of in zip(*(found["splits"][c] for c in ("record_id", "split", "seed")), strict=True)
            if split == "member" and of == seed
        ]
        for seed in (0, 1)
    }
    assert len(members[0]) == len(members[1]) == 10 and set(members[0]) != set(members[1])
    scored = found["scores"]
    for seed in (0, 1):  # all methods of a seed share its split, and the untuned model is scored on it too
        for method in ("none", "full", "lora"):
            rows = zip(*(scored[c] for c in ("method", "seed", "split", "record_id")), strict=True)
            assert {r for m, s, split, r in rows if (m, s, split) == (method, seed, "member")} == set(members[seed])
    losses = [found[f"{ids[f'full {seed}']}/training"]["losses"] for seed in (0, 1)]
    assert losses[0] != losses[1]


# --- identities ----------------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    "objective": "completion",
    "epochs": 3,
    "max_steps": 2,
    "batch_size": 5,
    "warmup_ratio": 0.5,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.1,
    "dropout": 0.2,
    "max_grad_norm": None,
    "max_length": 16,
    "early_stop": 1,
    "dtype": "bfloat16",
}


def experiment(study: Study, model: str = "m", data: str = "d", rate: float = RATE, seed: int = 0) -> str:
    made = study.experiment(study.methods[0], "none", seed, rate, model=model, data=data)
    assert set(type(made).model_fields) == set(Experiment.model_fields)
    return identity(made.model_dump(mode="json"))


def test_every_setting_that_changes_the_weights_changes_the_run(folder: Path) -> None:
    assert set(OTHER) == set(Settings.model_fields), "a new training setting: say here which other value it takes"
    study = study_of(folder)
    base = experiment(study)
    ids = [base]
    ids += [experiment(study_of(folder, **{name: value})) for name, value in OTHER.items()]
    ids += [experiment(study, model="m2"), experiment(study, data="d2"), experiment(study, rate=1e-4)]
    ids += [experiment(study, seed=1), experiment(study_of(folder, methods=["lora"]))]
    ids += [experiment(study_of(folder, methods=[{"name": "lora", "r": 4}]))]
    ids += [experiment(study_of(folder, plants=[{"name": "duplicates", "copies": [2], "members": n}])) for n in (1, 2)]
    for name, value in {"members": 11, "nonmembers": 9, "validation": 4, "test": 4, "near_duplicates": 0.5}.items():
        ids.append(experiment(study_of(folder, data={name: value})))
    for name, value in {"min_tokens": 3, "max_tokens": 40, "group": "g"}.items():
        ids.append(experiment(study_of(folder, data={name: value})))
    assert len(set(ids)) == len(ids)


def test_what_leaves_the_weights_alone_leaves_the_run(folder: Path) -> None:
    base = experiment(study_of(folder))
    for change in (
        {"attacks": []},
        {"utility": []},
        {"name": "other"},
        {"question": "?"},
        {"device": "cpu"},
        {"keep": "all"},
        {"nulls": "left-out"},
        {"seeds": [0, 1]},
        {"methods": ["full", "lora"]},
        {"methods": [{"name": "full", "learning_rate": 1e-3}]},  # the rate is the experiment's own field
        {"learning_rate": "auto"},
        {"data": {"source": "elsewhere.txt"}},  # its fingerprint counts, not its place
        {"max_grad_norm": 1},
        {"weight_decay": 0},
        {"data": {"near_duplicates": 0.80}},
    ):
        assert experiment(study_of(folder, **change)) == base, change
    spelt = [study_of(folder, methods=[{"name": "lora", "lora_alpha": alpha}]) for alpha in (16, 16.0)]
    assert experiment(spelt[0]) == experiment(spelt[1]) == experiment(study_of(folder, methods=["lora"]))
    rates = [study_of(folder, learning_rate=rate).rates(Full()) for rate in (5e-5, "5e-5", 0.00005)]
    assert rates == [(5e-5,)] * 3
    private = Full(learning_rate=1e-4, private_learning_rate=2e-4)
    assert (study_of(folder).rates(private), study_of(folder).rates(private, Privacy(epsilon=8))) == ((1e-4,), (2e-4,))
    assert (
        experiment(study_of(folder, methods=[{"name": "full", "private_learning_rate": 1, "private": False}])) == base
    )


def test_a_method_can_be_left_out_of_the_privacy_levels(folder: Path) -> None:
    methods = ["full", {"name": "lora", "private": False}]
    study = study_of(folder, methods=methods, privacy=["none", {"epsilon": 8}], seeds=[0])
    cells = [(method.name, privacy == "none") for method, privacy, _ in study.cells()]
    assert cells == [("full", True), ("lora", True), ("full", False)]
    assert study.methods[1].settings() == ""
    with pytest.raises(ValueError, match="nothing would be run"):
        study_of(folder, methods=methods[1:], privacy=[{"epsilon": 8}], seeds=[0])


def test_other_bytes_of_data_or_model_make_other_runs(folder: Path, tmp_path: Path) -> None:
    make_folder(tmp_path)
    run(study_of(tmp_path, epochs=1), tmp_path / "one")
    before = run_ids(tmp_path / "one")
    with (tmp_path / "texts.txt").open("a") as file:
        file.write("\nw1 w2 w3 w4 w5 w6 w7")
    run(study_of(tmp_path, epochs=1), tmp_path / "one")
    assert set(before.values()).isdisjoint(run_ids(tmp_path / "one").values())
    other = make_model("llama")
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    make_folder(tmp_path)
    other.save_pretrained(tmp_path / "model")
    run(study_of(tmp_path, epochs=1), tmp_path / "one")
    assert set(before.values()).isdisjoint(run_ids(tmp_path / "one").values())


# --- only what is new ----------------------------------------------------------------------------


def test_only_new_work_is_done(folder: Path, tmp_path: Path, work: dict[str, int]) -> None:
    def again(**changes: Any) -> tuple[int, int, list[str]]:
        work.update(steps=0, texts=0)
        watcher = Watcher()
        assert not run(study_of(folder, **changes), tmp_path / "out", tmp_path / "store", progress=watcher).failed
        return work["steps"], work["texts"], watcher.said

    nothing = ["Everything was in the store already: nothing was trained and nothing scored."]
    plain: dict[str, Any] = {"attacks": ["loss"], "utility": []}
    assert again(**plain) == (STEPS, ALL + 2 * ALL, [])
    before = facts_without_attacks(tmp_path)
    assert again(**plain) == (0, 0, nothing)
    assert facts_without_attacks(tmp_path) == before
    assert again() == (0, 0, [])  # two attacks and perplexity more
    assert again(attacks=["loss", "reference", "min-k", {"name": "min-k", "k": 0.5}]) == (0, 0, [])
    assert again(attacks=["min-k"]) == (0, 0, nothing)
    assert again(methods=["full", "lora"]) == (STEPS, 2 * ALL, [])
    steps, texts, said = again(methods=["full", "lora"], seeds=[0, 1])
    assert (steps, said) == (2 * STEPS, []) and 4 * ALL < texts <= 5 * ALL
    assert again(keep="all") == (STEPS, 0, [])  # the weights were not kept, so they are made again
    assert again(keep="all") == again(keep="none") == (0, 0, nothing)
    assert again(epochs=4)[:2] == (2 * STEPS, 4 * ALL)  # another schedule is another run
    # Another study of the same store, in another folder, finds it all there.
    work.update(steps=0, texts=0)
    run(study_of(folder, name="other", attacks=["zlib"]), tmp_path / "other", tmp_path / "store")
    assert work == {"steps": 0, "texts": 0}
    table = json.loads((tmp_path / "other" / "results.json").read_text())
    assert {row["name"] for row in table if row["kind"] == "membership" and row["method"] != "none"} == {"zlib"}


def facts_without_attacks(place: Path) -> dict[str, Any]:
    store = Store(place / "store")
    return {run_id: run_facts(store, run_id) for run_id in run_ids(place / "out").values()}


@pytest.mark.parametrize("what", ["attacks", "utility"])
def test_a_study_may_ask_for_no_attack_or_no_utility(folder: Path, tmp_path: Path, what: str) -> None:
    results = run(study_of(folder, epochs=1, **{what: []}), tmp_path)
    kinds = {row.kind for row in results.rows}
    assert ("membership" in kinds, "utility" in kinds) == (what == "utility", what == "attacks")


# --- places --------------------------------------------------------------------------------------


def test_paths_start_at_the_studys_own_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "there")
    raw = settings(folder, model="model", data={"source": "texts.txt"}, epochs=1)
    (tmp_path / "there" / "s.yaml").write_text(json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    results = run("there/s.yaml", store="shared", settings=["name='a: b?'"])
    assert not results.failed and (tmp_path / "byrote-results" / "a- b-" / "results.csv").is_file()
    assert len(list((tmp_path / "shared").iterdir())) == 3
    # The results and the store may be moved together.
    (tmp_path / "elsewhere").mkdir()
    for name in ("byrote-results", "shared"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert len(Results.read(tmp_path / "elsewhere" / "byrote-results" / "a- b-").rows) == len(results.rows)


@pytest.mark.parametrize(("name", "place"), [("..", "study"), (".", "study"), ("a:b", "a-b"), ("über 1", "über 1")])
def test_no_name_leads_out_of_the_results(name: str, place: str) -> None:
    assert default_folder(name) == Path("byrote-results") / place


def test_scores_that_no_attack_asked_for_are_not_missed(folder: Path, tmp_path: Path) -> None:
    """An attack that compares with the base model gives that model itself no scores."""
    results = run(study_of(folder, attacks=["reference"]), tmp_path)
    assert not [warning for warning in results.warnings if "is missing" in warning]
    (tmp_path / "runs" / results.manifest.cells[1].run_id / "scores.parquet").unlink()
    found = Results.read(tmp_path).warnings
    assert any("scores.parquet" in warning for warning in found)
