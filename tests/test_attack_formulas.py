"""Each attack's score against a plain loop over its formula, and the cases that its paper leaves open."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from byrote.attacks.base import Attack, Evidence, MembershipAttack, score_all
from byrote.attacks.membership.dc_pdd import DivergenceCalibrated
from byrote.attacks.membership.ez_mia import ErrorZone
from byrote.attacks.membership.lower_case import LowerCase
from byrote.attacks.membership.p_attack import PopulationAttack
from byrote.attacks.membership.pac import PolarizedAugmentCalibration
from byrote.attacks.membership.perplexity_ratio import PerplexityRatio
from byrote.attacks.membership.quantile_regression import QuantileRegression
from byrote.attacks.membership.surp import Surp
from byrote.attacks.membership.wbc import WindowComparison
from byrote.attacks.membership.window import Window
from byrote.registry import make
from byrote.types import Record, StudyError, TokenStats
from evidence import OUTSIDERS, many, one, population, stats

RECORD = Record("a", "The Bucket policy denies every Request without a valid Signature")


def evidence_for(attack: Attack, tokens: int = 23, record: Record = RECORD) -> Evidence:
    return one("a", 0.4, tokens, attack, record=record)


def log_probs(of: TokenStats | None) -> list[float]:
    assert of is not None
    return [float(value) for value in of.log_prob]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# --- one pass ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "tokens"), [(5, 23), (50, 23), (1, 9), (23, 23)])
def test_window_is_the_best_passage(size: int, tokens: int) -> None:
    found = evidence_for(Window(), tokens)
    values = log_probs(found.target)
    width = min(size, tokens)
    passages = [mean(values[start : start + width]) for start in range(tokens - width + 1)]
    assert Window(tokens=size).score(found) == pytest.approx(max(passages), rel=1e-9)
    lowest_perplexity = min(math.exp(-passage) for passage in passages)
    assert Window(tokens=size).score(found) == pytest.approx(-math.log(lowest_perplexity))


def test_surp_is_the_mean_of_tokens_that_are_unlikely_where_the_model_is_sure() -> None:
    log_prob = [-1.0, -9.0, -8.0, -7.0, -0.5, -6.0, -5.0, -0.1, -0.2, -0.3]
    entropy = [0.1, 1.9, 3.0, 0.5, 0.1, 2.1, 1.0, 0.1, 0.1, 0.1]
    found = Evidence(RECORD, stats(log_prob, [-each for each in entropy]))
    assert Surp(k=0.4, max_entropy=2.0).score(found) == pytest.approx((-9.0 - 7.0) / 2)  # of -9 -8 -7 -6
    assert Surp(k=0.4, max_entropy=0.2).score(found) == pytest.approx(-7.0)  # none: the surest of the four
    assert Surp(k=0.01, max_entropy=5.0).score(found) == pytest.approx(-9.0)


def test_dc_pdd_counts_each_token_once_and_against_its_frequency() -> None:
    attack = DivergenceCalibrated()
    found, others = evidence_for(attack), population(attack)
    assert found.tokens is not None
    counts = Counter(int(token) for other in others if other.tokens is not None for token in other.tokens)
    tokens = [*found.tokens[:-2].tolist(), 999, 999]  # one that the population lacks, twice
    found = replace(found, tokens=np.array(tokens, np.int32))
    total = sum(counts.values()) + len(counts) + 1
    terms, seen = [], set()
    for token, value in zip(tokens, log_probs(found.target), strict=True):
        if token not in seen:
            seen.add(token)
            terms.append(min(0.01, -math.exp(value) * math.log((counts[token] + 1) / total)))
    assert attack.calibrate(others)(found) == pytest.approx(mean(terms), rel=1e-6)
    assert len(terms) < len(tokens)
    assert sum((count + 1) / total for count in counts.values()) + 1 / total == pytest.approx(1.0)
    assert "needs validation or test records" in score_all(attack, [found], []).reasons[0]


# --- beside the base model -----------------------------------------------------------------------


def test_perplexity_ratio_is_of_losses() -> None:
    found = evidence_for(PerplexityRatio())
    expected = mean(log_probs(found.base)) / mean(log_probs(found.target))
    assert PerplexityRatio().score(found) == pytest.approx(expected, rel=1e-9)
    by_heart = replace(found, target=stats([0.0] * 23))
    assert PerplexityRatio().score(by_heart) == pytest.approx(-mean(log_probs(found.base)) / 1e-6, rel=1e-9)


def test_ez_mia_ranks_as_the_ratio_of_what_rose_and_fell_in_the_error_zone() -> None:
    ours, theirs = [], []
    for found in many(3, 60, 0.2):
        moved = [t - b for t, b in zip(log_probs(found.target), log_probs(found.base), strict=True)]
        wrong = [move for move, rank in zip(moved, found.target.rank, strict=True) if rank > 0]
        fell = sum(max(-move, 0) for move in wrong)
        if fell:
            ours.append(ErrorZone().score(found))
            theirs.append(sum(max(move, 0) for move in wrong) / fell)
    assert len(ours) > 20
    np.testing.assert_allclose(ours, [ratio / (1 + ratio) for ratio in theirs], rtol=1e-6)
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist()


def test_ez_mia_ranks_a_text_known_by_heart_first() -> None:
    record, base = RECORD, stats([-3.0, -2.0, -4.0])
    by_heart = Evidence(record, stats([-0.01, -0.01, -0.01], rank=0), base)
    one_error = Evidence(record, stats([-0.01, -0.01, -4.5], rank=[0, 0, 1]), base)
    better = Evidence(record, stats([-1.0, -2.5, -3.0], rank=1), base)
    untouched = Evidence(record, base, base)
    scores = [ErrorZone().score(each) for each in (by_heart, one_error, better, untouched)]
    assert scores == pytest.approx([1.0, 4.98 / 5.48, 3.0 / 3.5, 0.5])


@pytest.mark.parametrize("tokens", [1, 3, 9, 60])
def test_wbc_is_the_mean_share_of_windows_that_became_easier(tokens: int) -> None:
    attack = WindowComparison()
    found = evidence_for(attack, tokens)
    target, base = log_probs(found.target), log_probs(found.base)
    shares = []
    for size in [size for size in attack.sizes if size <= tokens] or [tokens]:
        wins = [
            -sum(base[start : start + size]) > -sum(target[start : start + size]) for start in range(tokens - size + 1)
        ]
        shares.append(sum(wins) / len(wins))
    assert attack.score(found) == pytest.approx(mean(shares), rel=1e-12)


def test_the_sizes_of_wbc_are_a_geometric_row_from_2_to_40() -> None:
    row = [round(2 * 20 ** (step / 9)) for step in range(10)]
    assert list(WindowComparison().sizes) == row
    with pytest.raises(StudyError, match="holds nothing"):
        make("attack", {"name": "wbc", "sizes": [0, 3]})


# --- other texts ---------------------------------------------------------------------------------


def test_lower_case_is_the_ratio_of_losses() -> None:
    found = evidence_for(LowerCase())
    (query,) = LowerCase().queries(RECORD, found.background)
    assert query.record.text == RECORD.text.lower() and query.record.id == RECORD.id
    expected = mean(log_probs(found.answers[query.key])) / mean(log_probs(found.target))
    assert LowerCase().score(found) == pytest.approx(expected, rel=1e-9)
    pair = Record("p", "An Asking\nAn Answer", prompt="An Asking", completion="An Answer")
    (query,) = LowerCase().queries(pair, replace(found.background, of="completion"))
    assert query.record.text == "An Asking\nan answer" and query.record.completion == "an answer"


def test_pac_is_how_much_further_apart_the_swapped_texts_are() -> None:
    attack = PolarizedAugmentCalibration(texts=4, swaps=0.3, highest=0.1, lowest=0.3)
    found = evidence_for(attack)
    queries = attack.queries(RECORD, found.background)
    assert len(queries) == 4 and queries == attack.queries(RECORD, found.background)
    words = RECORD.text.split()
    for query in queries:
        swapped = query.record.text.split()
        assert sorted(swapped) == sorted(words)
        assert 2 <= sum(a != b for a, b in zip(swapped, words, strict=True)) <= 6 or swapped == words

    def distance(of: TokenStats) -> float:
        values = sorted(log_probs(of))
        return mean(values[-max(1, int(0.1 * len(values))) :]) - mean(values[: max(1, int(0.3 * len(values)))])

    expected = mean([distance(found.answers[query.key]) for query in queries]) - distance(found.target)
    assert attack.score(found) == pytest.approx(expected, rel=1e-9)
    single = Record("b", "word")
    assert {query.record.text for query in attack.queries(single, found.background)} == {"word"}


@pytest.mark.parametrize("attack", [LowerCase(), PolarizedAugmentCalibration()])
def test_a_query_that_was_not_asked_is_a_reason(attack: MembershipAttack) -> None:
    scores = score_all(attack, [replace(evidence_for(attack), answers={})])
    assert "was not asked" in scores.reasons[0]


# --- beside a population -------------------------------------------------------------------------


def test_p_attack_is_the_share_of_the_population_that_the_model_knows_less() -> None:
    attack = PopulationAttack()
    others = [replace(other, target=stats([-float(at)])) for at, other in enumerate(population(attack)[:10], 1)]
    score = attack.calibrate(others)
    found = evidence_for(attack)
    for loss, expected in ((0.5, 1.0), (1.0, 0.95), (4.5, 0.6), (10.0, 0.05), (11.0, 0.0)):
        assert score(replace(found, target=stats([-loss]))) == pytest.approx(expected)
        above, equal = sum(at > loss for at in range(1, 11)), sum(at == loss for at in range(1, 11))
        assert expected == pytest.approx((above + equal / 2) / 10)
    assert "needs validation or test records" in score_all(attack, [found], []).reasons[0]


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantile_regression_leaves_the_share_of_the_population_below(quantile: float) -> None:
    """The optimality condition of the pinball loss: at most a share q lies below the fit, and 1 - q above."""
    attack = QuantileRegression(quantile=quantile)
    others = [one(record.id, 0.0, attack=attack, record=record) for record in OUTSIDERS]
    score = attack.calibrate(others)
    residuals = np.array([score(other) for other in others])
    assert (residuals < -1e-8).mean() <= quantile <= 1 - (residuals > 1e-8).mean()
    assert (np.abs(residuals) < 1e-8).sum() >= 4  # a line through four points


def test_quantile_regression_equals_the_linear_programme_on_its_features() -> None:
    from scipy.optimize import linprog

    attack, quantile = QuantileRegression(quantile=0.7), 0.7
    others = population(attack)

    def row(of: Evidence) -> list[float]:
        data = of.text.encode()
        return [1.0, mean(log_probs(of.base)), math.log(len(of.target)), len(zlib.compress(data)) / len(data)]

    rows, count = np.array([row(other) for other in others]), len(others)
    likelihoods = np.array([mean(log_probs(other.target)) for other in others])
    free, slack = [(None, None)] * rows.shape[1], [(0, None)] * (2 * count)
    solved = linprog(
        np.concatenate([np.zeros(rows.shape[1]), np.full(count, quantile), np.full(count, 1 - quantile)]),
        A_eq=np.hstack([rows, np.eye(count), -np.eye(count)]),
        b_eq=likelihoods,
        bounds=free + slack,
    )
    weights = solved.x[: rows.shape[1]]
    score = attack.calibrate(others)
    for found in many(5, 10, 0.5):
        expected = mean(log_probs(found.target)) - float(np.array(row(found)) @ weights)
        assert score(found) == pytest.approx(expected, abs=1e-6)
    assert "needs 20 validation and test records, has 7" in score_all(attack, many(5, 2, 0.5), others[:7]).reasons[0]
