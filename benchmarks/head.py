"""What tuning the head costs when the frozen body runs once, beside running it every epoch: paired ratios of one run.

    python benchmarks/head.py [--cases lm,labels,...] [--examples 160] [--batch 16] [--epochs 3] [--repeats 7]
    python benchmarks/head.py --cases lm:builtin:smollm2-135m --examples 48 --repeats 5

A case is `lm` or `labels` (eight classes), and after a colon the model: a reference as a study has it, `llama` (8
layers of width 384, 4,096 words), `llama-1024` (the same with 1,024 words) or `bert` (4 layers of width 128), which are
random. Both arms take turns in the same process and do a whole training from the same head: the rows of the body where
they are kept, then every step of byrote's own loop, with clipping and AdamW. Both must end with the same head. What
counts is the ratio of each pair, in processor seconds. Dropout is off: rows that are kept cannot have it.

`floor` is what the matrix products alone allow: with B weights in the body and H in the head, E epochs cost
(B + 2EH) / (EB + 2EH), forward and backward of a head counting twice. For 3 epochs that is 0.40 or less only where the
body has 18 times the weights of the head: any classifier, a language model of 7 B parameters (48 times), but no small
one with a full vocabulary, whose head is as dear as its body.

Medians [least, most] on a shared 2-core machine, one thread, 160 texts of 48 to 80 tokens (SmolLM2: 48), 3 epochs:

    case                  cached / recomputed    floor
    labels:builtin:tiny   0.336 [0.335, 0.349]   0.333
    labels:bert           0.349 [0.330, 0.373]   0.333
    lm:llama-1024         0.364 [0.345, 0.393]   0.368
    lm:builtin:tiny       0.711 [0.551, 0.762]   0.701
"""

from __future__ import annotations

import argparse
import time
import warnings
from statistics import median
from typing import Any

import torch

from byrote.methods.head import Head
from byrote.models.load import load, resolve
from byrote.objectives.batching import Example
from byrote.target import reader_of
from byrote.training.loop import Plan, Training
from byrote.training.losses import HeadLoss, TextLoss

ARMS: dict[str, type[HeadLoss] | type[TextLoss]] = {"cached": HeadLoss, "recomputed": TextLoss}
CASES = "labels:builtin:tiny,labels:bert,lm:llama-1024,lm:llama,lm:builtin:tiny"
CLASSES = 8


def llama(words: int) -> Any:
    """8 layers of width 384, 14 M random parameters beside its embedding and its head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6,
            num_key_value_heads=6, tie_word_embeddings=False, max_position_embeddings=512,
        )
    )  # fmt: skip


def bert() -> Any:
    """4 layers of width 128, without dropout: both arms shall train the same head."""
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=4096, hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=CLASSES,
        )
    )  # fmt: skip


def model_of(reference: str, labels: bool) -> Any:
    """A model with nothing but its head trainable."""
    torch.manual_seed(0)
    if reference == "bert":
        model = bert()
    elif reference.startswith("llama"):
        model = llama(int(reference.partition("-")[2] or 4096))
    else:
        classes = [str(number) for number in range(CLASSES)] if labels else []
        model = load(resolve(reference), labels=classes).model
    return Head().attach(model).model


def examples_of(vocabulary: int, count: int, labels: bool) -> list[Example]:
    """Random texts of 48 to 80 tokens; ids decide nothing about speed."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(48, 81, (count,), generator=generator).tolist()
    return [
        Example(
            tuple(torch.randint(1, vocabulary, (length,), generator=generator).tolist()),
            label=at % CLASSES if labels else None,
        )
        for at, length in enumerate(lengths)
    ]


class Case:
    """One model and one set of texts, tuned again and again from the same head."""

    def __init__(self, words: str, options: argparse.Namespace) -> None:
        kind, _, reference = words.partition(":")
        self.objective = {"lm": "lm", "labels": "classification"}[kind]
        self.model = model_of(reference, kind == "labels")
        self.reader = reader_of(self.model, self.objective)
        self.examples = examples_of(self.model.config.vocab_size, options.examples, kind == "labels")
        self.plan = Plan(options.epochs, options.batch, 1e-3, 0.0, "constant", 0.0, 1.0, 0)
        self.start = {name: value.clone() for name, value in self.reader.head.state_dict().items()}

    def seconds(self, arm: str) -> float:
        """Processor seconds of a whole training."""
        self.reader.head.load_state_dict(self.start)
        started = time.process_time()
        loss = ARMS[arm](self.reader, self.examples, 0, "cpu")
        for _ in Training(self.model, loss, [len(example.ids) for example in self.examples], self.plan).run():
            pass
        return time.process_time() - started

    def check(self) -> None:
        """Both arms end with the same head. Warms them up, too."""
        ends = []
        for arm in ARMS:
            self.seconds(arm)
            ends.append(torch.cat([value.flatten() for value in self.reader.head.state_dict().values()]))
        torch.testing.assert_close(*ends, atol=1e-4, rtol=1e-3)

    def floor(self) -> float:
        """What the matrix products alone allow, from the numbers of weights."""
        head = sum(parameter.numel() for parameter in self.reader.head.parameters())
        tables = {id(module.weight) for module in self.model.modules() if isinstance(module, torch.nn.Embedding)}
        counted = [p.numel() for p in self.model.parameters() if p.ndim > 1 and id(p) not in tables]
        per_text = sum(counted) - head  # an embedding is looked up
        if self.objective == "classification":  # one row a text enters the head
            head = 0
        epochs = self.plan.epochs
        return (per_text + 2 * epochs * head) / (epochs * per_text + 2 * epochs * head)


def main() -> None:
    """Parse and run."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--examples", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.examples} texts, batch {options.batch}, {options.epochs} epochs, {options.threads} thread(s)")
    for words in options.cases.split(","):
        case = Case(words, options)
        case.check()
        ratios = []
        for repeat in range(options.repeats):
            order = list(ARMS) if repeat % 2 == 0 else list(reversed(ARMS))
            seconds = {arm: case.seconds(arm) for arm in order}
            ratios.append(seconds["cached"] / seconds["recomputed"])
        found = f"{median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
        print(f"  {words:26} cached / recomputed: {found}, floor {case.floor():.3f}", flush=True)


if __name__ == "__main__":
    main()
