"""Language modelling: the hidden rows that predict tokens, their logits, and the loss per example."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from byrote.objectives.batching import Batch
from byrote.types import ByroteError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import Cache

TOLERANCE = 1e-3
"""Of the largest logit, in float32; a half-precision head may round its last bit otherwise (2^-7 in bfloat16)."""
HALF_TOLERANCE = 2**-6


class Decoder:
    """A causal language model cut before its head, so that logits exist only where they are wanted.

    The model runs as it always does, PEFT wrappers and virtual tokens included, but its head sees
    a single position per text: a hook takes the rows that would have entered it. `logits` then
    applies the head, and whatever the family does after it, to any subset of those rows.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is None:
            raise ByroteError(f"{type(model).__name__} has no language-model head: byrote needs a causal model")
        self.head: nn.Module = head
        config = model.config
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale: float = getattr(config, "logit_scale", None) or 1.0
        self.scale /= getattr(config, "logits_scaling", None) or 1.0
        self._past: Cache | None = None

    @contextlib.contextmanager
    def _taking_rows(self) -> Iterator[list[torch.Tensor]]:
        taken: list[torch.Tensor] = []

        def take(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            taken.append(inputs[0])
            return (inputs[0][:, -1:].detach(), *inputs[1:])

        hook = self.head.register_forward_pre_hook(take)
        try:
            yield taken
        finally:
            hook.remove()

    def hidden(self, batch: Batch) -> torch.Tensor:
        """(B, T, d): what enters the head at each token of the text; virtual positions are cut off."""
        with self._taking_rows() as taken:
            if self._past is None:
                self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
            else:
                self._continue(batch, copy.deepcopy(self._past))  # the model adds to the one that it is given
        return taken[0][:, -batch.input_ids.shape[1] :]

    def after(self, ids: Sequence[int], device: str | torch.device) -> Decoder:
        """This decoder once it has read `ids`: the texts of its batches are what comes after them.

        The keys and values of `ids` are computed once for all. Not for a model with virtual tokens, which
        would enter again with every batch.
        """
        import torch

        continued = copy.copy(self)
        continued._past = self.next_logits(torch.tensor([list(ids)], dtype=torch.int64, device=device), None)[1]
        return continued

    def _continue(self, batch: Batch, past: Cache) -> None:
        import torch

        past.batch_repeat_interleave(len(batch.input_ids))
        read = batch.attention_mask.new_ones((len(batch.input_ids), past.get_seq_length()))
        mask = torch.cat([read, batch.attention_mask], dim=1)
        self.model(input_ids=batch.input_ids, attention_mask=mask, past_key_values=past, use_cache=True)

    def rows(self, batch: Batch) -> torch.Tensor:
        """(R, d): the hidden rows that predict the batch's R targets, examples one after another."""
        return batch.rows(self.hidden(batch))

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """(R, V) logits of hidden rows (R, d)."""
        logits: torch.Tensor = self.head(rows)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = (logits / self.softcap).tanh() * self.softcap
        return logits

    def next_logits(self, ids: torch.Tensor, cache: Cache | None) -> tuple[torch.Tensor, Cache]:
        """(B, V) logits of what follows `ids` (B, T), none of it padding, and the cache of all that was read.

        Virtual tokens stand before the first text and enter the cache with it. What follows goes to the model inside,
        since PEFT would put them before every piece again.
        """
        import torch
        from peft import PeftModel

        model, before = self.model, 0
        if cache is not None:
            model, before = model.get_base_model() if isinstance(model, PeftModel) else model, cache.get_seq_length()
        mask = torch.ones((len(ids), before + ids.shape[1]), dtype=torch.int64, device=ids.device)
        with self._taking_rows():
            out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        if out.get("past_key_values") is None:
            raise ByroteError(f"{type(model).__name__} keeps no keys and values, so byrote cannot generate from it")
        return out.logits[:, -1].float(), out.past_key_values

    def loss_without_looking(self, batch: Batch) -> torch.Tensor:
        """(B,) what `per_example_loss` gives, without looking at the mask's values: for a vectorised call."""
        import torch

        logits = self.logits(self.hidden(batch)[:, :-1]).float()
        targets = batch.input_ids[:, 1:]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        real = batch.has_target
        return losses.view(real.shape).where(real, 0.0).sum(1) / real.sum(1).clamp(min=1)

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.head.get_parameter("weight").shape[0])

    def check(self, batch: Batch) -> None:
        """Compare the cut model with the whole one on a small batch.

        Raises ByroteError where they differ: a family that does something unknown after its head
        is refused rather than scored wrongly.
        """
        import torch

        with torch.no_grad():
            whole = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            tolerance = tolerance_of(whole)
            whole = batch.rows(whole[:, -batch.input_ids.shape[1] :]).float()
            ours = self.logits(self.rows(batch)).float()
        worst, scale = furthest(whole, ours)
        if worst > tolerance * max(1.0, scale):
            raise ByroteError(
                f"{type(self.model).__name__}: byrote's logits differ from the model's own by {worst:.2g}. "
                "The model changes its logits after the head in a way byrote does not know; please report its name."
            )


def furthest(whole: torch.Tensor, ours: torch.Tensor) -> tuple[float, float]:
    """How far apart two sets of logits lie at most, and the largest finite one.

    An entry that is masked, or not a number, in both is the same in both; in one alone it lies infinitely far.
    """
    if not whole.numel():
        return 0.0, 1.0
    same = (whole == ours) | (whole.isnan() & ours.isnan())
    apart = (whole - ours).abs().nan_to_num(nan=float("inf")).where(~same, 0.0)
    return float(apart.max()), float(whole.abs().where(whole.isfinite(), 0.0).max())


def tolerance_of(values: torch.Tensor) -> float:
    """How far two ways to compute these values may lie apart, as a share of the largest."""
    import torch

    return TOLERANCE if values.dtype == torch.float32 else HALF_TOLERANCE


def loss_of_rows(logits: torch.Tensor, targets: torch.Tensor, owner: torch.Tensor, examples: int) -> torch.Tensor:
    """(B,) mean negative log-likelihood of each example's own targets, in nats.

    `logits` (R, V), `targets` (R,) and `owner` (R,) say which example each row belongs to. The mean
    is over the example's tokens alone: transformers' own `labels=` loss averages over the batch's
    tokens, so that one record's gradient would depend on its neighbours' lengths.
    """
    import torch

    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    total = torch.zeros(examples, dtype=losses.dtype, device=losses.device).index_add(0, owner, losses)
    count = torch.bincount(owner, minlength=examples).clamp(min=1)
    return total / count


class Reader(Protocol):
    """A model cut before its head: what enters the head, and what comes out of it."""

    model: nn.Module
    head: nn.Module

    @property
    def vocabulary(self) -> int:
        """V: how many answers the head scores."""
        ...

    def rows(self, batch: Batch) -> torch.Tensor:
        """(R, d): the rows that predict the batch's targets."""
        ...

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """(R, V)."""
        ...

    def loss_without_looking(self, batch: Batch) -> torch.Tensor:
        """(B,) what `per_example_loss` gives, by operations that a vectorised call can trace."""
        ...

    def check(self, batch: Batch) -> None:
        """Raises ByroteError where the cut model differs from the whole one."""
        ...


def per_example_loss(reader: Reader, batch: Batch) -> torch.Tensor:
    """(B,) mean negative log-likelihood per target of each example, in nats."""
    logits = reader.logits(reader.rows(batch))
    return loss_of_rows(logits, batch.targets, batch.owners, len(batch.input_ids))
