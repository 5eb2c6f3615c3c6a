"""Text alignment as it is published, step by step and slow: each pair of texts from the beginning, with plain loops.

Sanchez-Perez, Sidorov and Gelbukh 2014, "A winning approach to text alignment for text reuse detection at PAN 2014".
Words and sentences are told apart as byrote does it; all that follows is done on its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from byrote.attacks.extraction.plagiarism.settings import Matching
from byrote.attacks.extraction.plagiarism.words import Word, sentence_ends, spellings_of, word_of

Bag = dict[str, float]
Span = tuple[int, int]
Seed = tuple[int, int]
Block = tuple[tuple[int, int], tuple[int, int]]


@dataclass
class Found:
    """A word, and from where to where it stands in the text."""

    word: Word
    start: int
    end: int


@dataclass
class Result:
    seeds: list[Seed]
    cases: list[tuple[Span, Span]]
    wide_cases: list[tuple[Span, Span]]
    is_idea: bool


def align(generation: str, source: str, settings: Matching, sources: Sequence[str] = ()) -> Result:
    """One pair of texts. `sources`: all of them, over which the idf may be asked for."""
    ours, our_spans = sentences(generation, settings.min_sentlen)
    theirs, their_spans = sentences(source, settings.min_sentlen)
    if settings.idf == "pair":
        everything = [*ours, *theirs]
    elif settings.idf == "corpus":
        everything = [*ours, *(bag for one in sources for bag in sentences(one, settings.min_sentlen)[0])]
    if settings.idf != "none":
        ours, theirs = tf_idf(ours, everything), tf_idf(theirs, everything)
    found = seeds(ours, theirs, settings)
    results = []
    for gaps in (
        (settings.susp_gap, settings.src_gap),
        (settings.susp_gap_summary, settings.src_gap_summary),
    ):
        blocks = validate(cluster(found, gaps, settings, 0, 0), ours, theirs, gaps, settings)
        blocks = remove_overlap(sorted(blocks), ours, theirs)
        spans = [
            ((our_spans[a][0], our_spans[b][1]), (their_spans[c][0], their_spans[d][1])) for (a, b), (c, d) in blocks
        ]
        results.append([pair for pair in spans if all(end - start >= settings.min_plaglen for start, end in pair)])
    said = sum(end - start for (start, end), _ in results[1])
    learned = sum(end - start for _, (start, end) in results[1])
    if settings.idea == "training longer":
        is_idea = learned != 0 and learned >= settings.idea_ratio * said
    else:
        is_idea = said != 0 and said >= settings.idea_ratio * learned
    return Result(found, results[0], results[1], is_idea)


def classify(generation: str, sources: Sequence[str], settings: Matching) -> str:
    """Against every source."""
    if any(longest_run(generation, source) > settings.verbatim_minlen for source in sources):
        return "verbatim"
    results = [align(generation, source, settings, sources) for source in sources]
    if any(result.is_idea for result in results):
        return "idea"
    return "paraphrase" if any(result.cases for result in results) else "none"


def words_of(text: str) -> list[Found]:
    found = []
    for spelling, start in zip(*spellings_of(text), strict=True):
        word = word_of(spelling)
        if word is not None:
            found.append(Found(word, start, start + len(spelling)))
    return found


def sentences(text: str, least: int) -> tuple[list[Bag], list[Span]]:
    """The bag of stems and the characters of each sentence; short ones joined to the next, empty ones left out."""
    bags, spans, start = [], [], 0
    words = words_of(text)
    for end in sentence_ends(text):
        stems = Counter(one.word.stem for one in words if start <= one.start < end and one.word.stem is not None)
        if stems:
            left = start + len(text[start:end]) - len(text[start:end].lstrip())
            bags.append({str(stem): float(count) for stem, count in stems.items()})
            spans.append((left, start + len(text[start:end].rstrip())))
        start = end
    number = 0
    while number < len(bags) - 1:
        if sum(bags[number].values()) < least:
            bags[number + 1] = added(bags[number], bags[number + 1])
            spans[number + 1] = (spans[number][0], spans[number + 1][1])
            del bags[number], spans[number]
        else:
            number += 1
    return bags, spans


def added(a: Bag, b: Bag) -> Bag:
    total = dict(a)
    for stem, weight in b.items():
        total[stem] = total.get(stem, 0.0) + weight
    return total


def tf_idf(bags: list[Bag], everything: list[Bag]) -> list[Bag]:
    """Count times log(N / df) over the sentences of both texts."""
    frequency = Counter(stem for bag in everything for stem in bag)
    return [{stem: count * math.log(len(everything) / frequency[stem]) for stem, count in bag.items()} for bag in bags]


def cosine(a: Bag, b: Bag) -> float:
    norms = math.sqrt(sum(x * x for x in a.values())) * math.sqrt(sum(x * x for x in b.values()))
    return sum(x * b[stem] for stem, x in a.items() if stem in b) / norms if norms else 0.0


def dice(a: Bag, b: Bag) -> float:
    return 2 * len(set(a) & set(b)) / (len(a) + len(b))


def seeds(ours: list[Bag], theirs: list[Bag], settings: Matching) -> list[Seed]:
    found = []
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            if cosine(a, b) > settings.th1 and dice(a, b) > settings.th2:
                found.append((i, j))
    return found


def cluster(found: list[Seed], gaps: tuple[int, int], settings: Matching, side: int, times: int) -> list[list[Seed]]:
    """Split by the gaps on one side, then each part by those on the other, until nothing more splits."""
    least = (settings.susp_size, settings.src_size)[side]
    parts: list[list[Seed]] = []
    for seed in sorted(found, key=lambda seed: seed[side]):
        if parts and seed[side] - parts[-1][-1][side] - 1 <= gaps[side]:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    parts = [part for part in parts if len({seed[side] for seed in part}) >= least]
    if len(parts) <= 1 and times > 0:
        return parts
    return [done for part in parts for done in cluster(part, gaps, settings, 1 - side, times + 1)]


def validate(
    found: list[list[Seed]], ours: list[Bag], theirs: list[Bag], gaps: tuple[int, int], settings: Matching
) -> list[Block]:
    """What is alike as a whole; the rest clustered anew with smaller gaps."""
    blocks: list[Block] = []
    for part in found:
        block = (
            (min(i for i, _ in part), max(i for i, _ in part)),
            (min(j for _, j in part), max(j for _, j in part)),
        )
        if cosine(summed(ours, block[0]), summed(theirs, block[1])) > settings.th3:
            blocks.append(block)
        elif gaps[0] > settings.susp_gap_least and gaps[1] > settings.src_gap_least:
            lower = (gaps[0] - 1, gaps[1] - 1)
            blocks += validate(cluster(part, lower, settings, 0, 0), ours, theirs, lower, settings)
    return blocks


def summed(bags: list[Bag], places: tuple[int, int]) -> Bag:
    total: Bag = {}
    for bag in bags[places[0] : places[1] + 1]:
        total = added(total, bag)
    return total


def remove_overlap(blocks: list[Block], ours: list[Bag], theirs: list[Bag]) -> list[Block]:
    kept: list[Block] = []
    for block in blocks:
        if not kept or block[0][0] > kept[-1][0][1]:
            kept.append(block)
            continue
        before = kept[-1]
        q_new, q_old = quality(block, before, ours, theirs), quality(before, block, ours, theirs)
        if q_new > 0.99 and q_old > 0.99:
            if block[0][1] - block[0][0] > before[0][1] - before[0][0]:
                kept[-1] = block
        elif q_new > q_old + 1e-9:
            kept[-1] = block
    return kept


def quality(block: Block, other: Block, ours: list[Bag], theirs: list[Bag]) -> float:
    """o + (1 - o) n: mean highest cosine of the sentences that both have, and of the others."""
    (first, last), (their_first, their_last) = block
    shared, own = [], []
    for i in range(first, last + 1):
        best = max(cosine(ours[i], theirs[j]) for j in range(their_first, their_last + 1))
        (shared if other[0][0] <= i <= other[0][1] else own).append(best)
    o = sum(shared) / len(shared)
    return o + (1 - o) * (sum(own) / len(own) if own else 0.0)


def longest_run(a: str, b: str) -> int:
    """Characters of the longest run of words that both texts have, by dynamic programming over all pairs of words."""
    ours, theirs = words_of(a), words_of(b)
    return max((characters(ours[start:end]) for start, end in common_runs(ours, theirs)), default=0)


def characters(run: Sequence[Found]) -> int:
    """The words with one space between them."""
    return sum(one.word.length + one.word.gap for one in run) - run[-1].word.gap


def common_runs(ours: Sequence[Found], theirs: Sequence[Found]) -> set[tuple[int, int]]:
    """From which to which of our words: all runs that both texts have and that cannot be made longer."""
    runs = set()
    before = [0] * (len(theirs) + 1)
    for i in range(len(ours) + 1):
        now = [0] * (len(theirs) + 1)
        for j in range(len(theirs) + 1):
            same = i < len(ours) and j < len(theirs) and ours[i].word.form == theirs[j].word.form
            length = before[j]
            if same:
                now[j + 1] = length + 1
            elif length:
                runs.add((i - length, i))
        before = now
    return runs
