"""The per-example loss of a batch of training examples, by whichever way is cheapest and exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from byrote.objectives.batching import Example, collate, pack
from byrote.objectives.lm import Reader, loss_of_rows, per_example_loss

if TYPE_CHECKING:
    import torch

FEATURE_BYTES = 2**30
FEATURE_BATCH_TOKENS = 1024


class ExampleLoss(Protocol):
    """(B,) mean loss per target token of the examples with these indices, in nats."""

    decoder: Reader
    examples: Sequence[Example]
    pad_token_id: int
    device: str
    training: bool
    """Whether dropout is on."""

    def __call__(self, indices: Sequence[int]) -> torch.Tensor:
        """The losses, with their graph."""
        ...


class TextLoss:
    """Runs the whole model, in training mode."""

    def __init__(self, decoder: Reader, examples: Sequence[Example], pad_token_id: int, device: str) -> None:
        self.decoder, self.examples, self.pad_token_id, self.device = decoder, examples, pad_token_id, device
        self.training = True

    def __call__(self, indices: Sequence[int]) -> torch.Tensor:
        """(B,) losses of these examples."""
        self.decoder.model.train(self.training)
        batch = collate([self.examples[index] for index in indices], self.pad_token_id, self.device)
        return per_example_loss(self.decoder, batch)


class HeadLoss:
    """Runs only the head, on rows that the frozen body made once.

    Exact while nothing below the head trains. The body's dropout, if it has any, is off: with
    dropout no two passes would give the same rows.
    """

    def __init__(self, decoder: Reader, examples: Sequence[Example], pad_token_id: int, device: str) -> None:
        import torch

        self.decoder, self.examples, self.pad_token_id, self.device = decoder, examples, pad_token_id, device
        self.training = True
        self.rows: list[torch.Tensor] = [torch.empty(0)] * len(examples)
        self.targets = [torch.tensor(example.target_ids, dtype=torch.int64, device=device) for example in examples]
        decoder.model.eval()
        for indices in pack([len(example.ids) for example in examples], FEATURE_BATCH_TOKENS):
            batch = collate([examples[index] for index in indices], pad_token_id, device)
            with torch.no_grad():
                rows = decoder.rows(batch)
            parts = torch.split(rows, [examples[index].targets for index in indices])
            for index, part in zip(indices, parts, strict=True):
                self.rows[index] = part.clone()

    def __call__(self, indices: Sequence[int]) -> torch.Tensor:
        """(B,) losses of these examples."""
        import torch

        rows = torch.cat([self.rows[index] for index in indices])
        targets = torch.cat([self.targets[index] for index in indices])
        counts = torch.tensor([len(self.targets[index]) for index in indices], device=rows.device)
        owner = torch.repeat_interleave(torch.arange(len(indices), device=rows.device), counts)
        return loss_of_rows(self.decoder.logits(rows), targets, owner, len(indices))


def only_the_head_trains(decoder: Reader) -> bool:
    """Whether every trainable parameter belongs to the language-model head."""
    head = {id(parameter) for parameter in decoder.head.parameters()}
    return all(id(parameter) in head for parameter in decoder.model.parameters() if parameter.requires_grad)


def example_loss(decoder: Reader, examples: Sequence[Example], pad_token_id: int, device: str) -> ExampleLoss:
    """HeadLoss where it is exact and its rows fit in a gibibyte, else TextLoss."""
    width = decoder.model.config.get_text_config().hidden_size if only_the_head_trains(decoder) else 0  # type: ignore[union-attr, operator]
    rows = sum(example.targets for example in examples)
    if width and rows * width * 4 <= FEATURE_BYTES:
        return HeadLoss(decoder, examples, pad_token_id, device)
    return TextLoss(decoder, examples, pad_token_id, device)
