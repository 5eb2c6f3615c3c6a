"""Private runs of a study: their accounts, their interruptions, their learning rates, and what they refuse."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from byrote.methods.full import Full
from byrote.objectives.batching import Batch, collate, encode
from byrote.objectives.lm import Decoder, per_example_loss
from byrote.report.results import Results
from byrote.runner.progress import Interrupted
from byrote.runner.study import run
from byrote.runner.trained import STATE, TrainedRun
from byrote.store import Cell, Manifest, RunFolder, identity
from byrote.training.accounting import epsilon_of
from byrote.training.losses import TextLoss
from byrote.training.private import Privatiser
from byrote.types import Ledger, text_key
from conftest import make_texts, make_tokenizer
from small_study import (
    STEPS,
    Watcher,
    count_work,
    leave_out_what_is_slow,
    make_folder,
    run_facts,
    study_of,
)

EIGHT = {"epsilon": 8, "clip_norm": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("small"))
    rows = [{"text": text, "person": f"p{number // 2}"} for number, text in enumerate(make_texts(80, 2, 6, 20))]
    (folder / "people.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Privatiser]:
    """Every Privatiser that a study makes."""
    seen: list[Privatiser] = []
    start = Privatiser.__init__

    def watched(self: Privatiser, *arguments: Any) -> None:
        start(self, *arguments)
        seen.append(self)

    monkeypatch.setattr(Privatiser, "__init__", watched)
    return seen


def done(results: Results) -> Results:
    """The results of a study in which nothing failed."""
    assert [cell.error for cell in results.failed] == []
    return results


def cell_of(out: Path, privacy: str = "8") -> Cell:
    """The cell of a privacy level."""
    (cell,) = [c for c in Manifest.read(out).cells if c.privacy == privacy and c.method != "none"]
    return cell


def folder_of(out: Path, run_id: str) -> RunFolder:
    """Its run folder."""
    return Manifest.read(out).store(out).run(run_id)


def ledger_of(out: Path, privacy: str = "8") -> Ledger:
    """Its account."""
    return Ledger.read(folder_of(out, cell_of(out, privacy).run_id).read_json("ledger.json"))


# --- the account ---------------------------------------------------------------------------------


def test_levels_beside_each_other_each_with_its_account(folder: Path, tmp_path: Path, made: list[Privatiser]) -> None:
    done(run(study_of(folder, privacy=["none", EIGHT], seeds=[0]), tmp_path))
    plain, private = cell_of(tmp_path, "none"), cell_of(tmp_path)
    assert (plain.delta, plain.settings) == (None, "")
    assert folder_of(tmp_path, plain.run_id).read_json("ledger.json") is None
    assert (private.delta, json.loads(private.settings)) == (10**-1.1, {"privacy.clip_norm": 1.0})
    ledger = ledger_of(tmp_path)
    assert (ledger.steps, ledger.planned_steps, ledger.units, ledger.expected_batch_size) == (STEPS, STEPS, 10, 4)
    assert (ledger.unit, ledger.sampling, ledger.relation) == ("record", "poisson", "add or remove one")
    assert (ledger.clip_norm, ledger.clipping, ledger.delta, ledger.engine) == (1.0, "flat", 10**-1.1, "bookkeeping")
    assert ledger.private and ledger.target_epsilon == 8 and made[0].randomness.private
    assert 7.9 < ledger.epsilon <= 8
    for epoch, steps, epsilon in ledger.epochs:
        assert steps == 3 * epoch
        assert epsilon == epsilon_of(ledger.noise_multiplier, 0.4, steps, ledger.delta).epsilon
    assert len(ledger.epochs) == 2 and ledger.epochs[0][2] < ledger.epochs[1][2] == ledger.epsilon
    assert ledger.epsilon_rdp is not None and ledger.epsilon_rdp >= ledger.epsilon


def test_a_run_again_does_no_work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(folder, privacy=EIGHT, keep="all")
    done(run(study, tmp_path))
    work, before = count_work(monkeypatch), ledger_of(tmp_path)
    done(run(study, tmp_path))
    assert work == {"steps": 0, "texts": 0} and ledger_of(tmp_path) == before


def test_every_level_is_a_run_of_its_own(folder: Path) -> None:
    levels: list[Any] = [
        "none", EIGHT, {"epsilon": 8}, {"epsilon": 4}, {"noise_multiplier": 1.0}, {"epsilon": 8, "delta": 0.01},
        {"epsilon": 8, "clipping": "automatic"}, {"epsilon": 8, "expected_batch_size": 5},
        {"epsilon": 8, "accountant": "rdp"}, {"epsilon": 8, "engine": "loop"},
    ]  # fmt: skip
    study = study_of(folder, privacy=levels)
    ids = {
        identity(study.experiment(Full(), level, 0, 1e-3, model="m", data="d", trains_on=part).model_dump(mode="json"))
        for level in study.privacy
        for part in ("members", "test")
    }
    assert len(ids) == 2 * len(levels)


def test_a_delta_that_is_given_runs_even_where_it_promises_little(folder: Path, tmp_path: Path) -> None:
    done(run(study_of(folder, privacy={"noise_multiplier": 1.0, "delta": 0.2}), tmp_path))
    cell, ledger = cell_of(tmp_path, "noise 1"), ledger_of(tmp_path, "noise 1")
    assert cell.delta == ledger.delta == 0.2 and ledger.target_epsilon is None
    assert ledger.epsilon == epsilon_of(1.0, 0.4, STEPS, 0.2).epsilon


def test_groups_as_units(folder: Path, tmp_path: Path, made: list[Privatiser]) -> None:
    data = {"source": str(folder / "people.jsonl"), "text": "text", "group": "person"}
    level = {"noise_multiplier": 1.0, "unit": "group", "groups": 5, "records_per_group": 2, "expected_batch_size": 2}
    done(run(study_of(folder, data=data, privacy=level), tmp_path))
    ledger = ledger_of(tmp_path, "noise 1")
    assert (ledger.unit, ledger.units, ledger.records_per_group) == ("group", 5, 2)
    assert (ledger.delta, ledger.planned_steps, ledger.sampling_rate) == (5**-1.1, STEPS, 0.4)
    (privatiser,) = made
    assert sorted(index for unit in privatiser.units for index in unit) == list(range(10))
    assert max(len(unit) for unit in privatiser.units) == 2
    results = run(study_of(folder, data=data, privacy=level | {"groups": 40}), tmp_path / "far")
    assert "declared to have 40 groups, which is far from the truth" in results.failed[0].error


def weights_of(out: Path) -> torch.Tensor:
    """(P,) the kept weights of a private run."""
    path = folder_of(out, cell_of(out).run_id).path / "weights/model.safetensors"
    return torch.cat([value.flatten() for value in load_file(path).values()])


# --- interruptions -------------------------------------------------------------------------------


def interrupted(study: Any, out: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> RunFolder:
    """Run a study that is asked to stop after so many steps; the folder of the run that it was in."""
    work, progress = count_work(monkeypatch), Watcher()
    monkeypatch.setattr(
        TrainedRun,
        "_between_steps",
        lambda self, training, go_on=TrainedRun._between_steps: (
            setattr(progress, "stop_requested", work["steps"] == after),
            go_on(self, training),
        ),
    )
    with pytest.raises(Interrupted):
        run(study, out, progress=progress)
    monkeypatch.undo()
    leave_out_what_is_slow(monkeypatch)
    (state,) = out.rglob(STATE)
    return RunFolder(state.parent)


def test_an_interrupted_run_goes_on_with_its_account_and_new_noise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(folder, privacy=EIGHT, keep="all")
    done(run(study, tmp_path / "whole"))
    left = interrupted(study, tmp_path / "cut", monkeypatch, 4)
    at_the_stop = Ledger.read(left.read_json("ledger.json"))
    assert (at_the_stop.steps, len(at_the_stop.epochs)) == (4, 1)
    assert 0 < at_the_stop.epsilon < ledger_of(tmp_path / "whole").epsilon
    # The same state goes on twice: its noise may not come again.
    shutil.copytree(tmp_path / "cut", tmp_path / "again")
    endings = []
    for name in ("cut", "again"):
        with pytest.MonkeyPatch.context() as patch:
            work, progress = count_work(patch), Watcher()
            done(run(study, tmp_path / name, progress=progress))
            assert work["steps"] == STEPS - 4
            assert "full, epsilon 8: goes on after step 4" in progress.said
        assert asdict(ledger_of(tmp_path / name)) == asdict(ledger_of(tmp_path / "whole"))
        endings.append(weights_of(tmp_path / name))
    endings.append(weights_of(tmp_path / "whole"))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((endings[one] - endings[other]).norm()) > 1e-2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip_norm": 2.0}, "another privacy account"),
        ({"units": 20}, "another privacy account"),
        ({"private": False}, "another privacy account"),
        ({"steps": 1}, "its account of step 1"),
        (None, "no privacy account"),
    ],
    ids=str,
)
def test_a_state_with_another_account_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any] | None, words: str
) -> None:
    study = study_of(folder, privacy=EIGHT)
    left = interrupted(study, tmp_path, monkeypatch, 4)
    with safe_open(left.path / STATE, framework="pt") as file:
        position = json.loads(file.metadata()["position"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    position["ledger"] = None if change is None else position["ledger"] | change
    with left.writing(STATE) as path:
        save_file(tensors, path, metadata={"position": json.dumps(position)})
    results = run(study, tmp_path)
    assert words in results.failed[0].error and "fault of byrote" not in results.failed[0].error


def test_what_is_made_again_is_made_from_nothing(folder: Path, tmp_path: Path) -> None:
    """Without its noise, a private run cannot be repeated: nothing of two runs may stand beside each other."""
    study = study_of(folder, methods=["lora"], privacy=EIGHT)
    done(run(study, tmp_path))
    cell, ledger = cell_of(tmp_path), ledger_of(tmp_path)
    folder_of_run = folder_of(tmp_path, cell.run_id)
    before = run_facts(Manifest.read(tmp_path).store(tmp_path), cell.run_id)
    shutil.rmtree(folder_of_run.path / "weights")
    (folder_of_run.path / "left-behind").write_text("of the first run")
    done(run(study, tmp_path))
    after = run_facts(Manifest.read(tmp_path).store(tmp_path), cell.run_id)
    assert before.keys() == after.keys()
    same = {name for name in before if before[name] == after[name]}
    assert same == set(), "made by the first run"
    assert not (folder_of_run.path / "left-behind").exists()
    assert ledger_of(tmp_path) == replace(ledger, trainings=2)


def test_without_its_account_a_run_is_not_taken_for_done(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, privacy=EIGHT)
    done(run(study, tmp_path))
    whole = ledger_of(tmp_path)
    path = folder_of(tmp_path, cell_of(tmp_path).run_id).path / "ledger.json"
    for times, damage in ((2, path.unlink), (3, lambda: path.write_text(path.read_text().replace("8", "9", 1)))):
        damage()
        done(run(study, tmp_path))
        assert ledger_of(tmp_path) == replace(whole, trainings=times)


# --- learning rates ------------------------------------------------------------------------------


def test_rates_are_tried_on_records_that_nobody_promised_anything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[Privatiser]
) -> None:
    monkeypatch.setattr(Full, "learning_rates", (1e-3, 2e-3))
    read: dict[str, set[str]] = {"members": set(), "test": set()}
    part: list[str] = []
    train, losses, tokenizer = TrainedRun._trained, TextLoss.__call__, make_tokenizer()

    def trained(self: TrainedRun, *arguments: Any) -> bool:
        part[:] = [self.experiment.trains_on]
        return train(self, *arguments)

    def loss(self: TextLoss, indices: Any) -> torch.Tensor:
        read[part[0]] |= {" ".join(tokenizer.convert_ids_to_tokens(self.examples[index].ids)) for index in indices}
        return losses(self, indices)

    monkeypatch.setattr(TrainedRun, "_trained", trained)
    monkeypatch.setattr(TextLoss, "__call__", loss)
    results = done(run(study_of(folder, privacy=EIGHT, learning_rate="auto"), tmp_path))
    table = results.manifest.splits["0"]
    assert (table["member"], table["test"]) == (10, 5)
    texts = texts_by_part(folder, tmp_path)
    assert read["test"] and read["members"]
    # The self-test reads pieces of validation records.
    for text in read["test"]:
        assert text in texts["test"] or any(piece.startswith(text) for piece in texts["validation"]), text
        assert text not in texts["member"]
    assert read["test"] & texts["test"].keys() and read["members"] & texts["member"].keys()
    assert not read["members"] & texts["test"].keys()
    cell = cell_of(tmp_path)
    assert len(cell.tried) >= 2 and cell.learning_rate in {trial.learning_rate for trial in cell.tried}
    *trials, final = made
    assert len(trials) == len(cell.tried)
    for trial in trials:
        assert not trial.guarantee.claimed and trial.guarantee.units == 5
        assert trial.guarantee.noise_multiplier == final.guarantee.noise_multiplier
        assert (trial.guarantee.steps, trial.guarantee.expected_batch_size) == (STEPS, 4)
    assert final.guarantee.claimed
    for tried in cell.tried:
        assert folder_of(tmp_path, tried.run_id).read_json("ledger.json") is None
        assert tried.run_id != cell.run_id


def texts_by_part(folder: Path, out: Path) -> dict[str, dict[str, str]]:
    """The texts of a study's split, with the names of their records."""
    import pyarrow.parquet

    texts = {text_key(text): text for text in (folder / "texts.txt").read_text().splitlines()}
    found: dict[str, dict[str, str]] = {}
    for row in pyarrow.parquet.read_table(out / "splits.parquet").to_pylist():
        found.setdefault(row["split"], {})[texts[row["text_key"]]] = row["record_id"]
    return found


# --- what is left of a private run ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_saved_adapter_is_what_was_trained_and_states_its_account(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done(run(study_of(folder, methods=["lora"], privacy=EIGHT), tmp_path))
    run_folder, ledger = folder_of(tmp_path, cell_of(tmp_path).run_id), ledger_of(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    model = PeftModel.from_pretrained(base, run_folder.path / "weights")
    ids = torch.tensor([[5, 6, 7]])
    made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, pad_token_id=0)
    assert made.shape[1] > 3
    # The adapter is the one whose scores the study shows.
    table = run_folder.read_table("stats/epoch-0002.parquet")
    assert table is not None
    by_key = {row["text_key"]: row for row in table.to_pylist()}
    text = sorted(texts_by_part(folder, tmp_path)["validation"])[0]
    (example,) = encode(make_tokenizer(), [text], 32)
    batch = collate([example], 0)
    loss = float(per_example_loss(Decoder(model.eval()), batch)[0])
    log_prob = by_key[text_key(text)]["log_prob"]
    assert loss == pytest.approx(-sum(log_prob) / len(log_prob), rel=1e-4)

    card = (run_folder.path / "weights" / "README.md").read_text()
    assert card.count("## Differential privacy") == 1
    epsilon, delta = map(float, re.findall(r"\(([\d.]+), ([\d.]+)\)-differentially", card)[0])
    assert 0 <= epsilon - ledger.epsilon < 0.01 and 0 <= delta - ledger.delta < 1e-4
    for stated in ("| steps | 6 of 6 planned |", "one record", "0.4"):
        assert stated in card
    assert "NOT PRIVATE" not in card


def test_a_record_that_breaks_is_counted_and_not_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[Privatiser]
) -> None:
    bad: list[int] = []

    def breaking(decoder: Decoder, batch: Batch) -> torch.Tensor:
        losses = per_example_loss(decoder, batch)
        if not bad:  # the first record of a private batch; the self-test has other ones
            return losses
        found = [row[: len(bad)] == bad for row in batch.input_ids.tolist()]
        return losses * torch.tensor([math.nan if here else 1.0 for here in found])

    monkeypatch.setattr("byrote.training.losses.per_example_loss", breaking)
    gradients = Privatiser.gradients

    def first(self: Privatiser, batch: Any) -> float | None:
        bad[:] = self.engine.loss.examples[0].ids
        return gradients(self, batch)

    monkeypatch.setattr(Privatiser, "gradients", first)
    progress = Watcher()
    level = EIGHT | {"expected_batch_size": 10}
    done(run(study_of(folder, privacy=level, keep="all"), tmp_path, progress=progress))
    (privatiser,) = made
    assert privatiser.bad == privatiser.guarantee.steps == 2  # at a rate of 1 it is in every batch
    cell = cell_of(tmp_path)
    assert "2 gradients were not finite and counted as zero." in cell.notes
    text = " ".join(make_tokenizer().convert_ids_to_tokens(bad))
    name = texts_by_part(folder, tmp_path)["member"][text]
    messages = [*progress.said, *cell.notes, json.dumps(asdict(ledger_of(tmp_path)))]
    messages.append(json.dumps(folder_of(tmp_path, cell.run_id).read_json("training.json")))
    assert not any(name in message or text in message for message in messages)
    assert bool(weights_of(tmp_path).isfinite().all())
    assert ledger_of(tmp_path).steps == 2
