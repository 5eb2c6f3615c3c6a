"""Movie reviews with labels, read from an archive that the user fetches: byrote may not hand the texts on."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from byrote.cache import cache_folder
from byrote.data.base import BadRow, Columns, Place, Row, Source, Table
from byrote.registry import register
from byrote.types import StudyError

ARCHIVE = "vaderSentiment-0.5.zip"
DIGEST = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
INNER = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


@register("source", "builtin:movie-reviews")
class MovieReviews(Source):
    """Sentences of movie reviews, positive or negative, of an archive that you download once (2.4 MB).

    10,568 sentences, each rated by 15 to 29 people from -4 to 4 (Hutto and Gilbert 2014, ICWSM): 5,242 with a mean
    above 0 are positive, 5,326 below 0 negative; the 37 of exactly 0 are left out. Columns: id, text, label, rating.
    The archive is the source distribution of vaderSentiment 0.5 (MIT, the package's licence); the rights in the
    sentences are their authors', so byrote does not ship them.
    """

    @classmethod
    def accepts(cls, source: str) -> bool:
        """Whether this is the set's own name."""
        return source == cls.name

    def open(self, place: Place) -> Table:
        """Open the archive in byrote's cache. Raises StudyError with the command that fetches it."""
        text = read_member(cache_folder() / "downloads" / ARCHIVE, self.name)
        columns = dict.fromkeys(("id", "text", "label", "rating"), True)
        defaults = Columns(text="text", label="label", id="id")
        licence = "the package MIT; the texts their authors', not for redistribution"
        return Table(self.name, columns, read_rows(text), defaults, licence, type(self).summary())


def read_member(archive: Path, shown: str) -> str:
    """The file of movie reviews inside the archive, whose bytes must be the pinned ones."""
    folder = archive.parent
    command = f"pip download --no-deps --no-binary :all: --dest {folder} vaderSentiment==0.5"
    try:
        content = archive.read_bytes()
    except FileNotFoundError:
        raise StudyError(
            f"{shown} is not shipped with byrote: its texts may not be handed on. Fetch them once (2.4 MB), with: "
            f"{command}   (or put {ARCHIVE} into {folder})"
        ) from None
    except OSError as error:
        raise StudyError(f"{shown}: {archive} cannot be read: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != DIGEST:
        raise StudyError(
            f"{shown}: {archive} is damaged or another release: its sha256 is {digest[:16]}..., not {DIGEST[:16]}...   "
            f"Delete it and fetch it again, with: {command}"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(INNER))) as inner:
        member = inner.extractfile(MEMBER)
        assert member is not None, "the pinned archive holds it"
        return member.read().decode("utf-8")


def read_rows(text: str) -> Iterator[Row | BadRow]:
    """One row a line: number, mean rating, text, parted by tabs."""
    for line, content in enumerate(text.splitlines(), 1):
        number, rating, review = content.split("\t")
        if float(rating) != 0:
            label = "positive" if float(rating) > 0 else "negative"
            values = {"id": f"movie-reviews/{number}", "text": review.strip(), "label": label, "rating": rating}
            yield Row(line, values)
