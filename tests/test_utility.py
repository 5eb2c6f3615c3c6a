"""Every registered utility keeps the contract; each number equals its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byrote.audit.interval import weighted_mean_estimate
from byrote.registry import discover
from byrote.types import Floats, Generation, Record, TokenStats, Unscorable
from byrote.utility.base import Observation, Utility
from byrote.utility.macro_f1 import MacroF1
from byrote.utility.perplexity import Perplexity

UTILITIES = {name: component for name, component in discover("utility").items() if issubclass(component, Utility)}
LABELS = ("cat", "dog", "owl")


@pytest.fixture(params=sorted(UTILITIES))
def utility(request: pytest.FixtureRequest) -> Utility:
    return UTILITIES[request.param]()


def stats(log_prob: list[float]) -> TokenStats:
    values = np.asarray(log_prob, dtype=np.float32)
    return TokenStats(values, values - 1, np.ones_like(values), np.zeros(len(values), dtype=np.int32))


def labelled(own: int, probabilities: list[float]) -> Observation:
    logs = np.log(np.array(probabilities)).astype(np.float32)
    rank = np.array([int((logs > logs[own]).sum())], dtype=np.int32)
    found = TokenStats(logs[own : own + 1], logs[:1], logs[:1], rank, classes=logs)
    return Observation(Record("a", "x", label=LABELS[own]), found, LABELS)


def observed(utility: Utility) -> list[Observation]:
    """Two records that a measure of its kind can read."""
    if utility.reads == "labels":
        return [labelled(0, [0.7, 0.2, 0.1]), labelled(1, [0.6, 0.3, 0.1])]
    records = [Record("a", "say it\none two", "say it", "one two"), Record("b", "go\nfour", "go", "four")]
    said = [Generation("one three", (5, 6, 0), True), Generation("four", (7, 0), True)]
    tokens = [stats([-1.0, -2.0, -0.5]), stats([-4.0])]
    return [Observation(r, t, (), g) for r, t, g in zip(records, tokens, said, strict=True)]


def number(utility: Utility, seen: list[Observation]) -> float:
    return float(utility.value(np.sum([utility.measure(one) for one in seen], 0)))


def test_says_what_its_number_means(utility: Utility) -> None:
    assert utility.metric and utility.form in ("mean", "exp", "rate", "sums") and utility.__doc__
    assert isinstance(utility.higher_is_better, bool) and isinstance(utility.unit, str)
    assert utility.form == "exp" or utility.bounds is not None or not utility.higher_is_better


def test_one_record_is_measured_alone_and_the_same_twice(utility: Utility) -> None:
    seen = observed(utility)
    measured = [utility.measure(one) for one in seen]
    assert all(math.isfinite(number) for row in measured for number in row)
    assert len({len(row) for row in measured}) == 1
    assert [utility.measure(one) for one in seen] == measured
    if utility.form != "sums":
        assert all(weight > 0 for _, weight in measured)
    if utility.form == "rate":
        assert {weight for _, weight in measured} == {1.0} and {value for value, _ in measured} <= {0.0, 1.0}


def test_the_number_of_many_sums_at_once_is_that_of_each(utility: Utility) -> None:
    rows = np.array([utility.measure(one) for one in observed(utility)])
    sums = np.array([rows.sum(0), rows[0], rows.sum(0) + rows[0]])
    together = utility.value(sums)
    assert together.shape == (3,)
    assert together.tolist() == pytest.approx([float(utility.value(row)) for row in sums])
    if utility.bounds is not None:
        assert all(utility.bounds[0] <= value <= utility.bounds[1] for value in together)


def test_perplexity_is_the_exponential_of_the_mean_over_all_tokens() -> None:
    seen = observed(Perplexity())
    every_token = [-1.0, -2.0, -0.5, -4.0]
    assert number(Perplexity(), seen) == pytest.approx(math.exp(-sum(every_token) / len(every_token)))
    rows: Floats = np.array([Perplexity().measure(one) for one in seen])
    estimate = weighted_mean_estimate(rows[:, 0] / rows[:, 1], rows[:, 1], transform="exp")
    assert estimate.value == pytest.approx(number(Perplexity(), seen))
    # The mean of the records' own perplexities is another number.
    assert estimate.value != pytest.approx(np.mean([math.exp(3.5 / 3), math.exp(4.0)]))


def test_perplexity_of_no_target_token_has_a_reason() -> None:
    with pytest.raises(Unscorable, match="no target token"):
        Perplexity().measure(Observation(Record("a", "x"), stats([])))


# --- macro-F1 --------------------------------------------------------------------------------------


def predicted(pairs: list[tuple[int, int]]) -> list[Observation]:
    """Records of a class (first) that the model takes for another (second)."""
    return [labelled(own, [0.8 if at == said else 0.1 for at in range(3)]) for own, said in pairs]


def test_macro_f1_by_hand() -> None:
    # cat: tp 2, fp 1, fn 1, F1 4/6; dog: tp 1, fp 1, fn 1, F1 1/2; owl: tp 1, fp 0, fn 0, F1 1.
    seen = predicted([(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 2)])
    assert number(MacroF1(), seen) == pytest.approx((4 / 6 + 1 / 2 + 1) / 3)
    # A class that is never predicted has 0; one that occurs nowhere is left out.
    assert number(MacroF1(), predicted([(0, 0), (0, 0), (1, 0)])) == pytest.approx((4 / 5 + 0) / 2)
    assert number(MacroF1(), predicted([(1, 1), (1, 1)])) == 1.0
    # Predicted where no record has it: 0 as well.
    assert number(MacroF1(), predicted([(0, 0), (1, 2)])) == pytest.approx((1 + 0 + 0) / 3)


def test_macro_f1_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    for n in (1, 2, 5, 40):
        pairs = rng.integers(0, 3, (n, 2)).tolist()
        theirs = metrics.f1_score(*zip(*pairs, strict=True), average="macro", zero_division=0.0)
        assert number(MacroF1(), predicted(pairs)) == pytest.approx(theirs)


def test_a_tie_with_the_own_class_is_right_for_accuracy_and_macro_f1_alike() -> None:
    seen = [labelled(1, [0.4, 0.4, 0.2])]
    assert number(MacroF1(), seen) == number(UTILITIES["accuracy"](), seen) == 1.0


def test_macro_f1_without_classes_has_a_reason() -> None:
    with pytest.raises(Unscorable, match="no class probabilities"):
        MacroF1().measure(Observation(Record("a", "x", label="cat"), stats([-1.0]), LABELS))
