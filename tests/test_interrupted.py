"""Ctrl-C and a kill at random moments of a study, then the same command: the same results, whatever was cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from small_study import make_folder, write_study

HERE = Path(__file__).parent
KEPT = "byrote: interrupted. Everything finished so far is kept: the same command goes on from there."
STUDY: dict[str, Any] = {
    "methods": ["full", {"name": "lora", "lora_dropout": 0.2}],
    "epochs": 4,
    "attacks": ["loss", "reference", {"name": "near-verbatim", "max_new_tokens": 4, "prefix_tokens": 4}],
    "positive_control": True,
    "keep": "all",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """A folder with the results of the study undisturbed, stopped again and again, and with workers; and each command
    that was given: what signals it was sent, its exit code, and what it said."""
    folder = make_folder(tmp_path_factory.mktemp("small"))
    words = [sys.executable, str(HERE / "interrupt_points.py"), str(write_study(folder / "s.yaml", folder, **STUDY))]
    # One thread, as the workers have: with more, sums differ in their last bits.
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, str(folder)], capture_output=True, text=True, env=one_thread, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, json.loads(done.stdout)


def results(out: Path) -> list[str]:
    """The lines of the table, but for what the clock says."""
    lines = (out / "results.csv").read_text().splitlines()
    assert len(lines) > 30
    return [line for line in lines if ",cost," not in line]


@pytest.mark.parametrize("how", ["cut", "workers"])
def test_what_was_stopped_and_goes_on_ends_with_the_same_results(found: Any, how: str) -> None:
    folder, commands = found
    *stopped, last = commands[how]
    assert last["code"] == 0 and stopped, commands[how]
    for one in stopped:
        if signal.SIGKILL in one["sent"]:
            assert one["code"] == -signal.SIGKILL
        else:
            assert (one["code"], one["said"][-1:]) == (130, [KEPT])
    # What the next command finds in the store is never less.
    told = [line.split(" runs, ")[1] for one in commands[how] for line in one["said"] if line.startswith("small: ")]
    kept = [int(words.split()[0]) for words in told]
    assert kept == sorted(kept)
    assert results(folder / how) == results(folder / "whole")
    assert not [*(folder / how).rglob("*.part"), *(folder / how).rglob("state.safetensors")]


def test_the_moments_were_many_and_spread(found: Any) -> None:
    commands = found[1]["cut"]
    assert sum(one["code"] != 0 for one in commands) >= 3
    assert any(signal.SIGKILL in one["sent"] for one in commands)
