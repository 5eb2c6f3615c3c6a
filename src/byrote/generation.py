"""What a model goes on with after a prompt: greedily or drawn, many prompts at once, each as if it were alone.

No batch is padded. All prompts of a batch are read up to the length of the shortest; then all go on token by token,
each with its own prompt's next token while it has one and with a generated one after that. So every row has its
tokens at the places, and only the neighbours, that it would have alone, whatever the model makes of positions, masks
and windows: transformers' left padding shifts the places of PEFT's virtual tokens, which drop `position_ids`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from byrote.objectives.batching import out_of_memory, pack
from byrote.objectives.lm import TOLERANCE, Decoder, furthest
from byrote.types import ByroteError, Decoding

if TYPE_CHECKING:
    import torch

CPU_TOKENS, GPU_TOKENS = 4096, 65536
"""Tokens of a batch, prompts and what may follow: they bound the keys and values that are kept."""
PROBED = 8
"""Tokens of one prompt that are read one by one, to see that the model's cache is exact."""
NO_TOKEN = -1
"""Stands at the end of an answer where the model gives no probabilities to choose a token by."""
HALF_TOLERANCE = 2**-4
"""Of the largest logit in bfloat16: SmolLM2-135M differs by 2% from itself, since its sums run in another order."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids to go on from (at least one), how many tokens may follow (at least one), and the seed of its draws."""

    ids: tuple[int, ...]
    room: int
    seed: int = 0


def generate(
    decoder: Decoder,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    stops: Collection[int],
    *,
    device: str = "cpu",
    token_budget: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[int, ...]]:
    """The tokens that follow each prompt: up to `decoding.max_new_tokens` and its room, or up to a stop token,
    which is the last one then; NO_TOKEN stops likewise.

    The same prompt gives the same tokens in any company, save where two are as likely to rounding. Out of memory
    halves the batches and goes on.
    """
    import torch

    decoder.model.eval()
    budget = token_budget or (CPU_TOKENS if device == "cpu" else GPU_TOKENS)
    lengths = [len(prompt.ids) + min(prompt.room, decoding.max_new_tokens) for prompt in prompts]
    found: dict[int, tuple[int, ...]] = {}
    with torch.inference_mode():
        if prompts:
            _check_cache(decoder, max((prompt.ids for prompt in prompts), key=len), device)
        while waiting := [index for index in range(len(prompts)) if index not in found]:
            batch = [waiting[position] for position in pack([lengths[index] for index in waiting], budget)[0]]
            try:
                said = _together(decoder, [prompts[index] for index in batch], decoding, stops, device)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                longest = lengths[batch[0]]
                if len(batch) == 1:
                    raise ByroteError(
                        f"out of memory generating up to {longest} tokens for a single prompt: lower max_new_tokens"
                    ) from None
                budget = len(batch) // 2 * longest
                continue
            found |= zip(batch, said, strict=True)
            on_progress(len(found))
    return [found[index] for index in range(len(prompts))]


def _together(
    decoder: Decoder, prompts: Sequence[Prompt], decoding: Decoding, stops: Collection[int], device: str
) -> list[tuple[int, ...]]:
    """One batch, in the order given."""
    import torch

    texts = [list(prompt.ids) for prompt in prompts]
    draws = [np.random.default_rng([decoding.seed, prompt.seed]) for prompt in prompts]
    rows, place = list(range(len(prompts))), min(map(len, texts))
    read, cache = [text[:place] for text in texts], None
    while True:
        logits, cache = decoder.next_logits(torch.tensor(read, device=device), cache)
        choosing = [at for at, row in enumerate(rows) if len(texts[row]) == place]  # the others' prompts go on
        chosen = choose(logits[choosing], decoding, [draws[rows[at]] for at in choosing]) if choosing else []
        ended = set()
        for at, token in zip(choosing, chosen, strict=True):
            prompt, text = prompts[rows[at]], texts[rows[at]]
            text.append(token)
            most = min(prompt.room, decoding.max_new_tokens)
            if token in stops or token == NO_TOKEN or len(text) - len(prompt.ids) == most:
                ended.add(at)
        if len(ended) == len(rows):
            return [tuple(text[len(prompt.ids) :]) for prompt, text in zip(prompts, texts, strict=True)]
        if ended:
            going = [at for at in range(len(rows)) if at not in ended]
            cache.batch_select_indices(torch.tensor(going, device=device))
            rows = [rows[at] for at in going]
        read, place = [[texts[row][place]] for row in rows], place + 1


def choose(logits: torch.Tensor, decoding: Decoding, draws: Iterable[np.random.Generator]) -> list[int]:
    """One token for each row of logits (B, V): the likeliest, or the one that a number from its own generator draws;
    NO_TOKEN where a logit is not a number, or none is above minus infinity.
    """
    top = logits.amax(1)  # a NaN where there is one
    usable = top.isfinite().tolist()
    logits = logits.where(top.isfinite()[:, None], 0.0)
    chosen = logits.argmax(1).tolist() if not decoding.do_sample else _drawn(logits, decoding, draws)
    return [int(token) if able else NO_TOKEN for token, able in zip(chosen, usable, strict=True)]


def drawing_log_probs(logits: torch.Tensor, targets: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """(R,) in nats: how likely each target token (R,) is to be drawn from its row of logits (R, V).

    Minus infinity for a token that this way of drawing leaves out.
    """
    if decoding.top_k is None and decoding.top_p == 1.0:
        return (logits.double() / decoding.temperature).log_softmax(1).gather(1, targets[:, None])[:, 0]
    likely, order = _to_draw_from(logits, decoding)
    places = (order == targets[:, None]).int().argmax(1, keepdim=True)
    return (likely.gather(1, places)[:, 0] / likely.sum(1)).log()


def _to_draw_from(logits: torch.Tensor, decoding: Decoding) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, V) probabilities, highest first and 0 where a token is left out, up to a factor; and (B, V) the tokens."""
    likely, order = (logits.double() / decoding.temperature).softmax(1).sort(dim=1, descending=True, stable=True)
    if decoding.top_k is not None:
        likely[:, decoding.top_k :] = 0.0
        likely /= likely.sum(1, keepdim=True)
    reached = likely.cumsum(1)
    return likely.where(reached - likely < decoding.top_p, 0.0), order  # those before it do not reach top_p


def _drawn(logits: torch.Tensor, decoding: Decoding, draws: Iterable[np.random.Generator]) -> list[int]:
    import torch

    likely, order = _to_draw_from(logits, decoding)
    reached = likely.cumsum(1)
    numbers = torch.tensor([[draw.random()] for draw in draws], dtype=reached.dtype, device=reached.device)
    # The first token whose cumulative probability exceeds the number; a token of probability 0 never does so first.
    places = torch.searchsorted(reached, numbers * reached[:, -1:], right=True)
    last = (likely > 0).sum(1, keepdim=True) - 1
    found: list[int] = order.gather(1, places.minimum(last))[:, 0].tolist()
    return found


def _check_cache(decoder: Decoder, ids: tuple[int, ...], device: str) -> None:
    """Read the end of one prompt token by token, and all of it at once. Raises ByroteError where the two differ."""
    import torch

    text = torch.tensor([ids if len(ids) > 1 else ids * 2], device=device)
    start = max(1, text.shape[1] - PROBED)
    logits, cache = decoder.next_logits(text[:, :start], None)
    for place in range(start, text.shape[1]):
        logits, cache = decoder.next_logits(text[:, place : place + 1], cache)
    whole, _ = decoder.next_logits(text, None)
    (worst, scale), half = furthest(whole, logits), next(decoder.model.parameters()).dtype != torch.float32
    if worst > (HALF_TOLERANCE if half else TOLERANCE) * max(1.0, scale):
        raise ByroteError(
            f"{type(decoder.model).__name__}: its logits with a cache differ from those without by {worst:.2g}, so "
            "generated text would not be its own. Please report the model's name and the method."
        )
