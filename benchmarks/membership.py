"""What all default membership attacks cost together, beside a bare forward pass of each distinct text.

    python benchmarks/membership.py [--model builtin:smollm2-135m] [--texts 24] [--repeats 7]

Three arms take turns in the same process, on the same records and the further texts that the attacks ask for:

- bare: forward and head over each distinct text once, the logits thrown away
- together: byrote's pass over each distinct text once, and every attack's scores from it
- each alone: a pass for every attack over the texts that it reads, as tools do that share nothing

The untuned model's statistics are made before: they are shared by all runs of a study. What counts is the ratio of
processor seconds within a repeat; absolute times mean little on a shared machine. SmolLM2-135M, 24 records of 24 to 96
tokens, 7 attacks, one thread, 5 repeats, medians [least, most]:

    together / bare          1.070 [1.034, 1.122]
    each alone / bare        7.391 [6.904, 7.570]
    each alone / together    6.952 [6.153, 7.133]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from byrote.attacks.base import Attack, Background, CalibratedAttack, Evidence, MembershipAttack, score_all
from byrote.data.load import load as load_data
from byrote.models.load import LoadedModel, load, resolve
from byrote.objectives.batching import collate, pack
from byrote.registry import make
from byrote.study.model import ATTACKS
from byrote.target import Target
from byrote.types import Query, Record, TokenStats

PAIRS = [("together", "bare"), ("each alone", "bare"), ("each alone", "together")]


def records_of(loaded: LoadedModel, count: int, low: int, high: int) -> list[Record]:
    """`count` built-in paragraphs of `low` to `high` tokens."""
    fitting = (
        record
        for record in load_data("builtin:aws-docs").records
        if low <= len(loaded.tokenizer(record.text)["input_ids"]) <= high
    )
    return [record for record, _ in zip(fitting, range(count), strict=False)]


class Work:
    """The default attacks on some records, half of which stand for the population."""

    def __init__(self, target: Target, records: Sequence[Record]) -> None:
        half = len(records) // 2
        self.target, self.asked, self.outsiders = target, records[:half], tuple(records[half:])
        self.background = Background(outsiders=self.outsiders)
        self.attacks = [
            a for name in ATTACKS["tokens"] if getattr(a := make("attack", name), "kind", "") == "membership"
        ]
        self.base = self.stats(self.texts(self.attacks))

    def texts(self, attacks: Sequence[Attack]) -> list[Query]:
        """Each distinct text that these attacks read, the population's among them where one reads it."""
        records = list(self.asked)
        records += [one for one in self.outsiders if any("population" in attack.needs for attack in attacks)]
        queries = [Query(record) for record in records]
        queries += [query for a in attacks for record in records for query in a.queries(record, self.background)]
        return list({query.key: query for query in queries}.values())

    def stats(self, queries: Sequence[Query]) -> dict[str, TokenStats]:
        """One pass."""
        assert not any(query.context for query in queries), "a default attack that reads contexts needs another arm"
        found = self.target.token_stats([query.record for query in queries])
        return {query.key: one for query, one in zip(queries, found, strict=True)}

    def score(self, attack: Attack, stats: dict[str, TokenStats]) -> None:
        """Every record's score."""
        assert isinstance(attack, MembershipAttack | CalibratedAttack)
        population = self.outsiders if "population" in attack.needs else ()
        asked, others = ([self.evidence(one, stats) for one in part] for part in (self.asked, population))
        score_all(attack, asked, others)

    def evidence(self, record: Record, stats: dict[str, TokenStats]) -> Evidence:
        key = Query(record).key
        tokens = self.target.encode([record])[0].target_ids
        return Evidence(
            record, stats[key], self.base[key], tokens=np.array(tokens, np.int32), background=self.background,
            answers=stats, base_answers=self.base,
        )  # fmt: skip

    def bare(self) -> None:
        """Forward and head over each distinct text; nothing is kept."""
        import torch

        examples = self.target.encode([query.record for query in self.texts(self.attacks)])
        with torch.inference_mode():
            for indices in pack([len(example.ids) for example in examples], self.target.token_budget):
                batch = collate([examples[at] for at in indices], self.target.pad_token_id, self.target.device)
                model = self.target.decoder.model
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)

    def together(self) -> None:
        """One pass, and every attack."""
        stats = self.stats(self.texts(self.attacks))
        for attack in self.attacks:
            self.score(attack, stats)

    def alone(self) -> None:
        """A pass for every attack."""
        for attack in self.attacks:
            self.score(attack, self.stats(self.texts([attack])))


def seconds(work: Callable[[], None], device: str) -> float:
    """Processor seconds of all threads; on a GPU wall seconds until it is done."""
    if device == "cpu":
        started = time.process_time()
        work()
        return time.process_time() - started
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    loaded = load(resolve(given.model), device=given.device)
    target = Target(loaded.model, loaded.tokenizer, max_length=512, device=given.device)
    work = Work(target, records_of(loaded, 2 * given.texts, 24, 96))
    arms = {"bare": work.bare, "together": work.together, "each alone": work.alone}
    for arm in arms.values():
        arm()
    found: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
    for repeat in range(given.repeats):
        order = list(arms) if repeat % 2 == 0 else list(reversed(arms))
        took = {name: seconds(arms[name], given.device) for name in order}
        for pair in PAIRS:
            found[pair].append(took[pair[0]] / took[pair[1]])
    texts = len(work.texts(work.attacks))
    print(
        f"{given.model} on {given.device}, {given.threads} thread(s), {given.repeats} repeats: "
        f"{len(work.attacks)} attacks on {given.texts} records, {texts} distinct texts of 24 to 96 tokens"
    )
    for (one, other), ratios in found.items():
        print(f"{one} / {other}: {median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")


if __name__ == "__main__":
    main()
