"""From seeds to cases: which passages of a generated text go back to which of a training text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from byrote.attacks.extraction.plagiarism.documents import Ints, Span
from byrote.attacks.extraction.plagiarism.seeds import Pair
from byrote.attacks.extraction.plagiarism.settings import Matching

BOTH_COPIES = 0.99
"""Where both of two overlapping cases are as good as copies, the longer one is kept."""
AS_GOOD = 1e-9
"""Qualities that differ by no more are the same: rounding must not decide."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """A passage of the generated text and the passage of a training text that it goes back to."""

    source: int
    """The number of the training text."""
    generated: Span
    """Its characters in the generated text."""
    training: Span
    """Its characters in the training text."""
    generated_sentences: tuple[Span, ...]
    """The characters of the sentences that it lies in."""
    training_sentences: tuple[Span, ...]


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """A case by its first and last sentence on both sides."""

    generated: tuple[int, int]
    training: tuple[int, int]


def cases(pair: Pair, spans: Ints, their_spans: Ints, gaps: tuple[int, int], settings: Matching) -> list[Case]:
    """The cases of a pair for these widest gaps (generated, training), by the (S, 2) spans of the sentences."""
    found = []
    for block in without_overlap(pair, extend(pair, gaps, settings)):
        (first, last), (their_first, their_last) = block.generated, block.training
        ours, theirs = spans[first : last + 1], their_spans[their_first : their_last + 1]
        span, their_span = (int(ours[0, 0]), int(ours[-1, 1])), (int(theirs[0, 0]), int(theirs[-1, 1]))
        if min(span[1] - span[0], their_span[1] - their_span[0]) >= settings.min_plaglen:
            found.append(Case(pair.source, span, their_span, as_spans(ours), as_spans(theirs)))
    return found


def as_spans(rows: Ints) -> tuple[Span, ...]:
    """(S, 2) as pairs of plain numbers."""
    return tuple((start, end) for start, end in rows.tolist())


def extend(pair: Pair, gaps: tuple[int, int], settings: Matching) -> list[Block]:
    """Seeds that lie close together on both sides become a block, if its two passages are alike.

    Where their cosine is not above th3, the seeds of the block are put together anew with both gaps less by one, as
    long as both are above their least.
    """
    least, sizes = (settings.susp_gap_least, settings.src_gap_least), (settings.susp_size, settings.src_size)
    blocks: list[Block] = []
    todo = [(cluster, gaps) for cluster in clusters(pair.seeds, gaps, sizes)]
    while todo:
        cluster, (gap, their_gap) = todo.pop()
        block = Block(bounds(cluster[:, 0]), bounds(cluster[:, 1]))
        if pair.cosine(block.generated, block.training) > settings.th3:
            blocks.append(block)
            continue
        # Gaps that are still as wide as the widest one in the block leave it as it is: those are passed over.
        less = 1 + max(0, min(gap - widest(cluster[:, 0]), their_gap - widest(cluster[:, 1])))
        if less <= min(gap - least[0], their_gap - least[1]):
            lower = (gap - less, their_gap - less)
            todo += [(part, lower) for part in clusters(cluster, lower, sizes)]
    return sorted(blocks)


def widest(places: Ints) -> int:
    """The most sentences between one place and the next."""
    return int(np.diff(np.sort(places)).max(initial=1)) - 1


def bounds(places: Ints) -> tuple[int, int]:
    """The first and the last."""
    return int(places.min()), int(places.max())


def clusters(seeds: Ints, gaps: tuple[int, int], sizes: tuple[int, int]) -> list[Ints]:
    """The largest sets of seeds that hang together on both sides, each (n, 2).

    On a side, seeds hang together where at most `gap` sentences lie between one and the next. A set is split by one
    side and the other in turn until nothing more splits; what has fewer sentences than `size` is dropped.
    """
    done: list[Ints] = []
    todo = [(seeds, 0, False)]
    while todo:
        part, side, was_split = todo.pop()
        if len(part) == 1:
            done += [part] if max(sizes) == 1 else []
            continue
        order = part[np.argsort(part[:, side], kind="stable")]
        steps = np.diff(order[:, side])
        pieces = np.split(order, np.flatnonzero(steps > gaps[side] + 1) + 1)
        pieces = [one for one in pieces if len(np.unique(one[:, side])) >= sizes[side]]
        if len(pieces) == 1 and was_split:
            done += pieces
        else:
            todo += [(piece, 1 - side, True) for piece in pieces]
    return done


def without_overlap(pair: Pair, blocks: list[Block]) -> list[Block]:
    """The blocks of which no two share a sentence of the generated text.

    In the order of their beginnings, each meets the one that was kept before it, and where the two overlap the better
    one stays, the earlier where they are as good. A block is as good as the mean over its generated sentences of their
    highest cosine with a training sentence of it: q = o + (1 - o) n, with o over the sentences that both have and n
    over its others (0 where there are none). Where both are copies (q above 0.99) the longer one is better.
    """
    kept: list[Block] = []
    for block in blocks:
        if not kept or block.generated[0] > kept[-1].generated[1]:
            kept.append(block)
        elif better(pair, block, kept[-1]):
            kept[-1] = block
    return kept


def better(pair: Pair, later: Block, earlier: Block) -> bool:
    """Whether the later of two overlapping blocks is the better one."""
    low = max(later.generated[0], earlier.generated[0])
    high = min(later.generated[1], earlier.generated[1])
    quality, length = [], []
    for block in (later, earlier):
        best, first = pair.best(block.generated, block.training), block.generated[0]
        shared = np.zeros(len(best), dtype=bool)
        shared[low - first : high - first + 1] = True
        common = float(best[shared].mean())
        own = 0.0 if shared.all() else float(best[~shared].mean())
        quality.append(common + (1 - common) * own)
        length.append(len(best))
    if min(quality) > BOTH_COPIES:
        return length[0] > length[1]
    return quality[0] > quality[1] + AS_GOOD
