"""A two-layer GPT-2 that copies: an induction head (Olsson et al. 2022, 2209.11895) written by hand.

After a token that stood in the text before, it expects what followed there; of anything else it knows nothing.
Each position's vector has three parts: its token, its place, and (from the first layer) the token before it.
"""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

TOKENS, PLACES = 64, 128
WIDTH = TOKENS + PLACES + TOKENS
TOKEN, PLACE, BEFORE = slice(0, TOKENS), slice(TOKENS, TOKENS + PLACES), slice(TOKENS + PLACES, WIDTH)
SHARP = 3.0
"""Attention of this gain on vectors of length 20 or so takes one position and no other."""


def copying_model() -> GPT2LMHeadModel:
    """The model, for the word tokenizer of the tests."""
    config = GPT2Config(
        vocab_size=TOKENS, n_positions=PLACES, n_embd=WIDTH, n_layer=2, n_head=1, n_inner=1, bos_token_id=0,
        eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".mlp." in name or ".attn." in name or name.endswith("bias"):
                parameter.zero_()
        body = model.transformer
        body.wte.weight.copy_(torch.eye(TOKENS, WIDTH))
        body.wpe.weight.zero_()[:, PLACE] = torch.eye(PLACES)
        ones, shift = torch.eye(TOKENS), torch.diag(torch.ones(PLACES - 1), -1)  # place p asks for p - 1
        first, second = (block.attn for block in body.h)
        _attend(first, PLACE, shift, PLACE, torch.eye(PLACES))
        first.c_attn.weight[TOKEN, 2 * WIDTH :][:, BEFORE] = ones
        _attend(second, TOKEN, ones, BEFORE, ones)
        second.c_attn.weight[TOKEN, 2 * WIDTH :][:, TOKEN] = ones
        for attention in (first, second):
            attention.c_proj.weight.copy_(torch.eye(WIDTH))
        second.c_proj.weight.mul_(4.0)  # what is copied outweighs the token that stands here
    return model


def _attend(attention: torch.nn.Module, asks: slice, query: torch.Tensor, answers: slice, key: torch.Tensor) -> None:
    weight = attention.c_attn.weight  # type: ignore[union-attr]
    size = query.shape[1]
    weight[asks, :WIDTH][:, :size] = SHARP * query
    weight[answers, WIDTH : 2 * WIDTH][:, :size] = key
