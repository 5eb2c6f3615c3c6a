"""What runs leave behind: runs/<run id>/ with atomic writes, content hashes and a lock each.

Facts are stored once (weights, token statistics, scores); estimates never are. Every file is
written beside its name, flushed to disk and renamed, and its SHA-256 is kept in `files.json`.
A file that is absent, half-written or changed since reads as None, and its owner makes that
piece again: nothing is trusted because it is there. A kill at any moment leaves the old file or
the new one, and either counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from byrote.types import ByroteError, StudyError

if TYPE_CHECKING:
    import pyarrow as pa

INDEX = "files.json"
MANIFEST = "study.json"
LOCK = ".lock"
PART = ".part"
"""Ends the name of what is being written; without its writer it is rubbish."""
REMEMBERED = 4
"""Hashes kept per file: the newest, and those that may still lie there had a kill come before the rename."""


def canonical_json(value: Any) -> str:
    """The one spelling of a value that identities are hashed from: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def identity(value: Any) -> str:
    """16 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def _writing_errors(path: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written, as a ByroteError. safetensors raises no OSError for either."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise ByroteError(
            f"cannot write {path}: {reason}. Free some space or choose another --out or --store; "
            "everything finished so far is kept."
        ) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` on success and vanishes on any failure.

    Raises ByroteError where the disk is full or the folder cannot be written; what stood at
    `path` before is then still whole.
    """
    temporary: Path | None = None
    with _writing_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            _flush(temporary)
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep(folder: Path, pattern: str = f".*{PART}") -> None:
    """Take away what killed writers left in a folder."""
    for path in list(folder.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


HELD = "it is held by another process: run again when that has ended"


class Locked(ByroteError):
    """Another process is working on a run."""


class RunFolder:
    """One run's files. Reads check the content hash; writes need the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock. Raises Locked at once where another process holds it.

        The operating system drops the lock with its process, so a killed run never stays locked.
        """
        from filelock import FileLock, Timeout

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise Locked(
                f"run {self.id} is locked: another byrote process is working on {self.path}. "
                "Wait until it ends, or give this one another --store."
            ) from None
        except OSError as error:
            raise ByroteError(f"cannot use {self.path}: {error.strerror or error}. Choose another --store.") from error
        try:
            sweep(self.path, f"**/.*{PART}")  # nobody else is writing here now
            yield
        finally:
            lock.release()

    def _index(self) -> dict[str, list[str]]:
        try:
            index = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return index if isinstance(index, dict) else {}

    def _write_index(self, index: dict[str, list[str]]) -> None:
        write_text(self.path / INDEX, json.dumps(index, indent=1, sort_keys=True))

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write file `name` to; on success it is in place and its hash in the index."""
        with atomic_path(self.path / name) as temporary:
            yield temporary
            index = self._index()
            # Before the rename, beside the hash of the file that still lies there.
            index[name] = [file_hash(temporary), *index.get(name, [])][:REMEMBERED]
            self._write_index(index)

    @contextlib.contextmanager
    def writing_folder(self, name: str) -> Iterator[Path]:
        """An empty folder to fill; on success it replaces folder `name`, and its files' hashes are in the index."""
        final, part = self.path / name, self.path / f".{name}{PART}"
        with _writing_errors(final):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            yield part
            files = [path for path in part.rglob("*") if path.is_file()]
            for path in files:
                _flush(path)
            hashes = {f"{name}/{path.relative_to(part).as_posix()}": [file_hash(path)] for path in files}
            others = {key: value for key, value in self._index().items() if not key.startswith(f"{name}/")}
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        self._write_index(others | hashes)

    def intact(self, name: str) -> Path | None:
        """The path of file `name`, or None where it is absent or not what was written."""
        path = self.path / name
        known = self._index().get(name, [])
        try:
            return path if known and file_hash(path) in known else None
        except OSError:
            return None

    def intact_folder(self, name: str) -> Path | None:
        """The path of folder `name`, or None where it is absent or a file in it is not what was written."""
        names = [key for key in self._index() if key.startswith(f"{name}/")]
        return self.path / name if names and all(self.intact(key) for key in names) else None

    def remove(self, name: str) -> None:
        """Take file `name` away, if it is there."""
        index = self._index()
        if index.pop(name, None) is not None:
            self._write_index(index)
        (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Take everything away but the lock."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def write_json(self, name: str, value: Any) -> None:
        with self.writing(name) as path:
            path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")

    def read_json(self, name: str) -> Any | None:
        path = self.intact(name)
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))

    def write_table(self, name: str, table: pa.Table) -> None:
        import pyarrow.parquet

        with self.writing(name) as path:
            pyarrow.parquet.write_table(table, path, compression="zstd")

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table | None:
        import pyarrow.parquet

        path = self.intact(name)
        return None if path is None else pyarrow.parquet.read_table(path, columns=columns)


class Store:
    """The runs of one or several studies: a folder with one RunFolder per run id."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self.root / run_id)


class Trial(BaseModel):
    """One learning rate that `learning_rate: auto` tried, and the validation loss (nats per token) it ended with."""

    model_config = ConfigDict(extra="forbid")
    learning_rate: float
    run_id: str
    validation_loss: float | None
    error: str = ""


class Cell(BaseModel):
    """One row of a study: a method at a privacy level with a seed, and the run that answers it."""

    model_config = ConfigDict(extra="forbid")
    method: str
    """Registered name, or "none" for the untuned base model."""
    family: Literal["parameter", "prompt", "none"]
    settings: str = ""
    privacy: str = "none"
    delta: float | None = None
    seed: int
    run_id: str
    base_run_id: str
    """Equal to `run_id` for the base model itself; empty where no untuned model is known."""
    status: Literal["done", "failed"] = "done"
    error: str = ""
    learning_rate: float | None = None
    tried: list[Trial] = []
    nulls: dict[str, str] = {}
    """Runs that cannot have learned the wrong labels of this one's records, by what they are."""
    shadows: list[str] = []
    """The shadow models that its attacks read, in their order."""
    notes: list[str] = []
    """Plain sentences about this run: "untied the language-model head", "2 records truncated", ..."""


M = TypeVar("M", bound=BaseModel)


def read_manifest(kind: type[M], path: Path, missing: str) -> M:
    """A manifest from its file. Raises StudyError that says `missing` without one, ByroteError where it is damaged."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(missing) from None
    except ValueError:
        raise ByroteError(f"{path} cannot be read: it is damaged or of another version. Run the study again.") from None


class Manifest(BaseModel):
    """What a study was and which runs answer it; with the store it is all that a report reads."""

    model_config = ConfigDict(extra="forbid")
    format: int = 1
    byrote: str
    name: str
    question: str
    model: str
    model_description: str = ""
    data: str
    data_description: str = ""
    data_licence: str = ""
    study: dict[str, Any]
    """The study with every default filled in."""
    runs: str
    """Folder of the store, relative to the manifest's own folder where it lies inside it."""
    attacks: list[dict[str, Any]]
    """{"name": ..., settings...} as given, in the study's order."""
    controls: list[dict[str, Any]] = []
    """Attacks that read no model, which every study is given."""
    utility: list[dict[str, Any]]
    cells: list[Cell]
    positive_control: Cell | None = None
    """A run that over-fits a few members, on which every attack must see that they were trained on."""
    splits: dict[str, dict[str, int]] = {}
    """Per seed: number of records per split, and of dropped ones as "dropped: <reason>"."""
    split_folders: dict[str, str] = {}
    """Per seed: the folder of the store that holds the split, and what was scored without a model."""
    extractions: dict[str, str] = {}
    """Per seed: under what name each run keeps what comes out of the seed's members and nonmembers."""
    warnings: list[str] = []
    environment: dict[str, Any] = {}

    def write(self, folder: Path) -> None:
        write_text(folder / MANIFEST, self.model_dump_json(indent=1))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises StudyError where the folder holds no study, ByroteError where it holds a damaged one."""
        missing = f"{folder} holds no results of byrote: {MANIFEST} is missing there."
        return read_manifest(cls, folder / MANIFEST, missing if folder.is_dir() else f"there is no folder {folder}")

    def store(self, folder: Path) -> Store:
        return Store(folder / self.runs)
