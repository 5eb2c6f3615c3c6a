"""The identity of a model's bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from byrote.cache import cache_folder

# What decides a model's behaviour; notes and training records beside it do not.
PARTS = (
    "config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.safetensors*",
    "*.py",
)
REMEMBERED_BYTES = 16 * 2**20
"""Hashes of files at least this large are remembered by path, size and time of change; smaller ones hash at once."""


def of_folder(folder: Path) -> str:
    """Hash (32 hex digits) of a model folder: config, tokenizer and weights, by name and content."""
    return of_files({path for pattern in PARTS for path in folder.glob(pattern) if path.is_file()})


def of_files(paths: Iterable[Path]) -> str:
    """Hash (32 hex digits) of files by name and content, whatever their order."""
    whole = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        whole.update(f"{path.name}\0{digest(path)}\n".encode())
    return whole.hexdigest()[:32]


def digest(path: Path) -> str:
    """The sha256 of one file, remembered for large ones."""
    state = path.stat()
    if state.st_size < REMEMBERED_BYTES:
        return _sha256(path)
    key = hashlib.sha256(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()[:32]
    note = cache_folder() / "fingerprints" / key
    try:
        return note.read_text()
    except OSError:
        pass
    found = _sha256(path)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_name(f"{key}.{os.getpid()}")
        partial.write_text(found)
        partial.replace(note)
    except OSError:
        pass  # A cache that cannot be written costs time, not truth.
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
