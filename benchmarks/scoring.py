"""What the shared scoring pass costs beside a bare forward pass, as paired ratios in one run.

    python benchmarks/scoring.py [--model builtin:smollm2-135m] [--texts 24] [--repeats 7]

Two arms take turns on the same batches in the same process: the bare model (forward and head, its
logits thrown away) and byrote's pass with all five attacks. What counts is the ratio of each pair,
in processor seconds; absolute times mean little on a shared machine. Memory is the peak of a
process that only loads the model and the texts, and of one that also scores them with a budget of
8,192 tokens a batch, of which a processor takes `target.CPU_LIMIT` at a time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from byrote.attacks.base import Evidence, MembershipAttack, score_all
from byrote.data.load import load as load_data
from byrote.models.load import LoadedModel, load, resolve
from byrote.objectives.batching import collate, pack
from byrote.registry import make
from byrote.target import Target
from byrote.training.cost import PeakMemory
from byrote.types import Record

ATTACKS = ("loss", "reference", "zlib", "min-k", "min-k++")
MEMORY_TOKENS = 8192


def texts_of(loaded: LoadedModel, count: int, low: int, high: int) -> list[Record]:
    """`count` built-in paragraphs of `low` to `high` tokens."""
    found = []
    for record in load_data("builtin:aws-docs").records:
        if low <= len(loaded.tokenizer(record.text)["input_ids"]) <= high:
            found.append(record)
        if len(found) == count:
            break
    return found


def bare(target: Target, records: list[Record]) -> None:
    """Forward and head over the batches that the shared pass uses; nothing is kept."""
    import torch

    examples = target.encode([record.text for record in records])
    with torch.inference_mode():
        for indices in pack([len(example.ids) for example in examples], target.token_budget):
            batch = collate([examples[index] for index in indices], target.pad_token_id, target.device)
            target.decoder.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)


def five_attacks(target: Target, records: list[Record], base: dict[str, object]) -> None:
    """One shared pass, and every attack's score of every record."""
    stats = target.token_stats([record.text for record in records])
    before = base.setdefault("stats", stats)
    evidence = [Evidence(*three) for three in zip(records, stats, before, strict=True)]  # type: ignore[arg-type, call-overload]
    for name in ATTACKS:
        attack = make("attack", name)
        assert isinstance(attack, MembershipAttack)
        score_all(attack, evidence)


def cpu_seconds(work: Callable[[], None]) -> float:
    """Processor seconds of all threads; what other processes take does not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def speed(reference: str, device: str, count: int, repeats: int, threads: int) -> None:
    """Print the paired ratios."""
    import torch

    torch.set_num_threads(threads)
    loaded = load(resolve(reference), device=device)
    records = texts_of(loaded, count, 24, 96)
    target = Target(loaded.model, loaded.tokenizer, max_length=512, device=device)
    base: dict[str, object] = {}
    clock = cpu_seconds if device == "cpu" else cuda_seconds
    arms: dict[str, Callable[[], None]] = {
        "bare": lambda: bare(target, records),
        "five attacks": lambda: five_attacks(target, records, base),
    }
    for work in arms.values():
        work()
    ratios = []
    for repeat in range(repeats):
        order = list(arms) if repeat % 2 == 0 else list(reversed(arms))
        seconds = {name: clock(arms[name]) for name in order}
        ratios.append(seconds["five attacks"] / seconds["bare"])
    print(f"{reference} on {device}, {len(records)} texts of 24 to 96 tokens, {threads} thread(s), {repeats} pairs")
    print(f"five attacks / bare forward and head: {median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")


def cuda_seconds(work: Callable[[], None]) -> float:
    """Wall seconds until the GPU is done."""
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def memory_arm(reference: str, device: str, scores: bool) -> None:
    """In a process of its own: load the model and the texts, perhaps score, print the peak in bytes."""
    peak = PeakMemory(device)
    loaded = load(resolve(reference), device=device)
    # Weights come memory-mapped: only what was read once is resident.
    sum(float(parameter.detach().sum()) for parameter in loaded.model.parameters())
    # Stand for long records: windows of 183 tokens, the mean of the published comparison.
    text = " ".join(record.text for record in texts_of(loaded, 60, 24, 96))
    ids = loaded.tokenizer(text)["input_ids"]
    texts = [loaded.tokenizer.decode(ids[start : start + 183]) for start in range(0, len(ids) - 183, 40)][:44]
    if scores:
        Target(loaded.model, loaded.tokenizer, max_length=512, device=device, token_budget=MEMORY_TOKENS).token_stats(
            texts
        )
    print(peak.read())


def memory(reference: str, device: str) -> None:
    """Print the peak of scoring over the peak of loading."""
    peaks = []
    for arm in ("load", "score"):
        command = [sys.executable, __file__, "--model", reference, "--device", device, "--memory-arm", arm]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    print(
        f"peak memory with a budget of {MEMORY_TOKENS} tokens / of loading alone: {peaks[1] / peaks[0]:.3f} "
        f"({peaks[1] / 2**20:.0f} MiB / {peaks[0] / 2**20:.0f} MiB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-arm", choices=("load", "score"))
    arguments = parser.parse_args()
    if arguments.memory_arm:
        memory_arm(arguments.model, arguments.device, arguments.memory_arm == "score")
        return
    speed(arguments.model, arguments.device, arguments.texts, arguments.repeats, arguments.threads)
    memory(arguments.model, arguments.device)


if __name__ == "__main__":
    main()
