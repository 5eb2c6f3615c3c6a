"""Where a run ran: versions, machine, and the state of the code."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from byrote.types import StudyError

PACKAGES = (
    "byrote", "torch", "transformers", "peft", "accelerate", "opacus", "datasets", "tokenizers", "numpy", "scipy",
    "scikit-learn",
)  # fmt: skip
# Packages whose version can change the weights: a half-finished run does not go on under another one.
DECISIVE = ("torch", "transformers", "peft", "accelerate")


def pick_device(asked: str) -> str:
    """The device of a study: "auto" takes a GPU where there is one."""
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        known = "auto, cpu or cuda" if torch.cuda.is_available() else "auto or cpu"
        raise StudyError(f"device: {asked!r} cannot be used here ({reason}). Use {known}.") from None
    return asked


@cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that matter."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def source_commit() -> dict[str, Any]:
    """The git commit of byrote's own code and whether it was changed since; empty for an installed package."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return {}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": head.stdout.strip(), "dirty": bool(status.stdout.strip())}


def describe(device: str) -> dict[str, Any]:
    """Everything about the place of a run that its numbers may depend on."""
    import torch

    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        **source_commit(),
    }
