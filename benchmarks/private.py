"""What a private training step costs beside a plain one, as paired ratios in one run.

    python benchmarks/private.py [--model small|builtin:smollm2-135m] [--method lora|lora-all|full|prompt-tuning]
                                 [--batch 16] [--repeats 7] [--threads 1] [--arms plain,bookkeeping,...] [--memory]

All arms take turns on the same batch in the same process and do a whole optimiser step: gradients, clipping, noise
where there is any, AdamW. `plain` is byrote's ordinary step with gradient clipping. `no-noise` is bookkeeping with a
noise multiplier of zero. `opacus-hooks` and `opacus-ghost` are Opacus' own engines with its optimiser, over the model
as PEFT and transformers give it. What counts is the ratio of each pair, in processor seconds; absolute times mean
little on a shared machine. `--memory` runs each arm in a process of its own and prints the peak over the loaded model.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from byrote.methods.base import Method
from byrote.models.load import load, resolve
from byrote.objectives.batching import Example, collate
from byrote.objectives.lm import Decoder
from byrote.registry import make
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.cost import PeakMemory
from byrote.training.loop import Plan, Training
from byrote.training.losses import example_loss
from byrote.training.per_example import Clipping, Engine, Loop
from byrote.training.private import Guarantee, Privatiser
from byrote.training.sampling import SystemRandomness
from byrote.training.state import trainable
from byrote.training.vmap import VMap

METHODS: dict[str, Any] = {
    "lora": "lora",
    "lora-all": {"name": "lora", "target_modules": "all-linear"},
    "full": "full",
    "head": "head",
    "prompt-tuning": "prompt-tuning",
    "prefix-tuning": "prefix-tuning",
}
ENGINES: dict[str, type[Engine]] = {"bookkeeping": Bookkeeping, "no-noise": Bookkeeping, "vmap": VMap, "loop": Loop}
ARMS = ("plain", "bookkeeping", "no-noise", "vmap", "loop", "opacus-hooks", "opacus-ghost")
NOISE, CLIP = 0.7, 0.1

Step = Callable[[], None]


def small_llama() -> Any:
    """17.8 M random parameters: 8 layers of width 384, 4,096 words, untied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6,
            num_key_value_heads=6, tie_word_embeddings=False, max_position_embeddings=512,
        )
    )  # fmt: skip


def model_of(reference: str, method: str) -> Any:
    """A fresh model with the method on it."""
    model = small_llama() if reference == "small" else load(resolve(reference)).model
    chosen = make("method", METHODS[method])
    assert isinstance(chosen, Method)
    return chosen.attach(model).model


def examples_of(vocabulary: int, batch: int, low: int, high: int) -> list[Example]:
    """Random texts of `low` to `high` tokens; ids decide nothing about speed."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.linspace(low, high, batch).round().int().tolist()
    return [Example(tuple(torch.randint(1, vocabulary, (n,), generator=generator).tolist())) for n in lengths]


def our_step(arm: str, model: Any, examples: list[Example]) -> Step:
    """A whole step of byrote's own loop."""
    loss = example_loss(Decoder(model), examples, 0, "cpu")
    lengths, units = [len(e.ids) for e in examples], [[index] for index in range(len(examples))]
    plan = Plan(10**6, len(examples), 1e-4, 0.0, "constant", 0.0, 1.0, 0)
    private = None
    if arm != "plain":
        noise = 0.0 if arm == "no-noise" else NOISE
        guarantee = Guarantee(noise, Clipping(CLIP), len(units), len(units), 10**6, 1, 1e-5, claimed=False)
        private = Privatiser(guarantee, ENGINES[arm](loss, trainable(model)), units, SystemRandomness())
    training = Training(model, loss, lengths, plan, private=private)
    training.position.step = 1  # the first step also looks whether every weight moved
    return lambda: training._step(units, 0)


def opacus_step(arm: str, model: Any, examples: list[Example]) -> Step:
    """A whole step of Opacus 1.6, as its own tutorials put it together."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping

    ghost = arm == "opacus-ghost"
    wrap = GradSampleModuleFastGradientClipping if ghost else GradSampleModule
    optimizer_of = DPOptimizerFastGradientClipping if ghost else DPOptimizer
    extra = {"max_grad_norm": CLIP, "use_ghost_clipping": True} if ghost else {}
    model.train()
    wrapped = wrap(model, batch_first=True, loss_reduction="sum", **extra)
    inner = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    optimizer = optimizer_of(
        inner, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=len(examples), loss_reduction="sum"
    )
    batch = collate(examples, 0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = wrapped(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        shifted, targets = logits[:, -batch.input_ids.shape[1] : -1].float(), batch.input_ids[:, 1:]
        losses = torch.nn.functional.cross_entropy(shifted.flatten(0, 1), targets.flatten(), reduction="none")
        real = batch.has_target
        losses = losses.view(real.shape).where(real, 0.0).sum(1) / real.sum(1)
        if ghost:
            losses.sum().backward(retain_graph=True)
            optimizer.zero_grad(set_to_none=True)
            factors = wrapped.get_clipping_coef()
            wrapped.disable_hooks()
            (factors * losses).sum().backward()
            wrapped.enable_hooks()
        else:
            losses.sum().backward()
        optimizer.step()

    return step


def step_of(arm: str, reference: str, method: str, examples: list[Example] | None, batch: int, span: Any) -> Step:
    """A step of one arm over a model of its own."""
    model = model_of(reference, method)
    examples = examples or examples_of(model.config.vocab_size, batch, *span)
    return opacus_step(arm, model, examples) if arm.startswith("opacus") else our_step(arm, model, examples)


def speed(options: argparse.Namespace, arms: list[str]) -> None:
    """Print the paired ratios."""
    steps: dict[str, Step] = {}
    for arm in arms:
        step = step_of(arm, options.model, options.method, None, options.batch, (options.low, options.high))
        try:
            step()
            step()
        except Exception as error:
            print(f"{arm}: {type(error).__name__}: {str(error)[:120]}")
            continue
        steps[arm] = step
    ratios: dict[str, list[float]] = {arm: [] for arm in steps}
    for repeat in range(options.repeats):
        order = list(steps) if repeat % 2 == 0 else list(reversed(steps))
        seconds = {}
        for arm in order:
            started = time.process_time()
            steps[arm]()
            seconds[arm] = time.process_time() - started
        for arm in steps:
            ratios[arm].append(seconds[arm] / seconds["plain"])
    place = f"{options.model}, {options.method}, batch {options.batch} of {options.low} to {options.high} tokens"
    print(f"{place}, {options.threads} thread(s), {options.repeats} pairs")
    for arm, values in ratios.items():
        print(f"  {arm:14} / plain: {median(values):.3f} [{min(values):.3f}, {max(values):.3f}]")


def memory_arm(options: argparse.Namespace, arm: str) -> None:
    """In a process of its own: the peak with the model loaded and AdamW made, and after three steps, in bytes."""
    model = model_of(options.model, options.method)
    sum(float(parameter.detach().sum()) for parameter in model.parameters())  # memory-mapped weights become resident
    examples = examples_of(model.config.vocab_size, options.batch, options.low, options.high)
    loaded = PeakMemory("cpu").read()
    step = opacus_step(arm, model, examples) if arm.startswith("opacus") else our_step(arm, model, examples)
    peak = PeakMemory("cpu")
    for _ in range(3):
        step()
    print(loaded, peak.read())


def memory(options: argparse.Namespace, arms: list[str]) -> None:
    """Print each arm's peak, and its growth over the loaded model, beside the plain step's."""
    found = {}
    for arm in arms:
        words = [sys.executable, __file__, *sys.argv[1:], "--only", arm]
        answer = subprocess.run(words, capture_output=True, text=True)
        if answer.returncode:
            print(f"  {arm}: {answer.stderr.strip().splitlines()[-1][:120]}")
            continue
        loaded, peak = map(int, answer.stdout.split()[-2:])
        found[arm] = (peak, peak - loaded)
    for arm, (peak, growth) in found.items():
        whole, more = peak / found["plain"][0], growth / found["plain"][1]
        print(
            f"  {arm:14} peak {peak / 2**20:6.0f} MiB ({whole:.3f} x plain), growth {growth / 2**20:6.0f} ({more:.3f})"
        )


def main() -> None:
    """Parse and run."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--method", default="lora-all", choices=METHODS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--low", type=int, default=48)
    parser.add_argument("--high", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    arms = options.arms.split(",")
    if options.only:
        memory_arm(options, options.only)
    elif options.memory:
        memory(options, arms)
    else:
        speed(options, arms)


if __name__ == "__main__":
    main()
