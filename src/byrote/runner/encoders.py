"""The sentence encoders that a study's attacks name: each loaded when the first new text comes, and its vectors kept.

They lie in the store under the encoder's identity, so that what all cells are compared with is read once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.base import Embed, Judge
from byrote.models.load import ResolvedModel, resolve
from byrote.models.pairs import PairClassifier
from byrote.models.sentences import SentenceEncoder, encoder_identity
from byrote.store import Locked, RunFolder
from byrote.types import StudyError, Unscorable, text_key

if TYPE_CHECKING:
    from byrote.runner.context import Context

VECTORS = "vectors"
"""The folder of the tables of vectors; what is added makes a table of its own."""
PART = 4096
"""Texts that are kept at once: a kill loses no more."""
Known = dict[str, NDArray[np.float32]]


class Encoders:
    """By the name that an attack gives: a built-in model, a folder beside the study, or a Hub id."""

    def __init__(self, context: Context, folder: Path) -> None:
        self.context, self.folder = context, folder
        self._found: dict[str, KeptEncoder | StudyError] = {}
        self._judges: dict[str, PairClassifier | StudyError] = {}
        self._resolved: dict[str, ResolvedModel] = {}

    def identity(self, name: str) -> str:
        """Of an encoder; empty where it cannot be had or loaded, so that the numbers are made once it can."""
        found = self._get(name)
        return "" if isinstance(found, StudyError) else found.identity

    def __call__(self, name: str) -> Embed:
        """Raises Unscorable where it cannot be had."""
        found = self._get(name)
        if isinstance(found, StudyError):
            raise Unscorable(str(found))

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            try:
                return found(texts)
            except StudyError as error:
                self._found[name] = error
                raise Unscorable(str(error)) from None

        return embed

    def judge(self, name: str) -> Judge:
        """A classifier of sentence pairs. Raises Unscorable where it cannot be had."""
        if name not in self._judges:
            try:
                self._judges[name] = PairClassifier(self._resolve(name), self.context.device)
            except StudyError as error:
                self._judges[name] = error
        found = self._judges[name]
        if isinstance(found, StudyError):
            raise Unscorable(str(found))
        return found

    def judge_identity(self, name: str) -> str:
        """Of a classifier of sentence pairs; empty where it cannot be had or loaded."""
        if isinstance(self._judges.get(name), StudyError):
            return ""
        try:
            return self._resolve(name).fingerprint
        except StudyError as error:
            self._judges[name] = error
            return ""

    def _resolve(self, name: str) -> ResolvedModel:
        """Looked up once, since the files of a folder are hashed for it."""
        if name not in self._resolved:
            self._resolved[name] = resolve(name, base_folder=self.folder)
        return self._resolved[name]

    def _get(self, name: str) -> KeptEncoder | StudyError:
        if name not in self._found:
            try:
                self._found[name] = self._open(name)
            except StudyError as error:  # every other part of the study goes on
                self._found[name] = error
        return self._found[name]

    def _open(self, name: str) -> KeptEncoder:
        resolved = self._resolve(name)
        known_by = encoder_identity(resolved)
        folder = self.context.store.run(f"encoder-{known_by}")
        return KeptEncoder(name, known_by, folder, self.context, lambda: SentenceEncoder(resolved, self.context.device))


class KeptEncoder:
    """An encoder that reads each text once."""

    def __init__(
        self, name: str, identity: str, folder: RunFolder, context: Context, load: Callable[[], SentenceEncoder]
    ) -> None:
        self.name, self.identity, self.folder, self.context, self._load = name, identity, folder, context, load
        self._encoder: SentenceEncoder | None = None
        self._known: Known | None = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, d), each of length one. Raises StudyError where the encoder cannot be loaded."""
        if self._known is None:
            self._known = _read(self.folder)
        keys = [text_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            self._known |= self._read(missing)
        return np.stack([self._known[key] for key in keys]) if keys else np.zeros((0, 1), np.float32)

    def _read(self, missing: Mapping[str, str]) -> Known:
        encoder = self._encoder = self._encoder or self._load()
        progress, before, found = self.context.progress, encoder.cut, Known()
        progress.start(f"{self.name}: reading sentences", len(missing))
        waiting = list(missing.items())
        for start in range(0, len(waiting), PART):
            part = dict(waiting[start : start + PART])
            read = dict(zip(part, encoder(list(part.values()), progress.listener(start)), strict=True))
            _keep(self.folder, read)
            found |= read
        if cut := encoder.cut - before:
            progress.say(
                f"{self.name} read {cut} of {len(missing)} sentences no further than {encoder.max_tokens} tokens"
            )
        return found


def _read(folder: RunFolder) -> Known:
    """All vectors of a store, by the key of their text."""
    found = Known()
    for path in sorted((folder.path / VECTORS).glob("*.parquet")):
        table = folder.read_table(f"{VECTORS}/{path.name}")
        if table is not None and len(table):
            values = np.asarray(table["vector"].combine_chunks().flatten().to_numpy(), np.float32)
            found |= zip(table["text_key"].to_pylist(), values.reshape(len(table), -1), strict=True)
    return found


def _keep(folder: RunFolder, read: Known) -> None:
    """Put these beside what is there. Another process that is writing there now goes first, and these are not kept."""
    import pyarrow as pa

    values = pa.array(np.concatenate(list(read.values())), pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(values, len(values) // len(read))
    with contextlib.suppress(Locked), folder.locked():
        number = len(list((folder.path / VECTORS).glob("*.parquet")))
        table = pa.table({"text_key": pa.array(list(read), pa.string()), "vector": vectors})
        folder.write_table(f"{VECTORS}/{number:06d}.parquet", table)
