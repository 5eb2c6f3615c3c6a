"""What an attacker may touch: the one scoring pass over a model, and what it generates.

Every attack reads the `TokenStats` that come from here and none touches the model, so a text
costs one forward pass however many attacks there are. The language-model head is applied to a
few rows at a time; the full B x T x V logits never exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from byrote.generation import NO_TOKEN, Prompt, drawing_log_probs, generate
from byrote.gradients import gradient_norms
from byrote.objectives.batching import Example, collate, common_start, encode, out_of_memory, pack
from byrote.objectives.classification import Classifier, encode_labelled
from byrote.objectives.completion import encode_completions, encode_prompts
from byrote.objectives.lm import Decoder, Reader, tolerance_of
from byrote.types import ByroteError, Decoding, Generation, Record, TokenStats, nothing_follows, text_key
from byrote.vocabulary import vocabulary_stats

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

CPU_TOKENS, GPU_TOKENS = 512, 8192
"""Default token budgets of one batch: on a processor larger batches only add padding."""
CPU_LIMIT = 2048
"""On a processor no batch is larger than this: it would take memory and give no speed."""
CHUNK_BYTES = 48 * 2**20
"""Float32 logits that exist at once: rows enough to keep the head's matrix product efficient."""
SWEEP_BYTES = 3 * 2**20
"""Float32 logits that the statistics sweep over at once: few enough to stay in a processor's cache."""
REMEMBERED_BYTES = 2**30
"""Hidden rows that a target keeps at most, for a head that moves over a frozen body."""
GPU_FACTOR = 16
"""A GPU takes so many times larger chunks and sweeps."""


def reader_of(model: nn.Module, objective: str) -> Reader:
    """The model cut before its head, by what its head answers."""
    return Classifier(model) if objective == "classification" else Decoder(model)


class Target:
    """A language model or a classifier as an attacker sees it.

    `max_length` cuts texts exactly as training did; `token_budget` bounds the padded tokens of a
    batch; `objective` says which of a record's tokens count. With `remember` the hidden rows of every
    text are kept, for a model whose body is frozen and whose head moves between passes.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        device: str = "cpu",
        token_budget: int | None = None,
        remember: bool = False,
        objective: str = "lm",
        labels: Sequence[str] = (),
    ) -> None:
        self.decoder = reader_of(model, objective)
        self.objective, self.labels = objective, tuple(labels)
        self.tokenizer, self.max_length, self.device = tokenizer, max_length, device
        if device == "cpu":  # a larger budget is taken in parts of CPU_LIMIT
            self.token_budget = min(token_budget or CPU_TOKENS, CPU_LIMIT)
        else:
            self.token_budget = token_budget or GPU_TOKENS
        self._remembered: dict[Example, torch.Tensor] | None = {} if remember else None
        self._continues: bool | None = None

    @property
    def pad_token_id(self) -> int:
        """Any id would do: padding is masked by attention and never scored."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)

    def encode(self, texts: Sequence[str | Record]) -> list[Example]:
        """Texts as this target reads them. Only of a record can a completion or a label be what is scored.

        Raises ByroteError for a token that the model does not have.
        """
        examples = self._encode(texts)
        known = self.decoder.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        for text, example in zip(texts, examples, strict=False):
            if max(example.ids, default=0) >= known:
                where = (text.where or text.id) if isinstance(text, Record) else repr(text[:40])
                raise ByroteError(
                    f"{where} has token {max(example.ids)}, but the model knows tokens 0 to {known - 1} alone: the "
                    "tokenizer belongs to another model"
                )
        return examples

    def _encode(self, texts: Sequence[str | Record]) -> list[Example]:
        records = [text for text in texts if isinstance(text, Record)]
        if records and self.objective == "completion":
            return encode_completions(self.tokenizer, records, self.max_length)
        if self.objective == "classification":
            return encode_labelled(self.tokenizer, records, self.labels, self.max_length)
        plain = [text.text if isinstance(text, Record) else text for text in texts]
        return encode(self.tokenizer, plain, self.max_length)

    def context_of(self, records: Sequence[Record], separator: str) -> tuple[int, ...]:
        """The tokens of a context for `token_stats`: each record as it is scored, closed by the separator.

        The pieces are tokenised one by one, so that a record has the same tokens in the context, after
        it, and without one. The end of text that closes a completion is left out.
        """
        between = self.tokenizer(separator, add_special_tokens=False)["input_ids"]
        shown = self.encode([record if record.messages is not None else record.text for record in records])
        return tuple(token for one in shown for token in (*one.ids[self._start(one.ids) :], *between))

    def _start(self, ids: Sequence[int]) -> int:
        """How many tokens the tokenizer put before the text."""
        return len(common_start([ids, self.tokenizer("")["input_ids"]]))

    def behind(self, context: Sequence[int], examples: Sequence[Example]) -> list[Example]:
        """The same targets with a context before each text."""
        return [example.after(context, self._start(example.ids)) for example in examples]

    def check(self) -> None:
        """Compare the cut model with the whole one on two short texts of unequal length."""
        texts = ["a b c d e f g h", "one two"]
        label = self.labels[0] if self.labels else None
        probes = [Record(text, text, label=label) for text in texts] if self.objective == "classification" else texts
        examples = [example for example in self.encode(probes) if example.targets]
        self.decoder.model.eval()
        self.decoder.check(collate(examples, self.pad_token_id, self.device))

    def token_stats(
        self,
        texts: Sequence[str | Record],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        context: Sequence[int] = (),
    ) -> list[TokenStats]:
        """Statistics of every target token of every text, in the order given.

        The same text gives the same numbers to 1e-4 whatever its neighbours. A text without a target
        token has empty statistics. `on_progress(done, total)` counts texts. Out of memory halves the
        token budget and goes on. `context` (see `context_of`) is read before every text: the targets
        are the same with it as without.
        """
        import torch

        self.decoder.model.eval()
        examples = self.encode(texts)
        stats: list[TokenStats] = [_empty(example) for example in examples]
        empty = sum(not example.targets for example in examples)
        with torch.inference_mode():
            reader, examples = self._reader(self.behind(context, examples)) if context else (self.decoder, examples)
            found = self._in_batches(
                examples, lambda batch: self._score(reader, batch), lambda done: on_progress(empty + done, len(texts))
            )
        for index, one in found.items():
            stats[index] = one
        return stats

    def likeliest(self, examples: Sequence[Example], count: int) -> list[NDArray[np.int32]]:
        """(T, count) for each example: at each target, the tokens other than it that the model finds likeliest."""
        import torch

        def others(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return logits.scatter(1, targets[:, None], -torch.inf).topk(count, dim=1).indices.int()

        found = self._by_rows(examples, CHUNK_BYTES, others)
        return [found.get(index, np.zeros((0, count), np.int32)) for index in range(len(examples))]

    def chances(
        self, records: Sequence[Record], decoding: Decoding, contexts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """(T,) for each record: the log-probability, in nats, that text drawn in this way has each of its targets after
        those before it. `contexts` as in `generate`. One pass; nothing is generated.
        """
        pairs = zip(contexts, self.encode(records), strict=True)
        examples = [self.behind(context, [example])[0] if context else example for context, example in pairs]
        found = self._by_rows(examples, SWEEP_BYTES, partial(drawing_log_probs, decoding=decoding))
        return [found.get(index, np.zeros(0)) for index in range(len(examples))]

    def _by_rows(
        self, examples: Sequence[Example], size: int, read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> dict[int, NDArray[Any]]:
        """(T, ...) of each example with a target, by its place: what `read` finds in logits (R, V) and targets (R,).

        At most `size` bytes of logits exist at once.
        """
        import torch

        def of_batch(batch: list[Example]) -> list[NDArray[Any]]:
            rows = self.decoder.rows(collate(batch, self.pad_token_id, self.device))
            targets = torch.tensor([token for example in batch for token in example.target_ids], device=rows.device)
            chunk = self._chunk(size)
            places = [slice(first, first + chunk) for first in range(0, len(rows), chunk)]
            found = torch.cat([read(self.decoder.logits(rows[here]).float(), targets[here]) for here in places])
            return np.split(found.cpu().numpy(), np.cumsum([example.targets for example in batch])[:-1])

        self.decoder.model.eval()
        with torch.inference_mode():
            return self._in_batches(examples, of_batch)

    def gradient_norms(self, records: Sequence[Record], contexts: Sequence[Sequence[int]]) -> list[float]:
        """The norm of the gradient of each record's loss in all weights; `contexts` as in `generate`."""
        pairs = zip(contexts, self.encode(records), strict=True)
        examples = [self.behind(context, [example])[0] if context else example for context, example in pairs]
        return gradient_norms(self.decoder, examples, self.pad_token_id, self.device)

    def _in_batches(
        self,
        examples: Sequence[Example],
        read: Callable[[list[Example]], Sequence[T]],
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> dict[int, T]:
        """What `read` finds in each example that has a target, by its place; after out of memory in smaller batches."""
        found: dict[int, T] = {}
        while waiting := [at for at, example in enumerate(examples) if example.targets and at not in found]:
            try:
                for batch in pack([len(examples[at].ids) for at in waiting], self.token_budget):
                    indices = [waiting[position] for position in batch]
                    found |= zip(indices, read([examples[at] for at in indices]), strict=True)
                    on_progress(len(found))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._remembered = None
                longest = max(len(examples[at].ids) for at in waiting if at not in found)
                if self.token_budget <= longest:
                    raise ByroteError(
                        f"out of memory scoring a single text of {longest} tokens: lower max_length"
                    ) from None
                self.token_budget = max(self.token_budget // 2, longest)
        return found

    def generate(
        self,
        records: Sequence[Record],
        decoding: Decoding,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        contexts: Sequence[Sequence[int]] | None = None,
        prefix_tokens: int | None = None,
    ) -> list[Generation]:
        """What the model answers to the prompt of each record, in the order given.

        Prompt and answer together keep to `max_length`, as texts did in training. The same prompt gives the same
        answer in any company; where it is drawn, the prompt's own generator draws it. `contexts` (see `context_of`)
        are read before the prompts, one before each. With `prefix_tokens` the prompts are so many first tokens of the
        texts, as `token_stats` reads them; a text with no more than these has no answer, and a reason.
        """
        assert isinstance(self.decoder, Decoder)
        own = self._prompts(records, prefix_tokens)
        starts = [ids[: self._start(ids)] for ids in own]
        prompts = [
            Prompt((*start, *context, *ids[len(start) :]), self.max_length - len(ids), int(text_key(one.text)[:16], 16))
            for start, context, ids, one in zip(starts, contexts or [()] * len(own), own, records, strict=True)
        ]
        usable = [at for at, prompt in enumerate(prompts) if prompt.ids and prompt.room > 0]
        said = generate(
            self.decoder,
            [prompts[at] for at in usable],
            decoding,
            self.stops,
            device=self.device,
            on_progress=lambda done: on_progress(len(records) - len(usable) + done, len(records)),
        )
        found = [self._unanswered(prompt, prefix_tokens) for prompt in prompts]
        for at, tokens in zip(usable, said, strict=True):
            if tokens[-1] == NO_TOKEN:
                found[at] = Generation("", (), False, "the model's probabilities of the next token are not numbers")
                continue
            ended = tokens[-1] in self.stops
            text = self.tokenizer.decode(list(tokens[:-1] if ended else tokens), skip_special_tokens=True)
            found[at] = Generation(str(text), tokens, ended)
        return found

    def _prompts(self, records: Sequence[Record], prefix_tokens: int | None) -> list[tuple[int, ...]]:
        """The tokens to go on from; none of a text that has no more than `prefix_tokens`."""
        if prefix_tokens is None:
            return encode_prompts(self.tokenizer, records)
        texts = [one.ids for one in encode(self.tokenizer, [record.text for record in records], self.max_length)]
        return [ids[:prefix_tokens] if len(ids) > prefix_tokens else () for ids in texts]

    def longest_answer(self, records: Sequence[Record], decoding: Decoding, prefix_tokens: int | None = None) -> int:
        """Tokens of the longest prompt with its answer, were every answer as long as it may be."""
        prompts = self._prompts(records, prefix_tokens)
        return max((min(len(ids) + decoding.max_new_tokens, self.max_length) for ids in prompts), default=0)

    @property
    def stops(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's end of text, and those that the model's own settings name."""
        own = getattr(self.decoder.model, "generation_config", None)
        named = getattr(own, "eos_token_id", None)
        ids = [self.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
        return frozenset(int(token) for token in ids if token is not None)

    def _unanswered(self, prompt: Prompt, prefix_tokens: int | None) -> Generation:
        if prefix_tokens is not None and not prompt.ids:
            return Generation("", (), False, nothing_follows(prefix_tokens))
        length = self.max_length - prompt.room
        why = f"the prompt has {length} tokens, so max_length {self.max_length} leaves no room for an answer"
        return Generation("", (), False, why if prompt.ids else "the prompt has no token to go on from")

    def _reader(self, examples: list[Example]) -> tuple[Reader, list[Example]]:
        """What reads texts that begin alike, and what it reads of each: their beginning once, where that is exact."""
        scored = [example for example in examples if example.targets]
        if not scored or not isinstance(self.decoder, Decoder) or self._continues is False:
            return self.decoder, examples
        first = common_start([example.ids for example in scored])[: min(example.given for example in scored) - 1]
        if not first:
            return self.decoder, examples
        rest = [example.without(len(first)) if example.targets else example for example in examples]
        try:
            reader = self.decoder.after(first, self.device)
            if self._continues is None:
                self._continues = self._same_rows(reader, examples, rest)
        except (AttributeError, ByroteError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            self._continues = False
        return (reader, rest) if self._continues else (self.decoder, examples)

    def _same_rows(self, reader: Decoder, whole: list[Example], rest: list[Example]) -> bool:
        """Whether the model goes on from its cache as if it had read all; not every family keeps one that does."""
        few = sorted((at for at, example in enumerate(whole) if example.targets), key=lambda at: whole[at].targets)
        pair = {few[0], few[-1]}  # of unequal length, if any are
        plain, found = (
            each.rows(collate([texts[at] for at in pair], self.pad_token_id, self.device))
            for each, texts in ((self.decoder, whole), (reader, rest))
        )
        return bool((plain - found).abs().max() <= tolerance_of(plain) * plain.abs().max())

    def _score(self, reader: Reader, examples: list[Example]) -> list[TokenStats]:
        import torch

        rows = self._rows(reader, examples)
        targets = torch.tensor([token for example in examples for token in example.target_ids], device=rows.device)
        columns = [column.cpu().numpy() for column in self._columns(rows, targets)]
        classes = self._classes(rows, len(examples))
        ends = np.cumsum([example.targets for example in examples])[:-1]
        per_text = zip(*(np.split(column, ends) for column in columns), strict=True)
        return [
            TokenStats(log_prob, mean, std, rank.astype(np.int32), example.truncated_tokens, known)
            for example, (log_prob, mean, std, rank), known in zip(examples, per_text, classes, strict=True)
        ]

    def _classes(self, rows: torch.Tensor, examples: int) -> Sequence[NDArray[np.float32] | None]:
        """(K,) log-probabilities of each example's classes; None where its targets are tokens."""
        import torch

        if self.objective != "classification":
            return [None] * examples
        return list(torch.log_softmax(self.decoder.logits(rows).float(), dim=1).cpu().numpy())

    def _rows(self, reader: Reader, examples: list[Example]) -> torch.Tensor:
        import torch

        if self._remembered is None or reader is not self.decoder:
            return reader.rows(collate(examples, self.pad_token_id, self.device))
        missing = [example for example in examples if example not in self._remembered]
        if missing:
            rows = self.decoder.rows(collate(missing, self.pad_token_id, self.device))
            parts = torch.split(rows, [example.targets for example in missing])
            self._remembered.update({e: part.clone() for e, part in zip(missing, parts, strict=True)})
            if sum(part.nbytes for part in self._remembered.values()) > REMEMBERED_BYTES:
                known = [self._remembered[example] for example in examples]
                self._remembered = None  # too much to keep: from now on the body runs every time
                return torch.cat(known)
        return torch.cat([self._remembered[example] for example in examples])

    def _columns(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(4, R): log_prob, mean, std and rank of every row, from logits that exist a chunk at a time."""
        import torch

        chunk, sweep = self._chunk(CHUNK_BYTES), self._chunk(SWEEP_BYTES)
        # One result and one scratch buffer for all: small results allocated between large chunks
        # would keep the allocator from giving the chunks' memory back.
        columns = torch.empty((4, len(rows)), dtype=torch.float32, device=rows.device)
        scratch = torch.empty((min(sweep, len(rows)), self.decoder.vocabulary), dtype=torch.float32, device=rows.device)
        for first in range(0, len(rows), chunk):
            logits = self.decoder.logits(rows[first : first + chunk]).float()
            for start in range(0, len(logits), sweep):
                here = slice(first + start, first + min(start + sweep, len(logits)))
                vocabulary_stats(logits[start : start + sweep], targets[here], scratch, columns[:, here])
        return columns

    def _chunk(self, size: int) -> int:
        """Rows of float32 logits that take so many bytes."""
        return max(1, (1 if self.device == "cpu" else GPU_FACTOR) * size // (4 * self.decoder.vocabulary))


def _empty(example: Example) -> TokenStats:
    nothing = np.zeros(0, dtype=np.float32)
    return TokenStats(nothing, nothing, nothing, np.zeros(0, dtype=np.int32), example.truncated_tokens)
