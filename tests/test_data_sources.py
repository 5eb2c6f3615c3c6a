"""Reading: every source gives the same records, and every bad row is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from byrote.data.base import Columns, Loaded
from byrote.data.load import load
from byrote.registry import names
from byrote.types import StudyError

ROWS = [
    {"who": "ann", "ticket": "The printer is on fire, again", "kind": 1},
    {"who": "bob", "ticket": 'He said "hello"\nand left', "kind": 2},
    {"who": "ann", "ticket": "Größe ≠ 10 µm", "kind": 1},
]
COLUMNS = Columns(text="ticket", label="kind", group="who")


def write_all(folder: Path) -> list[str]:
    import csv

    import pyarrow as arrow
    import pyarrow.parquet

    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\r\n" for row in ROWS), encoding="utf-8-sig")
    with (folder / "t.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["who", "ticket", "kind"])
        writer.writeheader()
        writer.writerows(ROWS)
    arrow.parquet.write_table(arrow.Table.from_pylist(ROWS), folder / "t.parquet")
    return ["t.jsonl", "t.csv", "t.parquet"]


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    for name in write_all(tmp_path):
        loaded = load(name, COLUMNS, base_folder=tmp_path)
        assert [record.text for record in loaded.records] == [row["ticket"] for row in ROWS]
        assert [record.label for record in loaded.records] == ["1", "2", "1"]
        assert [record.group for record in loaded.records] == ["ann", "bob", "ann"]
        assert loaded.bad_rows == {} and loaded.first_bad == ()


def test_ids_and_places_name_the_physical_line(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_all(tmp_path / "sub")
    lines = {"t.jsonl": [1, 2, 3], "t.csv": [2, 3, 5], "t.parquet": [1, 2, 3]}  # the second ticket takes two lines
    for name, expected in lines.items():
        records = load(f"sub/{name}", COLUMNS, base_folder=tmp_path).records
        assert [record.id for record in records] == [f"{name}:{line}" for line in expected]
        assert [record.where for record in records] == [f"sub/{name}:{line}" for line in expected]


def test_prompt_and_completion_make_the_text(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Say hi", "completion": "hi"}\n')
    (record,) = load("p.jsonl", base_folder=tmp_path).records
    assert (record.text, record.prompt, record.completion) == ("Say hi\nhi", "Say hi", "hi")


@pytest.mark.parametrize(
    ("content", "texts", "lines"),
    [
        ("one\ntwo\n", ["one", "two"], [1, 2]),
        ("one\ntwo\n\n", ["one", "two"], [1, 2]),  # a blank line at the end parts nothing
        ("\none\r\ntwo\r\n \r\nthree\r\n\r\n\r\nfour", ["one\ntwo", "three", "four"], [2, 5, 8]),
    ],
)
def test_plain_text_is_read_by_paragraphs_where_blank_lines_part_them(
    tmp_path: Path, content: str, texts: list[str], lines: list[int]
) -> None:
    (tmp_path / "t.txt").write_bytes(content.encode())
    records = load("t.txt", base_folder=tmp_path).records
    assert [record.text for record in records] == texts
    assert [record.id for record in records] == [f"t.txt:{line}" for line in lines]


def lone(folder: Path, content: bytes, name: str, on_bad_rows: str = "error", columns: Columns | None = None) -> Loaded:
    (folder / name).write_bytes(content)
    return load(name, columns, on_bad_rows=on_bad_rows, base_folder=folder)


GOOD = b'{"text": "good", "n": 1}\n'
BAD_LINES = {
    "broken JSON": b'{"text": "cut of\n',
    "missing column": b'{"txet": "misspelt"}\n',
    "null": b'{"text": null}\n',
    "wrong type": b'{"text": 7}\n',
    "empty": b'{"text": " \\t "}\n',
    "NUL byte": b'{"text": "a\\u0000b"}\n',
    "lone surrogate": b'{"text": "a\\ud800b"}\n',
    "byte-order mark": b'{"text": "a\\ufeffb"}\n',
    "not UTF-8": '{"text": "Größe"}\n'.encode("latin-1"),
    "not an object": b'["text"]\n',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_of_json_is_named_or_skipped(tmp_path: Path, reason: str) -> None:
    content = GOOD + b"\n" + BAD_LINES[reason] + GOOD
    with pytest.raises(StudyError, match=r"^b\.jsonl:3: .*on_bad_rows: skip"):
        lone(tmp_path, content, "b.jsonl")
    loaded = lone(tmp_path, content, "b.jsonl", "skip")
    assert loaded.bad_rows == {reason: 1}
    assert [record.id for record in loaded.records] == ["b.jsonl:1", "b.jsonl:4"]
    assert loaded.first_bad[0].startswith("b.jsonl:3: ")


@pytest.mark.parametrize("raw", [b'\xef\xbb\xbf{"text": "x"}\n', b'{"text": "a\x00b"}\n', b'{"text": 1e999999}\n'])
def test_raw_bytes_that_json_does_not_take_are_bad_rows(tmp_path: Path, raw: bytes) -> None:
    assert sum(lone(tmp_path, GOOD + raw, "b.jsonl", "skip").bad_rows.values()) == 1


BAD_CSV = {
    "wrong number of fields": [b"1,a,b\n", b"1\n"],
    "not UTF-8": ["1,Größe\n".encode("latin-1")],
    "NUL byte": [b"1,a\x00b\n"],
    "byte-order mark": [b"1,\xef\xbb\xbfx\n"],
    "empty": [b"1,\n", b'1,"  "\n'],
    "bad quoting": [b'1,"a"b\n', b'1,"never closed\n'],
}


@pytest.mark.parametrize(("reason", "bad"), [(reason, bad) for reason, bads in BAD_CSV.items() for bad in bads])
def test_a_bad_row_of_csv_is_named_or_skipped_alone(tmp_path: Path, reason: str, bad: bytes) -> None:
    content = b'n,text\n0,"two\nlines"\n' + bad + b"2,good\n3,fine\n"
    with pytest.raises(StudyError, match=r"^b\.csv:4: "):
        lone(tmp_path, content, "b.csv")
    loaded = lone(tmp_path, content, "b.csv", "skip")
    assert loaded.bad_rows == {reason: 1}
    assert [record.text for record in loaded.records] == ["two\nlines", "good", "fine"]
    assert [record.where for record in loaded.records] == ["b.csv:2", "b.csv:5", "b.csv:6"]


def test_a_csv_field_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    import csv

    limit = csv.field_size_limit()
    (record,) = lone(tmp_path, b"text\n" + b"long " * 100_000 + b"\n", "long.csv").records
    assert len(record.text) == 500_000
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"\n\n", "only blank lines"),
        ("a.csv", b"text\n", "holds no records"),
        ("a.csv", b"text,text\nx,y\n", r"a\.csv:1: the header names 'text' more than once"),
        ("a.csv", b"id;text\n1;x\n", "semicolons"),
        ("a.csv", b"id\ttext\n1\tx\n", "tabs"),
        ("a.csv", b'"id,text\n1,x\n', r"a\.csv:1: a quote opens"),
        ("a.csv", "text\nx\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"one,two\nx,y\n", "which column holds the text.*Columns: one, two"),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b"\n", "no JSON object"),
        ("a.jsonl", b"nonsense\n", r"a\.jsonl:1: not valid JSON"),
        ("a.txt", b" \n\n", "only blank lines"),
        ("a.parquet", b"PAR1nonsense", "not a Parquet file"),
        ("a.xlsx", b"PK", r"byrote reads files that end in \.jsonl"),
        ("a.tsv", b"a\tb\n", r"byrote reads files that end in \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    for on_bad_rows in ("error", "skip"):
        with pytest.raises(StudyError, match=message):
            lone(tmp_path, content, name, on_bad_rows)


def test_a_missing_file_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("text\nx\n")
    (tmp_path / "folder.csv").mkdir()
    for wrong, message in {
        "tikets.csv": "no such file. Did you mean 'tickets.csv'",
        "nowhere/tickets.csv": "no folder 'nowhere'",
        "folder.csv": "is a folder",
        "tickets.xlsx": "no such file. Did you mean 'tickets.csv'",
        "builtin:aws-dox": "Did you mean 'builtin:aws-docs'",
        "not a source!": "is not a source",
    }.items():
        with pytest.raises(StudyError, match=message):
            load(wrong, base_folder=tmp_path)


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StudyError, match=r"a\.csv cannot be read: Permission denied"):
        load("a.csv", base_folder=tmp_path)


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    for name in write_all(tmp_path):
        with pytest.raises(StudyError, match=r"no column 'tiket', which is named as 'text'.*'ticket'.*Columns:"):
            load(name, Columns(text="tiket"), base_folder=tmp_path, on_bad_rows="skip")


@pytest.mark.parametrize("columns", [Columns(text="a", prompt="b"), Columns(prompt="a"), Columns(completion="a")])
def test_half_a_prompt_or_both_ways_is_refused(tmp_path: Path, columns: Columns) -> None:
    with pytest.raises(StudyError, match=r"not both|without"):
        lone(tmp_path, b"a,b\nx,y\n", "a.csv", columns=columns)


def test_the_obvious_text_column_is_found(tmp_path: Path) -> None:
    assert lone(tmp_path, b'{"n": 1, "body": "x"}\n', "a.jsonl").records[0].text == "x"
    assert lone(tmp_path, b"id,text\n1,x\n", "a.csv").records[0].text == "x"
    assert lone(tmp_path, b"key,body\n1,x\n", "a.csv", columns=Columns(id="key")).records[0].text == "x"


def test_ids_are_kept_and_must_be_unique(tmp_path: Path) -> None:
    columns = Columns(text="text", id="id")
    content = b"id,text\n7,x\n8,y\n7,z\n"
    with pytest.raises(StudyError, match=r"^a\.csv:4: the id '7' is already that of a\.csv:2"):
        lone(tmp_path, content, "a.csv", columns=columns)
    loaded = lone(tmp_path, content, "a.csv", "skip", columns)
    assert [record.id for record in loaded.records] == ["7", "8"] and loaded.bad_rows == {"duplicate id": 1}
    with pytest.raises(StudyError, match=r"^a\.csv:3: 'id' is empty"):
        lone(tmp_path, b"id,text\n7,x\n,y\n", "a.csv", columns=columns)


def test_numbers_as_labels_are_words(tmp_path: Path) -> None:
    content = b'{"text": "a", "l": 3}\n{"text": "b", "l": 3.0}\n{"text": "c", "l": true}\n{"text": "d", "l": 0.5}\n'
    records = lone(tmp_path, content, "a.jsonl", columns=Columns(text="text", label="l")).records
    assert [record.label for record in records] == ["3", "3", "true", "0.5"]
    with pytest.raises(StudyError, match=r"a\.jsonl:1: 'l' is a list"):
        lone(tmp_path, b'{"text": "a", "l": [1]}\n', "a.jsonl", columns=Columns(text="text", label="l"))


def test_bad_values_in_parquet_name_the_row(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet

    broken = arrow.array([b"fine", b"Gr\xf6\xdfe", b"good"]).cast(arrow.binary()).view(arrow.string())
    arrow.parquet.write_table(arrow.table({"text": broken}), tmp_path / "a.parquet")
    with pytest.raises(StudyError, match=r"^a\.parquet:2: byte 0xf6 is not UTF-8"):
        load("a.parquet", base_folder=tmp_path)
    loaded = load("a.parquet", base_folder=tmp_path, on_bad_rows="skip")
    assert [record.id for record in loaded.records] == ["a.parquet:1", "a.parquet:3"]

    arrow.parquet.write_table(arrow.table({"text": ["a", None], "n": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(StudyError, match=r"^b\.parquet:2: 'text' is null"):
        load("b.parquet", base_folder=tmp_path)
    with pytest.raises(StudyError, match=r"^b\.parquet:1: 'n' is of type int, but text is needed"):
        load("b.parquet", Columns(text="n"), base_folder=tmp_path)
    content = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(StudyError, match="not a Parquet file"):
        load("b.parquet", base_folder=tmp_path)


def test_when_every_row_is_bad_nothing_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"all 2 rows are bad, such as a\.jsonl:1: 'text' is null"):
        lone(tmp_path, b'{"text": null}\n{"text": ""}\n', "a.jsonl", "skip", Columns(text="text"))


def test_the_fingerprint_follows_content_and_columns(tmp_path: Path) -> None:
    def of(content: bytes, columns: Columns | None = None) -> str:
        return lone(tmp_path, content, "a.csv", columns=columns).fingerprint

    base = of(b"text,b\nx,y\n")
    assert base == of(b'"text","b"\r\n"x","y"\r\n') and len(base) == 64  # the same records, written otherwise
    others = [of(b"text,b\nx2,y\n"), of(b"text,b\nx,y\n", Columns(text="b")), of(b"text,b\nx,y\nx,y\n")]
    assert len({base, *others}) == 4
    labelled = Columns(text="text", label="b", group="b")
    assert of(b"text,b\nx,y\n", labelled) != of(b"text,b\nx,z\n", labelled)
    assert of(b"text,b\nx,y\n") == of(b"text,b\nx,z\n")  # a column that is not read does not count


def test_sources_are_listed() -> None:
    listed = names("source")
    built_in = {"builtin:aws-commands", "builtin:aws-docs", "builtin:aws-services"}
    assert {"csv", "hub", "jsonl", "parquet", "txt"} | built_in <= set(listed)


@pytest.mark.parametrize("name", ["builtin:aws-docs", "builtin:aws-commands", "builtin:aws-services"])
def test_the_built_in_sets_load_without_naming_columns(name: str) -> None:
    loaded = load(name)
    assert len(loaded.records) >= 5000 and loaded.licence == "Apache-2.0" and loaded.description
    assert (loaded.records[0].label is not None) == (name == "builtin:aws-services")
    assert (loaded.records[0].completion is not None) == (name == "builtin:aws-commands")
    assert load(name, Columns(text="prompt" if "commands" in name else "text")).records[0].id == loaded.records[0].id


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A Hub of one data set, and the arguments with which it was asked for."""
    import datasets

    asked: dict[str, object] = {}

    def fake(path: str, name: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        asked.update(path=path, name=name, split=split, revision=revision)
        if path == "far/away":
            raise ConnectionError("Couldn't reach the Hub\nlong story")
        if path == "no/such":
            raise datasets.exceptions.DatasetNotFoundError("gone")
        if split != "train":
            raise ValueError(f"Unknown split {split!r}")
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
        )
        return datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    return asked


def test_the_hub_gives_records_with_named_labels(hub: dict[str, object], tmp_path: Path) -> None:
    loaded = load("some/mail:plain", Columns(text="text", label="label"), revision="v1", base_folder=tmp_path)
    assert hub == {"path": "some/mail", "name": "plain", "split": "train", "revision": "v1"}
    assert [(record.id, record.label) for record in loaded.records] == [
        ("some/mail/train:1", "spam"),
        ("some/mail/train:2", "ham"),
    ]


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("far/away", "train", r"cannot reach the Hub.*\(Couldn't reach the Hub\)"),
        ("no/such", "train", "no data set 'no/such'"),
        ("some/mail", "dev", "cannot be loaded: Unknown split 'dev'"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(hub: dict[str, object], source: str, split: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load(source, split=split)


def test_a_record_without_a_group_or_label_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "one", "user": null, "y": null}\n{"text": "two", "user": "u1", "y": "a"}\n')
    one, two = load(str(path), Columns(text="text", group="user", label="y")).records
    assert (one.group, one.group_id, one.label) == (None, one.id, None)
    assert (two.group, two.label) == ("u1", "a")


def test_without_a_network_only_the_cache_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr("byrote.network.reachable", lambda: False)
    before = datasets.config.HF_HUB_OFFLINE
    # In this mode the client refuses by itself; it never tries, and so never retries for half a minute.
    with pytest.raises(StudyError, match=r"cannot reach the Hub .*'some/mail' .*OfflineModeIsEnabled.*built-in set"):
        load("some/mail")
    assert before == datasets.config.HF_HUB_OFFLINE
