"""`byrote init`: what it sees in a file, and that what it writes runs."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from byrote.data.base import Columns
from byrote.data.describe import choose_sizes, describe_file
from byrote.data.init import quoted, study_text
from byrote.data.load import load
from byrote.data.split import split
from byrote.study import Study, load_study, read_yaml
from byrote.types import Splits, StudyError

WORDS = [f"w{number}" for number in range(500)]


def sentence(rng: random.Random, length: int = 25) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def tickets(count: int, seed: int = 0) -> list[dict[str, object]]:
    rng = random.Random(seed)
    return [
        {
            "ticket_id": 1000 + number,
            "customer": f"customer{rng.randrange(count // 3)}",
            "body": sentence(rng),
            "category": rng.choice(["billing", "login", "other"]),
            "subject line": sentence(rng, 4),
            "opened": f"2025-0{rng.randint(1, 9)}-11",
        }
        for number in range(count)
    ]


def draw(path: Path) -> tuple[Study, Splits]:
    """What a run does with a study up to the training."""
    study, folder = load_study(path)
    data = study.data
    columns = Columns(data.text, data.prompt, data.completion, data.label, data.group, data.id)
    loaded = load(data.source, columns, on_bad_rows=data.on_bad_rows, base_folder=folder)
    parts = {"members": data.members, "nonmembers": data.nonmembers, "validation": data.validation, "test": data.test}
    return study, split(loaded.records, **parts, seed=0, near_duplicates=data.near_duplicates)


def first_study(path: Path) -> tuple[Study, Splits]:
    study_path = path.with_suffix(".yaml")
    study_path.write_text(study_text(describe_file(path)), encoding="utf-8")
    return draw(study_path)


def test_a_file_of_tickets_is_understood(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", tickets(400))
    summary = describe_file(path)
    assert summary.guess == Columns(text="body", id="ticket_id", group="customer", label="category")
    assert (summary.rows, summary.usable, summary.median_words) == (400, 400, 25)
    assert summary.sizes == (120, 120, 60, 60)
    study, splits = first_study(path)
    assert study.name == "tickets" and study.model == "builtin:tiny" and study.epochs == 4
    assert [method.name for method in study.methods] == ["full", "lora", "prompt-tuning"]
    assert study.learning_rate == "auto" and study.seeds == [0]
    assert [len(part) for _, part in splits.parts()] == [120, 120, 60, 60]
    assert len({record.group for record in splits.members} & {record.group for record in splits.nonmembers}) == 0


def test_every_setting_has_a_comment(tmp_path: Path) -> None:
    text = study_text(describe_file(write_csv(tmp_path / "tickets.csv", tickets(60))))
    for written in text.splitlines():
        assert not written or "#" in written or written == "data:"
    assert set(read_yaml(text, "study")) <= set(Study.model_fields)


def test_copies_and_bad_rows_leave_a_study_that_runs(tmp_path: Path) -> None:
    rows = tickets(400)
    for number in range(60):
        rows[number] = dict(rows[number + 60], ticket_id=rows[number]["ticket_id"])
    for number in range(150, 170):
        rows[number]["body"] = f"{rows[number + 20]['body']} indeed"
    rows[200]["body"] = ""
    path = write_csv(tmp_path / "tickets.csv", rows)
    with path.open("a") as file:
        file.write("1,2,3\n")
    summary = describe_file(path)
    assert (summary.rows, summary.usable) == (401, 401 - 2 - 60 - 20)
    assert summary.bad_rows == {"empty": 1, "wrong number of fields": 1}
    study, splits = first_study(path)
    assert study.data.on_bad_rows == "skip"
    assert [len(part) for _, part in splits.parts()] == list(summary.sizes)


def test_prompts_and_completions_are_found(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "pairs.jsonl"
    lines = [{"Question": sentence(rng), "Answer": sentence(rng, 3), "meta": {"a": 1}} for _ in range(50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    study, splits = first_study(path)
    assert (study.data.prompt, study.data.completion) == ("Question", "Answer")
    assert splits.members[0].prompt


def test_plain_text_and_parquet_are_understood(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet

    rng = random.Random(2)
    texts = [sentence(rng) for _ in range(60)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    arrow.parquet.write_table(arrow.table({"n": list(range(60)), "body": texts}), tmp_path / "b.parquet")
    for name, column in (("a.txt", "text"), ("b.parquet", "body")):
        study, splits = first_study(tmp_path / name)
        assert study.data.text == column
        assert len(splits.members) == 18


ODD_NAMES = ["yes", "12", "a: b", "# hash", 'say "hi"', "naïve Größe", "two\nlines", "null", " padded ", "[x]", "*star"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_column_names_survive(tmp_path: Path, name: str) -> None:
    rng = random.Random(3)
    path = write_csv(tmp_path / "odd name: #1.csv", [{name: sentence(rng), "n": n} for n in range(40)])
    study, splits = first_study(path)
    assert study.data.text == name and study.data.source == path.name
    assert len(splits.members) == 12
    assert read_yaml(f"key: {quoted(name)}", "test") == {"key": name}


def test_a_group_that_cannot_be_split_is_not_used(tmp_path: Path) -> None:
    rows = tickets(200)
    for number, row in enumerate(rows):
        row["customer"] = f"customer{number % 4}"  # four people own everything
    assert describe_file(write_csv(tmp_path / "t.csv", rows)).guess.group is None


def test_an_id_that_repeats_far_down_is_not_used(tmp_path: Path) -> None:
    rows = tickets(5200)
    rows[5150]["ticket_id"] = rows[3]["ticket_id"]  # behind the rows that are looked at
    for row in rows:
        row["body"] = row["subject line"]
    summary = describe_file(write_csv(tmp_path / "t.csv", rows))
    assert summary.guess.id is None and summary.bad_rows == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id;text\n1;some words\n", "separated by semicolons"),
        ("a.csv", "n,m\n1,2\n3,4\n", "no column holds text. Columns: n, m"),
        ("a.csv", "text\n" + "one line\n" * 50, "1 usable records after leaving out bad rows and copies"),
        ("a.csv", "", "empty"),
        ("a.csv", "text,label\n", "a.csv: it has no rows that can be read"),
        ("a.json", "[]", "byrote reads files that end in"),
        ("a", "x", "byrote reads files that end in"),
    ],
)
def test_a_file_that_cannot_make_a_study_says_why(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match=message):
        describe_file(tmp_path / name)


def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file"):
        describe_file(tmp_path / "nothing")


def test_sizes_leave_a_tenth_spare_and_stop_at_a_thousand() -> None:
    assert choose_sizes(400, "f") == (120, 120, 60, 60)
    assert choose_sizes(20, "f") == (6, 6, 3, 3)
    assert choose_sizes(100_000, "f") == (1000, 1000, 500, 500)
    for usable in range(20, 4000, 7):
        parts = choose_sizes(usable, "f")
        assert 0.8 * usable <= sum(parts) <= 0.9 * usable or parts[0] == 1000
