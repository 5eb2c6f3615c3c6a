"""Classification: one target a record, its label, over a vocabulary of K classes.

Seen so, everything that reads the tokens of a text reads a label as well: the loss is the cross-entropy, a rank of 0
is a right answer, and the same engines, attacks and tables serve both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from byrote.objectives.batching import Batch, Example
from byrote.types import ByroteError, Record, StudyError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

HEADS = ("score", "classifier")
"""How transformers names the head of a sequence classifier: in decoders, and in encoders."""


def encode_labelled(
    tokenizer: PreTrainedTokenizerBase, records: Sequence[Record], labels: Sequence[str], max_length: int
) -> list[Example]:
    """Records as examples with the index of their label, cut to `max_length` as the tokenizer itself cuts.

    An encoder's closing token survives the cut. Raises StudyError for a record without a known label.
    """
    if not records:
        return []
    index = {label: at for at, label in enumerate(labels)}
    for record in records:
        if record.label not in index:
            raise StudyError(
                f"{record.where or record.id}: the label is {record.label!r}, but objective: classification needs one "
                f"of {', '.join(labels)}. Set data.label to the column of the labels"
            )
    texts = [record.text for record in records]
    whole = tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
    cut = tokenizer(texts, add_special_tokens=True, truncation=True, max_length=max_length)["input_ids"]
    return [
        Example(tuple(ids), len(long) - len(ids), label=index[record.label or ""])
        for record, ids, long in zip(records, cut, whole, strict=True)
    ]


class Classifier:
    """A sequence classifier cut before its head: `rows` gives what enters it, `logits` the classes' scores.

    A decoder is pooled at its last real token, found by the attention mask. transformers looks for the pad id
    instead, which fails where padding is an ordinary token, and with virtual tokens PEFT then pools a padded place.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.head: nn.Module = head_of(model)

    @property
    def vocabulary(self) -> int:
        """K, the number of classes."""
        return int(self.model.config.num_labels)  # type: ignore[union-attr, arg-type]

    @contextlib.contextmanager
    def _taking_rows(self) -> Iterator[list[torch.Tensor]]:
        taken: list[torch.Tensor] = []

        def take(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            taken.append(inputs[0])
            return (inputs[0].detach(), *inputs[1:])

        hook = self.head.register_forward_pre_hook(take)
        try:
            yield taken
        finally:
            hook.remove()

    def rows(self, batch: Batch) -> torch.Tensor:
        """(B, d): one row an example."""
        with self._taking_rows() as taken:
            self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        entered = taken[0]
        if entered.ndim == 2:
            return entered  # the family pooled before its head, as BERT does
        if not self._pools_last:
            return entered[:, 0]
        # Virtual tokens stand before the text, and padding after it.
        places = entered.shape[1] - batch.input_ids.shape[1] + batch.attention_mask.sum(1) - 1
        return entered.gather(1, places[:, None, None].expand(-1, 1, entered.shape[-1]))[:, 0]

    @property
    def _pools_last(self) -> bool:
        """Decoders read from left to right, so that only their last token has seen all."""
        config: Any = self.model.config
        return config.model_type not in ENCODERS

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """(R, K) scores of rows (R, d)."""
        found: torch.Tensor = self.head(rows if self._head_takes_rows else rows[:, None])
        return found

    @property
    def _head_takes_rows(self) -> bool:
        """RoBERTa's head takes (B, T, d) and reads the first place; every other one takes what it is given."""
        return not type(self.head).__name__.endswith("ClassificationHead")

    def loss_without_looking(self, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy in nats, by operations that a vectorised call can trace."""
        import torch

        return torch.nn.functional.cross_entropy(self.logits(self.rows(batch)).float(), batch.targets, reduction="none")

    def check(self, batch: Batch) -> None:
        """Compare with the whole model, one example at a time and so without padding. Raises ByroteError."""
        import torch

        with torch.no_grad():
            ours = self.logits(self.rows(batch)).float()
            for row, length in enumerate(batch.attention_mask.sum(1).tolist()):
                whole = self.model(
                    input_ids=batch.input_ids[row : row + 1, :length],
                    attention_mask=batch.attention_mask[row : row + 1, :length],
                ).logits.float()
                worst = float((whole[0] - ours[row]).abs().max())
                if worst > 1e-3 * max(1.0, float(whole.abs().max())):
                    raise ByroteError(
                        f"{type(self.model).__name__}: byrote's class scores differ from the model's own by "
                        f"{worst:.2g}. Please report the model's name."
                    )


ENCODERS = ("bert", "roberta", "distilbert", "electra", "deberta", "deberta-v2", "modernbert", "xlm-roberta", "mpnet")
"""Families that read in both directions and pool their first place."""


def head_of(model: Any) -> nn.Module:
    """The head of a sequence classifier, inside whatever wraps the model. Raises ByroteError where there is none."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in HEADS:
            return module  # type: ignore[no-any-return]
    raise ByroteError(f"{type(model).__name__} has no classification head")
