"""The shipped data sets keep their promises, and the rules that made them do what they say."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from byrote.types import normalise

ROOT = Path(__file__).resolve().parent.parent
BUILTIN = ROOT / "src" / "byrote" / "data" / "builtin"
sys.path.insert(0, str(ROOT / "tools"))

import aws_texts  # noqa: E402
import build_datasets  # noqa: E402
import near_duplicates  # noqa: E402

COLUMNS = {
    "aws-docs": ["id", "text", "service"],
    "aws-commands": ["id", "prompt", "completion", "service"],
    "aws-services": ["id", "text", "label"],
}


@pytest.fixture(scope="module")
def sets() -> dict[str, list[dict[str, str]]]:
    return {name: pq.read_table(BUILTIN / f"{name}.parquet").to_pylist() for name in COLUMNS}


def test_columns_sizes_and_ids(sets: dict[str, list[dict[str, str]]]) -> None:
    assert sum(path.stat().st_size for path in BUILTIN.iterdir()) <= 5_000_000
    for name, rows in sets.items():
        assert list(rows[0]) == COLUMNS[name]
        assert all(value and value == value.strip() for row in rows for value in row.values())
        assert len({row["id"] for row in rows}) == len(rows)
        assert all(re.fullmatch(rf"{name}/\d{{4,5}}", row["id"]) for row in rows)


def test_docs(sets: dict[str, list[dict[str, str]]]) -> None:
    texts = [row["text"] for row in sets["aws-docs"]]
    assert len(texts) >= 6000
    assert len({normalise(text) for text in texts}) == len(texts)
    assert all(25 <= len(text.split()) <= 200 for text in texts)
    assert not any(re.search(r"</?(p|li|ul|code)\b", text) for text in texts)


def test_services_are_balanced(sets: dict[str, list[dict[str, str]]]) -> None:
    rows = sets["aws-services"]
    counts = Counter(row["label"] for row in rows)
    assert len(rows) >= 6000
    assert 6 <= len(counts) <= 8
    assert len(set(counts.values())) == 1
    assert len({normalise(row["text"]) for row in rows}) == len(rows)


def test_commands(sets: dict[str, list[dict[str, str]]]) -> None:
    rows = sets["aws-commands"]
    assert len(rows) >= 5000
    for part in ("prompt", "completion"):
        assert len({normalise(row[part]) for row in rows}) >= len(rows) - 5
    for row in rows:
        assert row["completion"].startswith("aws ")
        assert not set("\r\n") & set(row["completion"] + row["prompt"])
        assert " Output:" not in row["completion"]


@pytest.mark.parametrize("name", ["aws-docs", "aws-services"])
def test_no_two_paragraphs_nearly_repeat_each_other(name: str, sets: dict[str, list[dict[str, str]]]) -> None:
    # Every 50th paragraph against all others, by brute force over word 5-grams.
    grams = []
    for row in sets[name]:
        words = re.findall(r"[a-z0-9]+", row["text"].lower())
        grams.append({tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))})
    worst = 0.0
    for i in range(0, len(grams), 50):
        for j, other in enumerate(grams):
            if i != j and not grams[i].isdisjoint(other):
                worst = max(worst, len(grams[i] & other) / len(grams[i] | other))
    assert worst < 0.5


def test_the_notice_describes_these_files() -> None:
    notice = (BUILTIN / "NOTICE.md").read_text()
    for name in COLUMNS:
        assert hashlib.sha256((BUILTIN / f"{name}.parquet").read_bytes()).hexdigest() in notice
    assert all(digest in notice for digest in aws_texts.WHEELS.values())
    assert "Apache License, Version 2.0" in notice


WORDS = [f"w{i}" for i in range(40)]
TEXT = " ".join(WORDS)


def test_near_copies_and_templates_are_left_out() -> None:
    one_word_changed = TEXT.replace("w20 ", "other ")
    patchwork = " ".join([*WORDS[:14], "and", "so", "on"])  # most of its 8-word runs occur in TEXT
    unrelated = " ".join(f"u{i}" for i in range(40))
    assert near_duplicates.distinct([TEXT, one_word_changed, patchwork, unrelated]) == [TEXT, unrelated]
    assert near_duplicates.distinct([one_word_changed, unrelated], near_duplicates.body_of([TEXT])) == [unrelated]


def test_exact_similarity() -> None:
    # 36 runs of five words each; the five that hold the changed word differ on either side.
    changed = TEXT.replace("w20 ", "other ")
    pool = near_duplicates.Exact([TEXT, changed])
    assert pool.nearest(changed, before=1) == pytest.approx(31 / 41)
    assert pool.nearest("nothing in common with either of them") == 0
    assert near_duplicates.exactly_distinct([TEXT, changed], near_duplicates.Exact([])) == [TEXT]
    assert near_duplicates.exactly_distinct([changed], near_duplicates.Exact([TEXT])) == []


def test_paragraphs_come_out_of_a_wheel_without_markup(tmp_path: Path) -> None:
    interface = {
        "documentation": "<p>First &amp; <code>best</code>.</p><p>Second</p><note>Third <a href='x'>one</a></note>",
        "shapes": {"S": {"documentation": "<ul><li>item</li></ul>", "members": {"documentation": {"shape": "T"}}}},
    }
    path = tmp_path / "botocore-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("botocore/data/s/2020-01-01/service-2.json.gz", gzip.compress(json.dumps(interface).encode()))
        archive.writestr("botocore/data/s/2020-01-01/paginators-1.json", '{"documentation": "no"}')
    assert list(aws_texts.paragraphs(path)) == ["First & best.", "Second", "Third one", "item"]


def test_a_wheel_with_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "botocore-1.44.5-py3-none-any.whl").write_bytes(b"not it")
    with pytest.raises(SystemExit, match="not the pinned"):
        aws_texts.wheel(aws_texts.NEW, tmp_path)


@pytest.mark.parametrize(
    ("block", "command"),
    [
        ("    aws s3 ls\n", "aws s3 ls"),
        ("    $ aws s3 ls \\\n        --recursive\n\n    Output::\n", "aws s3 ls --recursive"),
        ("    aws s3 mb s3://b\n \nOutput::\n", "aws s3 mb s3://b"),
        ("    aws x y\n        --flag 1\n    {}\n", "aws x y --flag 1"),
        ('    aws x y --text "I\'m\n        here" --z 1\n    {}\n', 'aws x y --text "I\'m here" --z 1'),
        ("    aws x y --text 'never closed\n", None),
        ("    git config\n", None),
    ],
)
def test_first_command(block: str, command: str | None) -> None:
    assert build_datasets.first_command(block) == command


def test_commands_of_a_page_with_crlf(tmp_path: Path) -> None:
    page = """\
**Example 1: To list**

The following ``ls`` example (see `Guide <https://x.y>`__) lists. Command::

    aws s3 ls \\
        --recursive

Output::

    a

**To copy**

It copies::

    aws s3 cp a b

**To copy again**

Again::

    aws s3 cp a b
"""
    path = tmp_path / "awscli.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("awscli/examples/s3/ls.rst", page.replace("\n", "\r\n"))
    rows = build_datasets.commands(path)
    assert {
        "prompt": "To list. The following ls example (see Guide) lists.",
        "completion": "aws s3 ls --recursive",
        "service": "s3",
    } in rows
    assert sorted(row["completion"] for row in rows) == ["aws s3 cp a b", "aws s3 ls --recursive"]
