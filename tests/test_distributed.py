"""Two processes that train together end with the weights of one, noise included."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from byrote.training import distributed
from two_processes import RUNS

HERE = Path(__file__).parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes left."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    command += ["--master_port", str(free_port()), str(HERE / "two_processes.py"), str(folder)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def seen(folder: Path, rank: int) -> dict[str, Any]:
    """What a process said."""
    found: dict[str, Any] = json.loads((folder / f"seen-{rank}.json").read_text())
    return found


def test_there_were_two_processes(folder: Path) -> None:
    assert [seen(folder, rank)["processes"] for rank in (0, 1)] == [2, 2]
    assert distributed.processes() == 1  # and here there is one


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(folder: Path, name: str) -> None:
    alone, losses = RUNS[name]()
    together = [load_file(folder / f"weights-{rank}.safetensors")[name] for rank in (0, 1)]
    assert torch.equal(together[0], together[1])
    assert bool(alone.isfinite().all())
    torch.testing.assert_close(together[0], alone, atol=1e-6, rtol=1e-4)
    for rank in (0, 1):
        assert seen(folder, rank)["losses"][name] == pytest.approx(losses, rel=1e-5)


def test_every_step_moved_the_weights(folder: Path) -> None:
    """Else equal weights would say nothing."""
    from private_checks import bench, weights

    found = load_file(folder / "weights-0.safetensors")
    for name, method in (("plain, batches of 1", "full"), ("an empty batch", "lora"), ("bookkeeping", "lora")):
        assert float((found[name] - weights(bench(method))).norm()) > 1e-2
