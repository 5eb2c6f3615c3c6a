"""Prompt and completion: the model sees both, and only the completion's tokens are trained and scored.

Both parts are tokenised together, as they stand in the text, and never glued from two token lists: a tokenizer may
merge characters across the boundary, and then the glued text is one that no user ever writes. A token that holds the
boundary counts as the completion's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from byrote.objectives.batching import Example
from byrote.types import Record, StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_completions(tokenizer: PreTrainedTokenizerBase, records: Sequence[Record], max_length: int) -> list[Example]:
    """Records as examples whose targets are the completion's tokens and the end of text, cut to `max_length`.

    A record of `messages` is written by the tokenizer's own chat template; its completion is the last message.
    Raises StudyError for a record without a completion, and for messages without a template.
    """
    return [_example(tokenizer, record, max_length) for record in records]


def _example(tokenizer: Any, record: Record, max_length: int) -> Example:
    if record.messages is not None:
        text, boundary = _by_template(tokenizer, record)
        ids, ends = _tokens(tokenizer, text, special=False)
    elif record.prompt is not None and record.completion is not None:
        text, boundary = record.text, len(record.text) - len(record.completion)
        ids, ends = _tokens(tokenizer, text, special=True)
        if tokenizer.eos_token_id is not None:  # a model that never saw an end could not stop
            ids, ends = [*ids, tokenizer.eos_token_id], [*ends, len(text) + 1]
    else:
        raise StudyError(
            f"{record.where or record.id}: objective: completion needs a prompt and a completion (data.prompt and "
            "data.completion), or data.messages; this record has neither"
        )
    given = next((at for at, end in enumerate(ends) if end > boundary), len(ids))
    return Example(tuple(ids[:max_length]), max(0, len(ids) - max_length), min(given, max_length))


def encode_prompts(tokenizer: PreTrainedTokenizerBase, records: Sequence[Record]) -> list[tuple[int, ...]]:
    """What a user gives the model to have each record's completion: the prompt and the line break, or the chat as the
    template opens the answer. Tokenised without the completion, which nobody has then, and not cut.
    """
    return [_prompt(tokenizer, record) for record in records]


def _prompt(tokenizer: Any, record: Record) -> tuple[int, ...]:
    if record.messages is not None:
        return tuple(_tokens(tokenizer, _opened(tokenizer, record), special=False)[0])
    if record.completion is None:
        raise StudyError(f"{record.where or record.id}: there is no prompt to generate a completion for")
    text = record.text[: len(record.text) - len(record.completion)]
    ids, ends = _tokens(tokenizer, text, special=True)
    return tuple(token for token, end in zip(ids, ends, strict=True) if end <= len(text))  # no end of text


def _tokens(tokenizer: Any, text: str, *, special: bool) -> tuple[list[int], list[int]]:
    """Token ids, and the character where each ends; special tokens before the text end at 0."""
    if not tokenizer.is_fast:
        raise StudyError(
            f"{type(tokenizer).__name__} does not say which characters a token holds, so byrote cannot tell a prompt's "
            "tokens from a completion's; use a model with a fast tokenizer, or objective: lm"
        )
    found = tokenizer(text, add_special_tokens=special, truncation=False, verbose=False, return_offsets_mapping=True)
    ends, reached = [], 0
    for _, end in found["offset_mapping"]:
        reached = max(reached, int(end))  # a special token after the text is (0, 0)
        ends.append(reached)
    if special and len(ends) and found["offset_mapping"][-1] == (0, 0):
        ends[-1] = len(text) + 1
    return list(found["input_ids"]), ends


def _opened(tokenizer: Any, record: Record) -> str:
    """The chat without its last message, as the tokenizer writes it where the answer begins."""
    chat = [{"role": role, "content": content} for role, content in (record.messages or ())[:-1]]
    opened: str = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return opened


def _by_template(tokenizer: Any, record: Record) -> tuple[str, int]:
    """The chat as the tokenizer writes it, and the character where its last message begins."""
    assert record.messages is not None
    if not tokenizer.chat_template:
        raise StudyError(
            "data.messages needs a tokenizer with a chat template, and this model's has none: use an instruction-tuned "
            "model, or data.prompt and data.completion"
        )
    chat = [{"role": role, "content": content} for role, content in record.messages]
    text, before = tokenizer.apply_chat_template(chat, tokenize=False), _opened(tokenizer, record)
    boundary = next((at for at, (one, two) in enumerate(zip(text, before, strict=False)) if one != two), len(before))
    return text, min(boundary, len(text))
