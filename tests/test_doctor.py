"""`byrote doctor` says beforehand what a run then does, and does nothing itself."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byrote.runner.doctor import Diagnosis, examine
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.per_example import Clipped
from byrote.types import Ledger, StudyError
from small_study import caller, count_work, leave_out_what_is_slow, study_of, write_study

LSTM = {"name": "p-tuning", "encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 8}
NOISY = {"noise_multiplier": 1.0}
Called = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave_out_what_is_slow(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Called:
    return caller(capsys, "doctor")


def only(folder: Path, **changes: Any) -> Diagnosis:
    """The diagnosis of a study of one cell."""
    (found,) = examine(study_of(folder, **{"methods": ["lora"], "privacy": [NOISY], **changes})).found
    return found


def test_a_run_does_what_the_doctor_said(folder: Path, tmp_path: Path) -> None:
    levels = [{"epsilon": 8, "accountant": "rdp"}, {"noise_multiplier": 0.9, "engine": "loop", "delta": 1e-3}]
    study = study_of(folder, methods=["lora", LSTM], privacy=levels, attacks=["loss"], epochs=1)
    said = {(one.method.split()[0], one.privacy): one for one in examine(study).found}
    run(study, "o")
    manifest = Manifest.read(tmp_path / "o")
    for cell in manifest.cells[1:]:
        ledger = Ledger.read(manifest.store(tmp_path / "o").run(cell.run_id).read_json("ledger.json") or {})
        one = said.pop((cell.method, cell.privacy))
        assert (one.engine, one.noise_multiplier) == (ledger.engine, ledger.noise_multiplier)
        assert (one.steps, one.delta) == (ledger.planned_steps, ledger.delta)
        assert one.reason == "; ".join(ledger.refused_engines)
        assert one.verdict == (f"falls to {ledger.engine}" if ledger.refused_engines else "works")
    assert not said


def test_nothing_is_trained_or_left_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doctor: Called
) -> None:
    path = write_study(tmp_path / "s.yaml", folder, methods=["full", "head"], privacy=["none", NOISY])
    work = count_work(monkeypatch)
    code, out, err = doctor(path)
    assert (code, work) == (0, {"steps": 0, "texts": 0})
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.yaml"]
    assert "small: 2 private cells, 0 refused; nothing was trained" in out
    assert out.count("not private") == out.count("nothing to test") == 2 and out.count("works") == 2
    assert err.splitlines() == ["full: self-test", "head: self-test"]


def test_a_slower_engine_and_its_reason(folder: Path) -> None:
    found = only(folder, methods=[LSTM])
    assert (found.verdict, found.engine) == ("falls to vmap", "vmap")
    assert found.reason.startswith("bookkeeping: no bookkeeping for LSTM (prompt_encoder.default.lstm_head")


def test_a_wrong_engine_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Bookkeeping.clipped_sums

    def one_per_cent_too_long(self: Bookkeeping, *arguments: Any) -> Clipped:
        clipped = right(self, *arguments)
        return dataclasses.replace(clipped, sums={name: 1.01 * value for name, value in clipped.sums.items()})

    monkeypatch.setattr(Bookkeeping, "clipped_sums", one_per_cent_too_long)
    found = only(folder)
    assert found.verdict == "falls to vmap" and "is off by 1.0e-02" in found.reason


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": [{"name": "lora", "target_modules": ["no_such_layer"]}]}, "PEFT refuses LORA on llama models: "),
        ({"methods": [LSTM], "privacy": [NOISY | {"engine": "bookkeeping"}]}, "private training refused: no engine"),
        ({"privacy": [{"epsilon": 1e-9, "delta": 1e-12}]}, "privacy: epsilon 1e-09 at delta 1e-12 is out of reach"),
        ({"privacy": [{"epsilon": 1e7}]}, "privacy: epsilon 1e+07 is no limit"),
        ({"methods": [{"name": "prompt-tuning", "num_virtual_tokens": 60}]}, "60 virtual tokens and texts of"),
        ({"max_length": 3}, "the self-test needs a validation record of at least 4 tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_run_would_refuse(folder: Path, changes: dict[str, Any], told: str) -> None:
    """Before a step of it: the run's own cell then fails with the same words."""
    found = only(folder, **changes)
    assert found.verdict == "refused" and told in found.reason and not found.engine
    study = study_of(folder, **{"methods": ["lora"], "privacy": [NOISY], "attacks": ["loss"], **changes})
    (cell,) = run(study, "o").failed
    assert cell.error == found.reason


def test_a_refusal_spoils_no_other_cell(folder: Path, tmp_path: Path, doctor: Called) -> None:
    bad = {"name": "lora", "target_modules": ["no_such_layer"]}
    path = write_study(tmp_path / "s.yaml", folder, methods=[bad, "head"], privacy=["none", NOISY, {"epsilon": 1e7}])
    code, out, _ = doctor(path)
    verdicts = [(one.method.split()[0], one.privacy, one.verdict) for one in examine(path).found]
    assert code == 1 and "4 private cells, 4 refused" in out and "no_such_layer" in out
    assert verdicts == [
        ("lora", "none", "refused"),
        ("lora", "noise 1", "refused"),
        ("lora", "1e+07", "refused"),
        ("head", "none", "not private"),
        ("head", "noise 1", "works"),
        ("head", "1e+07", "refused"),
    ]


def test_groups_are_tested_as_groups_and_counted(folder: Path, tmp_path: Path) -> None:
    texts = (folder / "texts.txt").read_text().splitlines()
    rows = [f"{text},p{number // 2}" for number, text in enumerate(texts)]
    (tmp_path / "people.csv").write_text("\n".join(["text,person", *rows]))
    data = {"source": str(tmp_path / "people.csv"), "text": "text", "group": "person"}
    level = NOISY | {"unit": "group", "groups": 5, "records_per_group": 2}
    found = only(folder, data=data, privacy=[level])
    assert (found.verdict, found.delta) == ("works", pytest.approx(5**-1.1))
    found = only(folder, data=data, privacy=[level | {"groups": 50}])
    assert found.verdict == "refused" and "declared to have 50 groups, which is far from the truth" in found.reason


@pytest.mark.parametrize(
    "plant",
    [
        {"name": "duplicates", "copies": [12], "members": 4},
        {"name": "canaries", "families": ["random-token"], "copies": [9], "canaries": 5, "tokens": 4},
    ],
)
def test_planted_copies_are_counted(folder: Path, plant: dict[str, Any]) -> None:
    assert only(folder, plants=[plant]).verdict == "works"


def test_a_delta_that_protects_nobody_is_said(folder: Path) -> None:
    found = only(folder, privacy=[NOISY | {"delta": 0.2}])
    assert found.verdict == "works" and "delta 0.2 is not below 1/10" in found.reason


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demoo"], "no study file 'demoo'. Did you mean 'demo'?"),
        (["demo", "--set", "epocs=2"], "with --set epocs: unknown key 'epocs'. Did you mean 'epochs'?"),
        (["demo", "--set", "privacy={epsilon: -1}"], "epsilon: must be above 0, but is -1"),
        ([], 'Command "doctor" parameter STUDY requires an argument.'),
        (["demo", "--out", "o"], "Unknown option: --out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_study_that_cannot_be_read_ends_with_2(doctor: Called, words: list[str], told: str) -> None:
    code, out, err = doctor(*words)
    assert (code, out) == (2, "") and err.startswith("byrote: ") and told in err


def test_data_that_cannot_be_had_is_the_studys_error(folder: Path) -> None:
    with pytest.raises(StudyError, match="data: too few records"):
        examine(study_of(folder, data={"members": 1000}))


def test_help_loads_nothing_slow() -> None:
    program = (
        "import sys\nfrom byrote.cli import main\ncode = main(['doctor', '--help'])\n"
        "print(code, sorted({'torch', 'transformers', 'peft', 'opacus', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "byrote doctor" in done.stdout and done.stdout.splitlines()[-1] == "0 []"
