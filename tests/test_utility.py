"""Every registered utility keeps the contract; perplexity equals its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byrote.audit.interval import weighted_mean_estimate
from byrote.registry import discover
from byrote.types import Record, TokenStats, Unscorable
from byrote.utility.base import Utility
from byrote.utility.perplexity import Perplexity

UTILITIES = {name: component for name, component in discover("utility").items() if issubclass(component, Utility)}


@pytest.fixture(params=sorted(UTILITIES))
def utility(request: pytest.FixtureRequest) -> Utility:
    return UTILITIES[request.param]()


def stats(log_prob: list[float]) -> TokenStats:
    values = np.asarray(log_prob, dtype=np.float32)
    return TokenStats(values, values - 1, np.ones_like(values), np.zeros(len(values), dtype=np.int32))


TEXTS = [Record("a", "one two three"), Record("b", "four")]
TOKENS = [[-1.0, -2.0, -0.5], [-4.0]]


def test_says_what_its_number_means(utility: Utility) -> None:
    assert utility.metric and utility.transform in ("identity", "exp")
    assert isinstance(utility.higher_is_better, bool) and isinstance(utility.unit, str)
    assert utility.__doc__


def test_one_record_is_measured_alone_and_the_same_twice(utility: Utility) -> None:
    measured = [utility.measure(record, stats(tokens)) for record, tokens in zip(TEXTS, TOKENS, strict=True)]
    assert all(math.isfinite(m.value) and m.weight > 0 for m in measured)
    assert [utility.measure(r, stats(t)) for r, t in zip(TEXTS, TOKENS, strict=True)] == measured


def test_perplexity_is_the_exponential_of_the_mean_over_all_tokens() -> None:
    measured = [Perplexity().measure(record, stats(tokens)) for record, tokens in zip(TEXTS, TOKENS, strict=True)]
    values, weights = zip(*measured, strict=True)
    estimate = weighted_mean_estimate(values, weights, transform=Perplexity.transform)
    every_token = [token for tokens in TOKENS for token in tokens]
    assert estimate.value == pytest.approx(math.exp(-sum(every_token) / len(every_token)))
    # The mean of the records' own perplexities is another number.
    assert estimate.value != pytest.approx(np.mean([math.exp(-np.mean(tokens)) for tokens in TOKENS]))


def test_perplexity_of_no_target_token_has_a_reason() -> None:
    with pytest.raises(Unscorable, match="no target token"):
        Perplexity().measure(Record("a", "x"), stats([]))
