"""The store: whole files or none, hashes that refuse, locks that hold and let go."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from byrote.store import INDEX, LOCK, Manifest, RunFolder, Store, atomic_path, canonical_json, identity, write_text
from byrote.types import ByroteError, StudyError


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return Store(tmp_path).run("0123456789abcdef")


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 64 KiB: a real failure of the system's write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- identities ----------------------------------------------------------------------------------


def test_identity_does_not_depend_on_the_order_of_keys() -> None:
    assert identity({"a": 1, "b": [1.5, "ü"]}) == identity({"b": [1.5, "ü"], "a": 1})
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'
    assert identity({"a": 1}) != identity({"a": 2})
    with pytest.raises(ValueError, match="Out of range"):
        identity(float("nan"))


# --- atomic writes -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"byrote.store.os.{call}", full)
    with pytest.raises(ByroteError, match=r"cannot write .*a\.txt: No space left on device\. Free some space"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_an_error_of_the_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_real_failing_write_of_each_format_leaves_the_old_file(run: RunFolder, small_files: None) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    noise = np.random.default_rng(0).normal(size=2**16)
    run.write_json("a.json", {"old": 1})
    run.write_table("b.parquet", pa.table({"x": [1]}))
    with run.writing("c.safetensors") as path:
        save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ByroteError, match="cannot write"):
        run.write_json("a.json", {"new": noise.tolist()})
    with pytest.raises(ByroteError, match="cannot write"):
        run.write_table("b.parquet", pa.table({"x": noise}))
    with (
        pytest.raises(ByroteError, match=r"cannot write .*c\.safetensors: .*too large"),
        run.writing("c.safetensors") as path,
    ):
        save_file({"x": torch.ones(2**16)}, path)
    assert run.read_json("a.json") == {"old": 1}
    table = run.read_table("b.parquet")
    assert table is not None and table.to_pydict() == {"x": [1]}
    kept = run.intact("c.safetensors")
    assert kept is not None and load_file(kept)["x"].tolist() == [1.0]
    assert left_over(run.path) == []


def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    run = Store(tmp_path / "runs").run("x")
    with pytest.raises(ByroteError, match=r"cannot use .*runs/x: .*Choose another --store"), run.locked():
        pass
    with pytest.raises(ByroteError, match="cannot write"):
        run.write_json("a.json", 1)
    assert run.read_json("a.json") is None


# --- hashes --------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_was_written_is_read(run: RunFolder) -> None:
    run.write_json("a/b.json", {"x": [1, None, "é"]})
    run.write_table("t.parquet", pa.table({"x": [1.5], "y": ["z"]}))
    assert run.read_json("a/b.json") == {"x": [1, None, "é"]}
    table = run.read_table("t.parquet", columns=["y"])
    assert table is not None and table.to_pydict() == {"y": ["z"]}
    run.remove("a/b.json")
    assert run.read_json("a/b.json") is None and run.read_json("never.json") is None


def test_a_changed_file_reads_as_none_and_others_stay(run: RunFolder) -> None:
    run.write_json("a.json", {"value": 12345})
    run.write_json("b.json", 2)
    run.write_table("t.parquet", pa.table({"x": list(range(100))}))
    flip(run.path / "a.json")
    os.truncate(run.path / "t.parquet", 100)
    assert run.read_json("a.json") is None and run.read_table("t.parquet") is None and run.read_json("b.json") == 2
    run.write_json("a.json", {"value": 12345})
    assert run.read_json("a.json") == {"value": 12345}


@pytest.mark.parametrize("index", ["", "{", "[]", '{"a.json": []}', '{"b.json": ["0"]}'])
def test_without_its_hash_a_file_is_not_trusted(run: RunFolder, index: str) -> None:
    run.write_json("a.json", 1)
    (run.path / INDEX).write_text(index)
    assert run.read_json("a.json") is None
    run.write_json("a.json", 2)
    assert run.read_json("a.json") == 2


def test_a_kill_between_index_and_rename_leaves_the_old_file_valid(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_json("a.json", "old")
    whole = os.replace
    for kill in range(2):  # and twice in a row

        def killed(source: Path, target: Path) -> None:
            if Path(target).name == "a.json":
                raise KeyboardInterrupt
            whole(source, target)

        monkeypatch.setattr("byrote.store.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.write_json("a.json", f"new {kill}")
        assert run.read_json("a.json") == "old"
    monkeypatch.undo()
    run.write_json("a.json", "newest")
    assert run.read_json("a.json") == "newest"


def test_a_folder_is_replaced_whole_and_hashed(run: RunFolder) -> None:
    def write(**files: str) -> None:
        with run.writing_folder("weights") as folder:
            for name, content in files.items():
                (folder / name).write_text(content)

    assert run.intact_folder("weights") is None
    write(a="1", b="2")
    write(a="3")
    folder = run.intact_folder("weights")
    assert folder is not None and {path.name: path.read_text() for path in folder.iterdir()} == {"a": "3"}
    with pytest.raises(ByroteError, match="cannot write"), run.writing_folder("weights") as part:
        (part / "a").write_text("4")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert run.intact_folder("weights") and (folder / "a").read_text() == "3"
    flip(folder / "a")
    assert run.intact_folder("weights") is None
    write(a="5")
    (folder / "a").unlink()
    assert run.intact_folder("weights") is None


# --- locks ---------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from byrote.store import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_killed_one_lets_go(run: RunFolder) -> None:
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        message = f"run {run.id} is locked: another byrote process is working on .*Wait until it ends, or .*--store"
        with pytest.raises(ByroteError, match=message), run.locked():
            raise AssertionError("two processes hold one lock")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with run.locked():
        assert (run.path / LOCK).exists()


def test_rubbish_of_a_killed_writer_is_swept_under_the_lock(run: RunFolder) -> None:
    run.write_json("stats/a.json", 1)
    (run.path / "stats" / ".a.json.x1.part").write_text("half")
    (run.path / ".weights.part").mkdir()
    (run.path / ".weights.part" / "model").write_text("half")
    with run.locked():
        assert left_over(run.path) == []
    assert run.read_json("stats/a.json") == 1


def test_clear_leaves_nothing_but_the_lock(run: RunFolder) -> None:
    with run.locked():
        run.write_json("stats/a.json", 1)
        run.write_json("b.json", 1)
        run.clear()
        assert os.listdir(run.path) == [LOCK]
    assert run.read_json("b.json") is None


# --- manifest ------------------------------------------------------------------------------------


def test_a_manifest_comes_back_or_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds no results of byrote: study\.json is missing"):
        Manifest.read(tmp_path)
    manifest = Manifest(
        byrote="0", name="n", question="q", model="m", data="d", study={}, runs="../s", attacks=[], utility=[], cells=[]
    )
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert manifest.store(tmp_path).root == tmp_path / "../s"
    raw = json.loads((tmp_path / "study.json").read_text())
    for damaged in ("", "{", "[]", json.dumps(raw | {"unknown": 1})):
        (tmp_path / "study.json").write_text(damaged)
        with pytest.raises(ByroteError, match="damaged or of another version"):
            Manifest.read(tmp_path)
