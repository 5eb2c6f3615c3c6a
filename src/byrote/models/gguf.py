"""GGUF files, as llama.cpp uses them, made into safetensors once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from byrote.models.fingerprint import digest
from byrote.models.hub import first_line
from byrote.types import ByroteError, StudyError

NOTE = "CONVERTED.md"


def convert(path: Path, cache: Path) -> Path:
    """The folder with the float32 safetensors of a GGUF file, made on first use (about a minute for 135 M parameters).

    The folder is named by the file's content and appears whole or not at all. Raises StudyError where the file is no
    GGUF file, is damaged, or holds an architecture that transformers cannot read.
    """
    check_header(path)
    folder = cache / "converted" / f"{path.stem}-{digest(path)[:16]}"
    if (folder / NOTE).is_file():
        return folder
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        _write(path, partial)
        (partial / NOTE).write_text(_note(path))
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / NOTE).is_file():  # another process may have been faster, with the same result
                raise
    except OSError as error:
        raise ByroteError(f"cannot keep the converted model in {folder}: {first_line(error)}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def check_header(path: Path) -> None:
    """Raises StudyError unless the file begins as a GGUF file does."""
    if not path.is_file():
        raise StudyError(f"no such file: {path}")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise StudyError(f"{path} is not a GGUF file: it does not begin with the letters GGUF")


def _write(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    here: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **here)
        model: Any = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **here)
    except (ValueError, KeyError, IndexError, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise StudyError(
            f"{path} cannot be read: it is damaged, or of a kind that transformers does not know "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    # The weights are plain float32 by now, but the loader leaves them flagged as quantised and unsaveable.
    for flag in ("hf_quantizer", "quantization_method"):
        if flag in vars(model):
            delattr(model, flag)
    model.is_quantized = False
    if "quantization_config" in vars(model.config):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _note(path: Path) -> str:
    from importlib.metadata import version

    return (
        f"# {path.stem}\n\n"
        f"Converted by byrote from the GGUF file {path.name} (sha256 {digest(path)}) with transformers "
        f"{version('transformers')}.\nThe weights are **de-quantised approximations** of the published ones: the "
        "file holds them at a few bits each,\nand spreading them out to float32 brings nothing back. Say so with every "
        "result.\n"
    )
