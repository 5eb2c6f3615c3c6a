"""The movie reviews come out of the archive that the user fetched, and out of nothing else."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from byrote.data import movie_reviews
from byrote.data.load import load
from byrote.types import StudyError

SOURCE = "builtin:movie-reviews"
LINES = "1\t2.5\tGood é fun. \n2\t-0.25\tNot good\n3\t0.0\tA film\n4\t0.125\tFine"


def archive_of(text: str) -> bytes:
    content = text.encode()
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        member = tarfile.TarInfo(movie_reviews.MEMBER)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr(movie_reviews.INNER, inner.getvalue())
    return outer.getvalue()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the archive is looked for; nothing is there yet."""
    monkeypatch.setenv("BYROTE_CACHE", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads" / movie_reviews.ARCHIVE


def test_labels_are_words_and_neither_is_left_out(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write_bytes(archive_of(LINES))
    monkeypatch.setattr(movie_reviews, "DIGEST", hashlib.sha256(archive.read_bytes()).hexdigest())
    loaded = load(SOURCE)
    assert [(record.id, record.text, record.label) for record in loaded.records] == [
        ("movie-reviews/1", "Good é fun.", "positive"),
        ("movie-reviews/2", "Not good", "negative"),
        ("movie-reviews/4", "Fine", "positive"),
    ]
    assert loaded.records[2].where == f"{SOURCE}:4"
    assert loaded.bad_rows == {}
    assert "not for redistribution" in loaded.licence


def test_without_the_archive_the_command_is_told(archive: Path) -> None:
    command = rf"pip download --no-deps --no-binary :all: --dest {archive.parent} vaderSentiment==0\.5 "
    with pytest.raises(StudyError, match=command):
        load(SOURCE)


@pytest.mark.parametrize("content", [b"", b"half an archive", archive_of("1\t1\tAnother release")])
def test_other_bytes_are_refused(content: bytes, archive: Path) -> None:
    archive.write_bytes(content)
    with pytest.raises(StudyError, match="damaged or another release"):
        load(SOURCE)


def test_a_folder_in_its_place_is_told(archive: Path) -> None:
    archive.mkdir()
    with pytest.raises(StudyError, match="cannot be read: Is a directory"):
        load(SOURCE)


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(StudyError, match="Did you mean 'builtin:movie-reviews'"):
        load("builtin:movie-review")
