"""What greedy extraction costs by one pass over the true text, beside writing the text and comparing.

    python benchmarks/extraction.py [--model builtin:smollm2-135m] [--texts 8] [--tokens 50] [--repeats 5]

Three arms take turns in the same process, on the same records, and must find the same of each record:

- one pass: the statistics of every token in one pass, as the attacks of a study share them, and k-extractable from them
- batched: byrote writes on from the first half of each record, many at once, and the tokens are compared
- one by one: the same for one record at a time

Half of the records are made to be extractable: their second half is what the model itself writes. What counts is the
ratio of processor seconds within a repeat. SmolLM2-135M, 8 records of 50 + 50 tokens, one thread, 5 repeats, medians
[least, most]:

    one pass / one by one   0.100 [0.095, 0.104]
    one pass / batched      0.433 [0.415, 0.456]
    batched / one by one    0.228 [0.214, 0.243]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import measure_all
from byrote.attacks.extraction.k_extractable import KExtractable
from byrote.data.load import load as load_data
from byrote.models.load import load, resolve
from byrote.objectives.batching import encode
from byrote.target import Target
from byrote.types import Decoding, Record

PAIRS = [("one pass", "one by one"), ("one pass", "batched"), ("batched", "one by one")]


class Work:
    """Records of twice so many tokens, of which every other one is as the model writes it."""

    def __init__(self, target: Target, count: int, tokens: int) -> None:
        self.target, self.half = target, tokens
        self.records: list[Record] = []
        for record in load_data("builtin:aws-docs").records:
            ids = encode(target.tokenizer, [record.text], 2 * tokens)[0].ids
            if len(ids) < 2 * tokens or self._text(ids) is None:
                continue
            if len(self.records) % 2:
                said = target.generate([record], Decoding(tokens), prefix_tokens=tokens)[0].tokens
                ids = (*ids[:tokens], *said)
            text = self._text(ids)
            if text is not None and len(ids) == 2 * tokens:
                self.records.append(Record(record.id, text))
            if len(self.records) == count:
                break

    def _text(self, ids: tuple[int, ...]) -> str | None:
        """The text of these tokens; None where it reads back as others."""
        text = self.target.tokenizer.decode(list(ids))
        return text if encode(self.target.tokenizer, [text], len(ids) + 1)[0].ids == ids else None

    def one_pass(self) -> list[bool]:
        measure = KExtractable(prefix_tokens=self.half, suffix_tokens=self.half)
        stats = self.target.token_stats(self.records)
        evidence = [Evidence(record, one) for record, one in zip(self.records, stats, strict=True)]
        return [found == (1.0,) for found in measure_all(measure, evidence, ())]

    def _written(self, records: list[Record]) -> list[bool]:
        said = self.target.generate(records, Decoding(self.half), prefix_tokens=self.half)
        truth = encode(self.target.tokenizer, [record.text for record in records], 2 * self.half)
        return [one.tokens == true.ids[self.half :] for one, true in zip(said, truth, strict=True)]

    def batched(self) -> list[bool]:
        return self._written(self.records)

    def one_by_one(self) -> list[bool]:
        return [self._written([record])[0] for record in self.records]


def seconds(work: Callable[[], list[bool]], device: str) -> tuple[float, list[bool]]:
    """Processor seconds of all threads; on a GPU wall seconds, which end with what was found."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    found = work()
    return clock() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    loaded = load(resolve(given.model), device=given.device)
    target = Target(loaded.model, loaded.tokenizer, max_length=512, device=given.device)
    work = Work(target, given.texts, given.tokens)
    arms = {"one pass": work.one_pass, "batched": work.batched, "one by one": work.one_by_one}
    times: list[dict[str, float]] = []
    for repeat in range(given.repeats):
        names = list(arms)[repeat % 3 :] + list(arms)[: repeat % 3]
        taken = {name: seconds(arms[name], given.device) for name in names}
        found = {tuple(answers) for _, answers in taken.values()}
        assert len(found) == 1, "the arms disagree"
        times.append({name: took for name, (took, _) in taken.items()})
    print(f"{len(work.records)} records, {sum(work.one_pass())} of them extractable; all arms agree on each")
    for above, below in PAIRS:
        ratios = [one[above] / one[below] for one in times]
        print(f"{above} / {below:<12} {median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")


if __name__ == "__main__":
    main()
