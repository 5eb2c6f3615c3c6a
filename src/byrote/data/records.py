"""From rows to records: which column is the text, what makes a row bad, ids, and the fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from byrote.data.base import BadRow, Columns, Loaded, Row, Table
from byrote.registry import nearest
from byrote.types import Record, StudyError

TEXT_ROLES = ("text", "prompt", "completion", "messages")
SHOWN_BAD_ROWS = 5


class _Bad(Exception):
    """A value of a row cannot be used: `reason` is counted, `detail` is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def choose_columns(asked: Columns, table: Table, source: str) -> Columns:
    """Which columns to read: those asked for, else the obvious ones. Raises StudyError with the nearest name.

    Obvious is the column "text", else "prompt" and "completion", else the only column that holds text.
    """
    chosen = asked if any(getattr(asked, role) for role in TEXT_ROLES) else with_text(asked, table, source)
    chosen = replace(chosen, id=chosen.id or table.defaults.id)
    if chosen.text and (chosen.prompt or chosen.completion):
        raise StudyError("data: give either 'text', or 'prompt' and 'completion', not both")
    if chosen.messages and (chosen.text or chosen.prompt or chosen.completion):
        raise StudyError("data: give 'messages', or 'text', or 'prompt' and 'completion': one of them")
    if bool(chosen.prompt) != bool(chosen.completion):
        present, absent = ("prompt", "completion") if chosen.prompt else ("completion", "prompt")
        raise StudyError(f"data: {present!r} is given without {absent!r}; name both columns, or use 'text'")
    for role, column in [*chosen.named().items(), *(("attributes", column) for column in chosen.attributes)]:
        if column not in table.columns:
            known = ", ".join(table.columns)
            raise StudyError(
                f"{source} has no column {column!r}, which is named as {role!r}."
                f"{nearest(column, table.columns)} Columns: {known}."
            )
    return chosen


def with_text(asked: Columns, table: Table, source: str) -> Columns:
    """The asked columns, completed with the text column that the table suggests."""
    taken = {*asked.named().values(), *asked.attributes}
    if table.defaults.named():
        roles: dict[str, Any] = table.defaults.named() | asked.named()
        return replace(asked, **roles)
    texts = [column for column, is_text in table.columns.items() if is_text and column not in taken]
    if "text" in texts:
        return replace(asked, text="text")
    if "prompt" in texts and "completion" in texts:
        return replace(asked, prompt="prompt", completion="completion")
    if len(texts) == 1:
        return replace(asked, text=texts[0])
    hint = nearest("text", table.columns)
    raise StudyError(
        f"{source}: which column holds the text? Set 'text' (or 'prompt' and 'completion') under 'data' in the study; "
        "an audit takes --text (or --prompt and --completion)."
        f"{hint} Columns: {', '.join(table.columns)}."
    )


def to_records(table: Table, columns: Columns, source: str, on_bad_rows: str) -> Loaded:
    """Every row as a record. A bad row raises StudyError, or is counted when `on_bad_rows` is "skip"."""
    records: list[Record] = []
    lines_of_ids: dict[str, int] = {}
    counts: Counter[str] = Counter()
    first_bad: list[str] = []
    for row in table.rows:
        try:
            record = to_record(row, table.name, columns, source)
            earlier = lines_of_ids.setdefault(record.id, row.line)
            if earlier != row.line:
                detail = f"the id {record.id!r} is already that of {source}:{earlier}; ids must be unique"
                raise _Bad("duplicate id", detail)
        except _Bad as bad:
            complaint = f"{source}:{row.line}: {bad.detail}"
            if on_bad_rows != "skip":
                raise StudyError(
                    f"{complaint}. Mend the row, or set 'on_bad_rows: skip' under 'data' to leave such rows out (an "
                    "audit takes --on-bad-rows skip)"
                ) from None
            counts[bad.reason] += 1
            if len(first_bad) < SHOWN_BAD_ROWS:
                first_bad.append(complaint)
        else:
            records.append(record)
    if not records:
        detail = f"all {sum(counts.values())} rows are bad, such as {first_bad[0]}" if first_bad else "it has no rows"
        raise StudyError(f"{source} holds no records: {detail}")
    _check_attributes(records, columns, source)
    found = fingerprint(records, columns)
    return Loaded(tuple(records), dict(counts), tuple(first_bad), found, table.licence, table.description)


def from_list(texts: Sequence[object], name: str, on_bad_rows: str) -> Loaded:
    """Texts in memory as records, known by their places in the list; bad ones as in `to_records`."""
    records, counts, first_bad = [], Counter[str](), []
    for at, text in enumerate(texts):
        where = f"{name}[{at}]"
        try:
            records.append(Record(where, str(text_of({where: text}, where)), where=where))
        except _Bad as bad:
            if on_bad_rows != "skip":
                raise StudyError(f"{bad.detail}. Mend the text, or pass on_bad_rows='skip'") from None
            counts[bad.reason] += 1
            first_bad.append(bad.detail)
    found = fingerprint(records, Columns(text="text"))
    return Loaded(tuple(records), dict(counts), tuple(first_bad[:SHOWN_BAD_ROWS]), found, "", "texts in memory")


def to_record(row: Row | BadRow, name: str, columns: Columns, source: str) -> Record:
    """One row as a record, or _Bad."""
    if isinstance(row, BadRow):
        raise _Bad(row.reason, row.detail)
    values = row.values
    prompt = text_of(values, columns.prompt)
    completion = text_of(values, columns.completion)
    text = text_of(values, columns.text)
    messages = messages_of(values, columns.messages)
    if messages is not None:
        text = "\n".join(f"{role}: {content}" for role, content in messages)
    if text is None:
        text = f"{prompt}\n{completion}"
    return Record(
        id=scalar_of(values, columns.id) or f"{name}:{row.line}",
        text=text,
        prompt=prompt,
        completion=completion,
        label=scalar_of(values, columns.label, may_be_null=True),
        group=scalar_of(values, columns.group, may_be_null=True),
        where=f"{source}:{row.line}",
        messages=messages,
        attributes=attributes_of(values, columns.attributes, text),
    )


def attributes_of(values: Mapping[str, object], columns: Sequence[str], text: str) -> tuple[tuple[str, str], ...]:
    """Those of these columns whose value stands in the text once and not within a word, after some other text; in
    their order there."""
    found = []
    for column in columns:
        if is_null(values.get(column)) or not str(values[column]).strip():
            continue
        value = (scalar_of(values, column) or "").strip()
        alone = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.ASCII)  # not all scripts part their words
        if alone and text.count(value) == 1 and text[: alone.start()].strip():
            found.append((column, value))
    return tuple(sorted(found, key=lambda pair: text.index(pair[1])))


def _check_attributes(records: Sequence[Record], columns: Columns, source: str) -> None:
    known = {name for record in records for name, _ in record.attributes}
    if never := [column for column in columns.attributes if column not in known]:
        raise StudyError(
            f"{source}: no text holds its value of the column {never[0]!r} once, after some other text. "
            "data.attributes names columns whose values stand in the texts"
        )


def messages_of(values: Mapping[str, object], column: str | None) -> tuple[tuple[str, str], ...] | None:
    """A chat as (role, content) pairs, from a list of {"role": ..., "content": ...} or the JSON of one.

    The last message must be the assistant's: it is what is learned.
    """
    if column is None:
        return None
    value = value_of(values, column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise _Bad("wrong type", f"{column!r} is a text that is not the JSON of a list of messages") from None
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise _Bad("wrong type", f'{column!r} must be a list of {{"role": ..., "content": ...}}')
    chat = []
    for number, message in enumerate(value, 1):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str) or not content.strip():
            raise _Bad("wrong type", f"message {number} of {column!r} needs a role and a content, both texts")
        chat.append((role, clean(content, column)))
    if len(chat) < 2 or chat[-1][0] != "assistant":
        raise _Bad("no completion", f"{column!r} must end with a message of the assistant, after another message")
    return tuple(chat)


def value_of(values: Mapping[str, object], column: str) -> object:
    """The value in a column; a missing one and a null are bad."""
    if column not in values:
        raise _Bad("missing column", f"no {column!r}.{nearest(column, values)} The row has: {', '.join(values)}")
    value = values[column]
    if is_null(value):
        raise _Bad("null", f"{column!r} is null")
    return value


def is_null(value: object) -> bool:
    """Whether a cell is empty: a null, or the NaN that stands for one in a table of numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_of(values: Mapping[str, object], column: str | None) -> str | None:
    """The text in a column exactly as it stands, or None when no column is named."""
    if column is None:
        return None
    value = value_of(values, column)
    if not isinstance(value, str):
        kind = type(value).__name__
        raise _Bad("wrong type", f"{column!r} is of type {kind}, but text is needed")
    if not value.strip():
        raise _Bad("empty", f"{column!r} is empty")
    return clean(value, column)


def scalar_of(values: Mapping[str, object], column: str | None, *, may_be_null: bool = False) -> str | None:
    """A label, group or id as text: 3 and 3.0 are "3", true is "true". None when no column is named.

    With `may_be_null` a null is None too: a record without a group is its own, and one without a label has none.
    """
    if column is None or (may_be_null and column in values and is_null(values[column])):
        return None
    value = value_of(values, column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, dict, bytes)):
        raise _Bad("wrong type", f"{column!r} is a {type(value).__name__}, but one word or number is needed")
    text = str(value)
    if not text.strip():
        raise _Bad("empty", f"{column!r} is empty")
    return clean(text, column)


def clean(text: str, column: str) -> str:
    """The text itself, or _Bad where it holds what no tokenizer or file takes."""
    if "\x00" in text:
        raise _Bad("NUL byte", f"{column!r} holds a NUL byte at character {text.index(chr(0)) + 1}")
    if "\ufeff" in text:
        raise _Bad("byte-order mark", f"{column!r} holds a byte-order mark at character {text.index(chr(0xFEFF)) + 1}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        detail = f"{column!r} holds half a character ({code}, a lone surrogate) at character {error.start + 1}"
        raise _Bad("lone surrogate", detail) from None
    return text


def fingerprint(records: list[Record], columns: Columns) -> str:
    """sha256 of the columns used and of all that the records say, in order; which of it is a secret is not in it."""
    used = {role: column for role, column in asdict(columns).items() if role != "attributes"}
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    for record in records:
        fields = (record.id, record.text, record.prompt, record.completion, record.label, record.group)
        digest.update(json.dumps(fields if record.messages is None else (*fields, record.messages)).encode())
    return digest.hexdigest()
