"""The command line: exit codes, messages for people, and help that starts at once."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from byrote import cli
from byrote.console import LiveProgress, PlainProgress, listing
from byrote.methods.full import Full
from byrote.methods.lora import LoRA
from byrote.methods.prompt_tuning import PromptTuning
from byrote.registry import names
from byrote.runner.plan import plan
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.training.loop import Training
from small_study import caller, count_work, leave_out_what_is_slow, settings, study_of, write_study

Called = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave_out_what_is_slow(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def byrote(capsys: pytest.CaptureFixture[str]) -> Called:
    return caller(capsys)


# --- help and lists ------------------------------------------------------------------------------

START = """
import sys
from byrote.cli import main
code = main({words!r})
print(sorted(name for name in sys.modules if name in {heavy!r}))
sys.exit(code)
"""
SLOW = ["torch", "transformers", "peft", "accelerate", "datasets", "scipy", "pandas", "pyarrow", "plotly"]
"""What makes a start slow. Seconds are not asserted: they are the machine's."""


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["init", "--help"], ["list"], ["list", "methods"]], ids=" ".join
)
def test_help_and_lists_load_nothing_slow(words: list[str]) -> None:
    program = START.format(words=words, heavy=SLOW)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["run", "doctor", "report", "list", "init"])
def test_every_command_has_help(byrote: Called, command: str) -> None:
    code, out, _ = byrote(command, "--help")
    assert code == 0 and f"byrote {command}" in out
    assert command in byrote("--help")[1] and "--debug" in byrote("--help")[1]


def test_lists(byrote: Called) -> None:
    code, out, _ = byrote("list")
    assert code == 0
    for name in ("prompt-tuning", "min-k++", "perplexity", "builtin:tiny", "builtin:aws-docs", "csv", "demo"):
        assert name in out
    _, out, _ = byrote("list", "methods")
    assert "lora" in out and "perplexity" not in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert sum(name in names("method") for name in rows) == len(names("method")) >= 22
    for part in ("parameter", "reparametrised", "1.19%", " all ", "bookkeeping", "Low-rank updates"):
        assert part in rows["lora"]
    assert rows["bitfit"].count(" - ") == 2 and "lm, completion " in rows["cpt"]
    assert listing("studies").row_count >= 1


# --- bad usage: exit code 2 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["frobnicate"], 'Unknown command "frobnicate". Available commands: run, audit, doctor, report, compare, '),
        (["list", "nonsense"], 'Invalid value "nonsense" for WHAT. Choose from: "methods", "attacks"'),
        (["run"], 'Command "run" parameter STUDY requires an argument.'),
        (["run", "a", "--outt", "b"], "Unknown option: --outt. Did you mean --out?"),
        (["run", "demoo"], "no study file 'demoo'. Did you mean 'demo'? Shipped studies: "),
        (["run", "nothing.yaml"], "no study file 'nothing.yaml'."),
        (["run", "demo", "--set", "epochs"], "--set 'epochs': write key=value, for example --set epochs=2"),
        (["run", "demo", "--set", "epocs=2"], "with --set epocs: unknown key 'epocs'. Did you mean 'epochs'?"),
        (["run", "demo", "--jobs", "0"], "jobs: 0 processes can do nothing; give 1 or more"),
        (["report", "."], "holds no results of byrote: study.json is missing there."),
        (["report", "nowhere"], "there is no folder nowhere"),
        (["init", "nothing.csv"], "nothing.csv: no such file."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_told_and_ends_with_2(byrote: Called, words: list[str], told: str) -> None:
    code, out, err = byrote(*words)
    assert (code, out) == (2, "") and err.startswith("byrote: ") and told in err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "builtin:tinny"}, "unknown model 'builtin:tinny'. Did you mean 'builtin:tiny'?"),
        ({"model": "no/where"}, "cannot reach the Hub for the model 'no/where'"),
        ({"model": "./nowhere/at/all"}, "no such model folder: "),
        ({"methods": ["loora"]}, "unknown method 'loora'. Did you mean 'lora'?"),
        ({"attacks": ["losss"]}, "unknown attack 'losss'. Did you mean 'loss'?"),
        ({"data": {"source": "gone.csv"}}, "gone.csv: no such file"),
        ({"data": {"source": "builtin:aws-doc"}}, "unknown built-in set 'builtin:aws-doc'. Did you mean"),
        ({"data": {"source": "rows.csv", "text": "bdy"}}, "bdy"),
        ({"data": {"source": "empty.csv"}}, "empty.csv"),
        ({"data": {"members": 1000}}, "data: too few records: "),
        ({"device": "cuda:9"}, "'cuda:9'"),
        ({"name": ""}, "name: must not be empty"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_study_that_cannot_be_run_is_told_and_ends_with_2(
    byrote: Called, folder: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    (tmp_path / "rows.csv").write_text("id,body\n1,one two three\n2,four five six\n")
    (tmp_path / "empty.csv").write_text("")
    code, out, err = byrote("run", write_study(tmp_path / "s.yaml", folder, **changes))
    assert (code, out) == (2, "") and err.startswith("byrote: ") and told in err, err
    assert "\n" not in err.strip()


def test_debug_shows_the_traceback(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="too few records"):
        cli.main(["run", str(write_study(tmp_path / "s.yaml", folder, data={"members": 99})), "--debug"])


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_is_told_and_the_second_does_nothing(
    byrote: Called, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(tmp_path / "s.yaml", folder, methods=["full", "lora"], epochs=1)
    code, out, err = byrote("run", path)
    assert code == 0 and "[1/2] full: training" in err and "[2/2] lora: training" in err
    assert "lora" in out and f"Report: {Path('byrote-results/small/report.html')}" in out
    work = count_work(monkeypatch)
    code, again, err = byrote("run", path)
    assert (code, again) == (0, out) and work == {"steps": 0, "texts": 0}
    assert err == "Everything was in the store already: nothing was trained and nothing scored.\n"
    for name in ("results.csv", "report.md"):
        (tmp_path / "byrote-results" / "small" / name).unlink()
    code, again, err = byrote("report", "byrote-results/small")
    assert (code, again, err) == (0, out, "") and (tmp_path / "byrote-results/small/results.csv").is_file()


def test_a_failed_run_ends_with_1_and_the_others_finish(
    byrote: Called, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Full, "attach", lambda self, model: [][0])
    path = write_study(tmp_path / "s.yaml", folder, methods=["full", "lora"], epochs=1)
    code, out, err = byrote("run", path, "--out", "o")
    assert code == 1 and "full (seed 0) failed: IndexError: list index out of range (a fault of byrote, see" in err
    assert "lora" in out and "list index out of range" in out
    assert byrote("report", "o")[0] == 1
    assert "list index out of range" in (tmp_path / "o" / "report.md").read_text()


def test_a_half_finished_study_can_be_reported(
    byrote: Called, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(tmp_path / "s.yaml", folder, methods=["full", "lora"], epochs=1)
    step = Training._step

    def interrupted(self: Training, *arguments: Any) -> None:
        if len(self.parameters) < 10:  # LoRA, the second
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(Training, "_step", interrupted)
    code, out, err = byrote("run", path, "--out", "o")
    assert code == 130 and out == "" and "interrupted. Everything finished so far is kept" in err
    code, out, _ = byrote("report", "o")
    assert code == 0 and "full" in out
    assert {cell.method for cell in Manifest.read(tmp_path / "o").cells} == {"none", "full"}


def test_trouble_with_the_disk_ends_with_1(byrote: Called, folder: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.yaml", folder, epochs=1)
    (tmp_path / "file").write_text("")
    code, _, err = byrote("run", path, "--out", "file")
    assert code == 1 and "cannot use file/runs" in err and "Choose another --store" in err
    code, _, err = byrote("run", path, "--out", "file", "--store", "s")
    assert code == 1 and err.splitlines()[-1].startswith("byrote: cannot write file/")
    (tmp_path / "study.json").write_text("{")
    code, _, err = byrote("report", ".")
    assert code == 1 and "study.json cannot be read: it is damaged or of another version" in err


def test_the_unforeseen_is_told_in_a_line(
    byrote: Called, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byrote.runner.study.StudyRun.do", lambda self, jobs, show_text: 1 / 0)
    path = write_study(tmp_path / "s.yaml", folder)
    told = "byrote: unforeseen ZeroDivisionError: division by zero\nRun again with --debug for the traceback.\n"
    assert byrote("run", path) == (1, "", told)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", str(path), "--debug"])


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    command = [sys.executable, "-c", "import sys; from byrote.cli import _main; sys.argv[1:] = ['--version']; _main()"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


# --- dry run -------------------------------------------------------------------------------------


def test_a_dry_run_shows_and_does_nothing(
    byrote: Called, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Full, "learning_rates", (3e-3, 1.0))
    monkeypatch.setattr("byrote.runner.rates.BEYOND", 1)
    path = write_study(
        tmp_path / "s.yaml", folder, methods=["full", {"name": "lora", "learning_rate": 1e-3}], learning_rate="auto"
    )
    work = count_work(monkeypatch)
    code, out, err = byrote("run", path, "--dry-run", "--out", "o")
    assert (code, err, work) == (0, "", {"steps": 0, "texts": 0}) and not (tmp_path / "o").exists()
    assert "small: 4 runs, 0 in the store" in out and "the best" in out and "unknown" in out

    def states() -> list[tuple[str, float | None, str, str]]:
        return [
            (step.method.split()[0], step.learning_rate, step.purpose, step.state) for step in plan(path, "o").steps
        ]

    assert states() == [
        ("full", 3e-3, "trial", "to train"),
        ("full", 1.0, "trial", "to train"),
        ("full", None, "run", "to train"),
        ("lora", 1e-3, "run", "to train"),
    ]
    run(path, "o")
    best = Manifest.read(tmp_path / "o").cells[1].learning_rate
    assert states() == [
        ("full", 3e-3, "trial", "done"),
        ("full", 1.0, "trial", "done"),
        ("full", 9e-6, "trial", "done"),
        ("full", best, "run", "done"),
        ("lora", 1e-3, "run", "done"),
    ]
    ids = {cell.run_id for cell in Manifest.read(tmp_path / "o").cells[1:]}
    assert ids <= {step.run_id for step in plan(path, "o").steps}
    assert "small: 5 runs, 5 in the store" in byrote("run", path, "--dry-run", "--out", "o")[1]
    longer = plan(path, "o", settings=["epochs=4"]).steps
    assert all(step.state == "to train" and step.seconds for step in longer)  # the speed is known by now
    (promoted,) = plan(study_of(folder, learning_rate=1.0), "o").steps
    assert promoted.state == "to train"  # it was a trial only
    assert byrote("run", path, "--dry-run", "--set", "data.members=500")[0] == 2


# --- progress ------------------------------------------------------------------------------------


def test_progress_in_a_log_is_sparse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("byrote.console.time.monotonic", lambda: now[0])
    progress = PlainProgress()
    progress.runs(0, 2)
    for epoch in range(3):
        progress.start("full: training", 300)
        for step in range(100 * epoch, 100 * epoch + 100):
            now[0] += 0.5
            progress.advance(step + 1, "loss 3.1")
        progress.start(f"full: scoring epoch {epoch + 1}", 10)
        progress.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[1/2] full: training" and 10 <= len(lines) <= 16
    assert lines[1] == "  20/300 loss 3.1 about 140 s left"
    assert "  120/300 loss 3.1 about 90 s left" in lines  # from the second epoch's own pace
    assert all("loss 3.1 about" in line for line in lines[1:])


def test_live_progress_shows_both_bars(folder: Path, tmp_path: Path) -> None:
    screen = io.StringIO()
    progress = LiveProgress(Console(file=screen, force_terminal=True, width=100))
    run(study_of(folder, epochs=1), tmp_path / "o", progress=progress)
    progress.say("a [bold]line[/bold]")
    progress.finish()
    shown = screen.getvalue()
    assert "study" in shown and "full: training" in shown and "a [bold]line[/bold]" in shown


# --- the ways in ---------------------------------------------------------------------------------

NEW_ATTACK = '''
from typing import ClassVar

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import names, register
from byrote.types import Unscorable


@register("attack", "worst-token")
class WorstToken(MembershipAttack):
    """The least likely token. Nobody 2026, 2601.00000."""

    access: ClassVar[str] = "log-probs"

    def score(self, evidence: Evidence) -> float:
        """Its log-probability in nats."""
        if not len(evidence.target):
            raise Unscorable("no target token")
        return float(evidence.target.log_prob.min())
'''

ONE_MORE = """
import sys
import byrote.attacks.membership as room
room.__path__.append(sys.argv.pop(1))
from byrote.cli import main
for words in (["list", "attacks"], ["run", "s.yaml", "--out", "o"]):
    code = main(words)
    assert code == 0, code
"""


def test_an_attack_is_one_new_file(folder: Path, tmp_path: Path) -> None:
    assert len(NEW_ATTACK.splitlines()) < 40
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "worst_token.py").write_text(NEW_ATTACK)
    raw = settings(folder, attacks=["loss", "worst-token"], epochs=1)
    (tmp_path / "s.yaml").write_text(json.dumps(raw))
    done = subprocess.run(
        [sys.executable, "-c", ONE_MORE, str(tmp_path / "mine")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "worst-token" in done.stdout and "The least" in done.stdout  # the table may break the sentence
    with (tmp_path / "o" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "worst-token"]
    assert {(row["method"], row["epoch"]) for row in rows if row["metric"] == "auc"} >= {("none", "0"), ("full", "1")}
    assert all(row["value"] or row["reason"] for row in rows)
    assert "worst-token" in (tmp_path / "o" / "report.html").read_text()


def test_init_and_run_unedited(byrote: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byrote.runner.rates.BEYOND", 0)
    for method in (Full, LoRA, PromptTuning):  # two rates each will do here
        monkeypatch.setattr(method, "learning_rates", method.learning_rates[1:3])
    dice = random.Random(0)
    words = ["bucket", "policy", "queue", "denies", "creates", "lists", "role", "stream", "topic", "volume"]
    with (tmp_path / "my tickets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "body", "team"])
        for number in range(400):
            writer.writerow([number, f"{' '.join(dice.choices(words, k=6))} {number}.", dice.choice("ab")])
    code, out, _ = byrote("init", "my tickets.csv")
    assert code == 0 and "Wrote my tickets.yaml." in out
    code, _, err = byrote("init", "my tickets.csv")
    assert code == 2 and "my tickets.yaml exists already: give --force" in err
    assert byrote("init", "my tickets.csv", "--force")[0] == 0
    code, out, err = byrote("run", "my tickets.yaml")
    assert code == 0 and "Report: " in out, err
    manifest = Manifest.read(tmp_path / "byrote-results" / "my tickets")
    assert all(cell.tried for cell in manifest.cells[1:]) and len(manifest.cells) >= 3
