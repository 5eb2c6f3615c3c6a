"""What every default attack finds where there is nothing to find: real scores, simulated splits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import byrote
from byrote.attacks.base import Evidence, score_all
from byrote.models.load import load, resolve
from byrote.registry import make
from byrote.statistics.delong import auc_estimate
from byrote.statistics.partial import partial_auc
from byrote.target import Target
from byrote.types import Estimate, Floats, Record

SPLITS, SIDE = 200, 120
ATTACKS = ("loss", "zlib", "min-k", "min-k++")


@pytest.fixture(scope="module")
def untuned() -> dict[str, Floats]:
    """Scores of the attacks on records that the model never saw, none of which is a member."""
    loaded = load(resolve("builtin:tiny"))
    table = pyarrow.parquet.read_table(Path(byrote.__file__).parent / "data" / "builtin" / "aws-docs.parquet")
    texts = table.column("text").to_pylist()
    drawn = np.random.default_rng(0).choice(len(texts), 3 * SIDE, replace=False)
    records = [Record(str(at), texts[at]) for at in drawn]
    stats = Target(loaded.model, loaded.tokenizer, max_length=48).token_stats(records)
    evidence = [Evidence(record, of) for record, of in zip(records, stats, strict=True)]
    return {name: score_all(make("attack", name), evidence).values for name in ATTACKS}  # type: ignore[arg-type]


def rate(estimates: list[Estimate], null: float = 0.5) -> float:
    return float(np.mean([(one.low or 0.0) <= null <= (one.high or 0.0) for one in estimates]))


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_intervals_of_the_untuned_model_contain_a_half_at_their_rate(
    untuned: dict[str, Floats], attack: str
) -> None:
    scores, rng, whole, part = untuned[attack], np.random.default_rng(1), [], []
    assert np.isfinite(scores).all() and len(np.unique(scores)) > SIDE
    for _ in range(SPLITS):
        drawn = rng.permutation(scores)
        whole.append(auc_estimate(drawn[:SIDE], drawn[SIDE : 2 * SIDE]))
        part.append(partial_auc(drawn[:SIDE], drawn[SIDE : 2 * SIDE]))
    error = 3 * math.sqrt(0.95 * 0.05 / SPLITS)
    assert min(rate(whole), rate(part)) >= 0.95 - error


@pytest.mark.parametrize("attack", ATTACKS)
def test_permuted_labels_take_the_leak_away(untuned: dict[str, Floats], attack: str) -> None:
    """Half of the records score as if they had been learned; with their labels permuted nothing is left of it."""
    rng, scores = np.random.default_rng(2), untuned[attack][: 2 * SIDE].copy()
    scores[:SIDE] += 2 * scores.std()
    learned = auc_estimate(scores[:SIDE], scores[SIDE:])
    assert learned.low is not None and learned.low > 0.7
    permuted = [auc_estimate(*np.split(rng.permutation(scores), 2)) for _ in range(SPLITS)]
    assert rate(permuted) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / SPLITS)
    assert np.mean([one.value for one in permuted if one.value is not None]) == pytest.approx(0.5, abs=0.01)
