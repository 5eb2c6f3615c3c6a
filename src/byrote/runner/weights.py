"""The tuned weights that a study keeps: saved as their library saves them, and loaded again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.methods.base import Method
from byrote.runner.context import Context
from byrote.runner.one import Run
from byrote.runner.private_runs import model_card
from byrote.store import RunFolder
from byrote.types import Ledger, Record, text_key

if TYPE_CHECKING:
    from torch import nn

    from byrote.target import Target

WEIGHTS = "weights"
CHECKED = 8
"""Records by which a loaded model is told from another."""


def keep_weights(folder: RunFolder, model: nn.Module, method: Method, ledger: Ledger | None) -> None:
    """Put the weights in place whole or not at all, with the account of a private run in their model card."""
    options = {"save_embedding_layers": False} if method.is_adapter else {}
    with _no_bars(), folder.writing_folder(WEIGHTS) as place:
        model.save_pretrained(place, **options)  # type: ignore[operator]
        if ledger is not None:
            card = place / "README.md"
            before = card.read_text(encoding="utf-8") if card.exists() else ""
            card.write_text(before + model_card(ledger), encoding="utf-8")


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kept_target(run: Run, method: Method, records: Sequence[Record]) -> Target | None:
    """The finished model of a run from its kept weights; None without them, and where they do not predict these
    records as the model did when it was trained (a 4-bit base, or another library, may stand under an adapter)."""
    place, epoch = run.folder.intact_folder(WEIGHTS), run.history()["epochs"]
    if place is None:
        return None
    target, stored, some = run.target(_loaded(place, run.context, method)), run.stats(epoch), records[:CHECKED]
    pairs = zip(target.token_stats(some), (stored[text_key(record.text)] for record in some), strict=True)
    same = all(np.allclose(found.log_prob, known.log_prob, atol=1e-3) for found, known in pairs)
    return target if same else None


def _loaded(place: Path, context: Context, method: Method) -> nn.Module:
    base: Any = context.load_model().model
    with _no_bars(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT says of names and settings it said when the adapter was made
        if method.is_adapter:
            from peft import PeftModel

            model: Any = PeftModel.from_pretrained(base, str(place))
        else:
            model = type(base).from_pretrained(place, dtype=base.dtype, use_safetensors=True, local_files_only=True)
    loaded: nn.Module = model.to(context.device).eval()
    return loaded


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of transformers: they would tear ours."""
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
