"""Tokens, batches, padding and target alignment: here, for training and scoring alike, and nowhere else.

Padding is always on the right and always marked by the attention mask, never recognised by its
id (SmolLM2's pad is its end-of-text token). A target is a token with a token before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

MAX_PADDING = 0.10


@dataclass(frozen=True, slots=True)
class Example:
    """One text as token ids, cut to the length that the model is trained and scored at."""

    ids: tuple[int, ...]
    truncated_tokens: int = 0
    given: int = 0
    """Leading tokens that are context only: a prompt's. They are no targets."""
    label: int | None = None
    """Index of the record's class, where that is what is learned."""

    @property
    def target_ids(self) -> tuple[int, ...]:
        """What is trained and scored: the label, or the tokens that are not given and have a token before them."""
        return (self.label,) if self.label is not None else self.ids[max(1, self.given) :]

    @property
    def targets(self) -> int:
        """How many tokens are trained and scored."""
        return len(self.target_ids)

    def after(self, context: Sequence[int], start: int) -> Example:
        """The same targets behind a context, which stands after the text's first `start` tokens (special ones)."""
        ids = (*self.ids[:start], *context, *self.ids[start:])
        return replace(self, ids=ids, given=max(1, self.given) + len(context))

    def without(self, first: int) -> Example:
        """What is left when its first tokens, of which none is a target, have been read already."""
        return replace(self, ids=self.ids[first:], given=self.given - first)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B examples padded on the right to T tokens."""

    input_ids: torch.Tensor
    """(B, T) int64"""
    attention_mask: torch.Tensor
    """(B, T) int64, 1 for tokens and 0 for padding"""
    has_target: torch.Tensor
    """(B, T - 1) bool: position t predicts the token at t + 1, and that token is real and not given"""
    labels: torch.Tensor | None = None
    """(B,) int64 classes, where these are what is learned"""

    @property
    def targets(self) -> torch.Tensor:
        """(R,) int64: the target tokens, examples one after another; (B,) the labels, where there are any."""
        return self.input_ids[:, 1:][self.has_target] if self.labels is None else self.labels

    @property
    def owners(self) -> torch.Tensor:
        """(R,) the index of the example that each target belongs to."""
        import torch

        if self.labels is not None:
            return torch.arange(len(self.labels), device=self.labels.device)
        return self.has_target.nonzero()[:, 0]

    def rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """(R, d) rows of `hidden` (B, T, d) that predict `targets`, in the same order."""
        return hidden[:, :-1][self.has_target]


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[Example]:
    """Texts as examples with the tokenizer's own special tokens, cut to `max_length` tokens.

    Nothing is cut silently: `truncated_tokens` says how many tokens were lost.
    """
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
    return [Example(tuple(ids[:max_length]), max(0, len(ids) - max_length)) for ids in encoded]


def common_start(texts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all of these texts begin with."""
    return tuple(column[0] for column in takewhile(lambda column: len({*column}) == 1, zip(*texts, strict=False)))


def collate(examples: Sequence[Example], pad_token_id: int, device: str | torch.device = "cpu") -> Batch:
    """Examples as one right-padded batch on `device`."""
    import torch

    lengths = [len(example.ids) for example in examples]
    width = max(lengths)
    ids = torch.full((len(examples), width), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(examples), width), dtype=torch.int64)
    has_target = torch.zeros((len(examples), width - 1), dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : lengths[row]] = torch.tensor(example.ids, dtype=torch.int64)
        mask[row, : lengths[row]] = 1
        if example.label is None:
            has_target[row, lengths[row] - 1 - example.targets : lengths[row] - 1] = True
    known = [example.label for example in examples if example.label is not None]
    labels = torch.tensor(known, dtype=torch.int64, device=device) if known else None
    return Batch(ids.to(device), mask.to(device), has_target.to(device), labels)


def pack(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices grouped, longest first, into batches of at most `token_budget` padded tokens and 10% padding.

    A text longer than the budget gets a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    tokens = 0
    for index in order:
        if batches:
            padded = lengths[batches[-1][0]] * (len(batches[-1]) + 1)
            if padded <= token_budget and padded - tokens - lengths[index] <= MAX_PADDING * padded:
                batches[-1].append(index)
                tokens += lengths[index]
                continue
        batches.append([index])
        tokens = lengths[index]
    return batches


def length_grouped(lengths: Sequence[int], batch_size: int, generator: np.random.Generator) -> list[list[int]]:
    """One epoch: every index once, in random batches of texts of similar length.

    The order is shuffled, cut into pools of 16 batches, each pool is sorted by length and cut
    into batches, and the batches are shuffled: padding stays low and no batch is predictable.
    """
    order = generator.permutation(len(lengths))
    pool = 16 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool].tolist(), key=lambda index: -lengths[index])
        batches += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


ONE_IS_TOO_MUCH = (
    "out of memory with a single record in memory: use a smaller model, a shorter max_length, "
    "or a method with fewer trainable weights"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is the allocator's, of a GPU or of the processor."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
