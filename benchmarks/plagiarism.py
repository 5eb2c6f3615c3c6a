"""How fast text is matched beside a literal implementation of the same definition, and how much of what was planted.

    python benchmarks/plagiarism.py [speed] [scale] [planted]

`speed`: 40 generated texts of 140 words against 60 training texts of 1,500 words, 10 of the 40 with a copy of 80 words,
in processor seconds of one thread, everything that is made ready included. The rival is the literal implementation of
the tests, which takes each pair from the beginning, on a sample of the pairs. `scale`: up to 1,000 generated texts
against up to 10,000 paragraphs, and one text of up to two megabytes, in wall seconds. `planted`: the class that is
given to passages that were copied, rewritten, reordered or summed up on purpose, and to text of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from byrote.attacks.extraction.plagiarism.corpus import Corpus
from byrote.attacks.extraction.plagiarism.settings import Matching
from byrote.attacks.extraction.plagiarism.words import sentence_ends
from byrote.data.load import load

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import literal_plagiarism as literal
from plagiarism_texts import document, vocabulary

GENERATIONS, SOURCES, SAMPLE, REPEATS = 40, 60, 48, 3
KINDS = ("verbatim", "paraphrase", "idea", "none")
EXPECTED = {
    "copied, 280 to 600 characters": "verbatim",
    "copied, 60 to 250 characters": "verbatim",
    "4 sentences, words replaced": "paraphrase",
    "the same, reordered": "paraphrase",
    "9 sentences summed up in 2": "idea",
    "its own": "none",
}
EACH = 100
VARIANTS = {
    "50 characters": Matching(),
    "256 characters": Matching.original(),
    "50 characters, idf of all texts": Matching(idf="corpus"),
}


def paragraphs() -> list[str]:
    """All of builtin:aws-docs, in an order that is drawn."""
    texts = [record.text for record in load("builtin:aws-docs").records]
    return [texts[at] for at in np.random.default_rng(0).permutation(len(texts))]


def of_words(texts: Sequence[str], count: int, words: int) -> list[str]:
    """`count` texts of so many words, cut from these one after the other."""
    every = " ".join(texts).split()
    return [" ".join(every[at * words : (at + 1) * words]) for at in range(count)]


def timed(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    started = clock()
    work()
    return clock() - started


def speed() -> None:
    """Print the ratios to the literal implementation."""
    texts = paragraphs()
    sources, said = of_words(texts[:4000], SOURCES, 1500), of_words(texts[6000:], GENERATIONS, 140)
    for at in range(10):
        words = said[at * 4].split()
        said[at * 4] = " ".join([*words[:30], *sources[at * 6].split()[300:380], *words[110:]])

    def classify() -> None:
        corpus = Corpus(sources)
        for one in said:
            corpus.classify(one)

    def align_all() -> None:
        corpus = Corpus(sources)
        for one in said:
            corpus.align(one)

    generator = np.random.default_rng(1)
    sample = [(said[generator.integers(len(said))], sources[generator.integers(len(sources))]) for _ in range(SAMPLE)]
    pairs = len(said) * len(sources)
    alone = timed(lambda: [literal.align(*one, Matching()) for one in sample]) * pairs / SAMPLE
    runs = timed(lambda: [literal.longest_run(*one) for one in sample]) * pairs / SAMPLE
    quick, every = (min(timed(work) for _ in range(REPEATS)) for work in (classify, align_all))
    theirs = [literal.align(*one, Matching()) for one in sample]
    ours = [Corpus([source]).align(one) for one, source in sample]
    same = all(
        (sorted(b[0].seeds) if b else []) == a.seeds
        and ([(case.generated, case.training) for case in b[0].cases] if b else []) == a.cases
        for a, b in zip(theirs, ours, strict=True)
    )
    print(f"{len(said)} generated texts of 140 words, {len(sources)} training texts of 1,500: {pairs} pairs")
    print(f"literal, from {SAMPLE} pairs: {alone:.0f} s for alignment, {runs:.0f} s for verbatim runs")
    print(f"all classified, 10 candidates each: {quick:.2f} s")
    print(f"every pair aligned: {every:.2f} s")
    print(f"literal / classified: {(alone + runs) / quick:.0f}; without its verbatim runs: {alone / quick:.0f}")
    print(f"literal alignment / every pair aligned: {alone / every:.0f}")
    print(f"in the sample {sum(len(one.seeds) for one in theirs)} seeds; seeds and cases are the same: {same}")


def scale() -> None:
    """Print wall seconds as texts and their length grow."""
    texts = paragraphs()
    for sources, count in ((2500, 1000), (5000, 1000), (10_000, 250), (10_000, 500), (10_000, 1000)):
        said = [text if at % 4 else texts[at] for at, text in enumerate(texts[10_000 : 10_000 + count])]
        started = time.perf_counter()
        corpus = Corpus(texts[:sources])
        ready = time.perf_counter()
        found = Counter(corpus.classify(one).kind for one in said)
        end = time.perf_counter()
        print(f"{count} x {sources} paragraphs: {ready - started:.1f} s to make ready, {end - ready:.1f} s to classify")
        print(f"    {dict(found)}")
    every = " ".join(texts[10_000:]) * 8
    for size in (500_000, 1_000_000, 2_000_000):
        classified = timed(lambda size=size: corpus.classify(every[:size]), time.perf_counter)  # type: ignore[misc]
        aligned = timed(lambda size=size: corpus.align(every[:size], range(10)), time.perf_counter)  # type: ignore[misc]
        print(f"one text of {size / 1e6:g} MB: {classified:.1f} s to classify, {aligned:.1f} s to align with 10 texts")


def sentences(text: str) -> list[str]:
    ends = sentence_ends(text)
    return [part for start, end in zip([0, *ends], ends, strict=False) if (part := text[start:end].strip())]


def replaced(generator: np.random.Generator, passage: Sequence[str], words: Sequence[str]) -> list[str]:
    """The sentences with a word replaced wherever more than 40 characters would be left in a row."""
    done, length = [], 0
    for text in passage:
        kept = []
        for word in text.split():
            length += len(word) + 1
            if length > 40:
                word, length = str(generator.choice(words)), 0
            kept.append(word)
        done.append(" ".join(kept))
    return done


def plant(generator: np.random.Generator, name: str, source: list[str], words: Sequence[str]) -> list[str]:
    """A passage out of the sentences of a source."""
    text = " ".join(source)
    if name.startswith("copied"):
        low, high = map(int, (part for part in name.split() if part.isdigit()))
        start = text.index(" ", int(generator.integers(0, len(text) - high - 40))) + 1
        return [text[start : text.index(" ", start + int(generator.integers(low, high)))]]
    if name == "its own":
        return []
    first = int(generator.integers(0, len(source) - 9))
    places = (0, 8) if "summed up" in name else (2, 0, 3, 1) if "reordered" in name else (0, 1, 2, 3)
    return replaced(generator, [source[first + at] for at in places], words)


def planted() -> None:
    """Print what each planted kind is found to be, in made-up and in real text."""
    generator = np.random.default_rng(2)
    invented = vocabulary(generator, 4000)
    made_up = [document(generator, invented[:3000], 20) for _ in range(200)]
    texts = paragraphs()
    real = [sentences(one) for one in of_words(texts[:6000], 150, 600)]
    own = [sentences(one) for one in of_words(texts[6000:], 300, 40)]
    yard = {
        "made-up words": (made_up, [document(generator, invented[3000:], 3) for _ in range(300)], invented[3000:]),
        "builtin:aws-docs": ([one for one in real if len(one) > 12], own, " ".join(texts[6000:]).split()),
    }
    for place, (sources, others, words) in yard.items():
        said = {
            name: [
                " ".join(
                    [
                        *others[generator.integers(300)],
                        *plant(generator, name, sources[at], words),
                        others[generator.integers(300)][0],
                    ]
                )
                for at in range(EACH)
            ]
            for name in EXPECTED
        }
        for variant, settings in VARIANTS.items():
            corpus = Corpus([" ".join(one) for one in sources], settings)
            found = {name: Counter(corpus.classify(one).kind for one in texts_) for name, texts_ in said.items()}
            show(f"{place}, {variant}", found, settings)


def show(title: str, found: dict[str, Counter[str]], settings: Matching) -> None:
    """One table, with precision and recall of each class; copies shorter than the limit belong to no class."""
    print(f"\n{title}\n| planted | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    for name, counts in found.items():
        print(f"| {name} | {' | '.join(str(counts[kind]) for kind in KINDS)} |")
    judged = {name: kind for name, kind in EXPECTED.items() if settings.verbatim_minlen < 60 or "60 to" not in name}
    for kind in KINDS[:3]:
        right = sum(found[name][kind] for name in judged if judged[name] == kind)
        called = sum(found[name][kind] for name in judged)
        there = sum(found[name].total() for name in judged if judged[name] == kind)
        precision = f"{right / called:.2f}" if called else "none called"
        print(f"{kind}: precision {precision}, recall {right / there:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"speed": speed, "scale": scale, "planted": planted}
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts))
    for part in parser.parse_args().parts or parts:
        parts[part]()


if __name__ == "__main__":
    main()
