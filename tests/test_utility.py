"""Every registered utility keeps the contract; each number equals its formula."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from byrote.registry import discover, make
from byrote.statistics.interval import weighted_mean_estimate
from byrote.statistics.jackknife import jackknife_estimate
from byrote.types import Decoding, Floats, Generation, Record, StudyError, TokenStats, Unscorable
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
    assert utility.higher_is_better in (True, False, None) and isinstance(utility.unit, str)
    assert (utility.higher_is_better is None) == callable(getattr(utility, "reference", None)), "nearest to what?"
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
    from sklearn import metrics

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


# --- generated text --------------------------------------------------------------------------------


def pair(said: str, wanted: str, number: int = 0) -> Observation:
    record = Record(f"r{number}", f"do\n{wanted}", "do", wanted)
    return Observation(record, stats([-1.0]), (), Generation(said, (5, 0), True))


def test_exact_match_looks_through_white_space_only() -> None:
    exact = UTILITIES["exact-match"]()
    for said, wanted, hit in (
        (" aws s3  ls\n", "aws s3 ls", 1.0),
        ("aws s3 ls", "aws s3 LS", 0.0),
        ("aws s3 ls .", "aws s3 ls", 0.0),
        ("", "aws", 0.0),
    ):
        assert exact.measure(pair(said, wanted)) == (hit, 1.0)


def test_rouge_l_by_hand() -> None:
    rouge = UTILITIES["rouge-l"]()
    # Lin 2004, section 3.1: the common subsequence has 3 of 4 words ("police the gunman"), and then 2 of 4.
    for said, share in (("police kill the gunman", 3 / 4), ("the gunman kill police", 2 / 4)):
        assert rouge.measure(pair(said, "police killed the gunman"))[0] == pytest.approx(share)
    # 2 of 3 words said, 2 of 5 wanted: F1 = 2 x 2 / (3 + 5). Case and signs are not looked at.
    assert rouge.measure(pair("A, c x", "a b c d e"))[0] == pytest.approx(4 / 8)
    assert rouge.measure(pair("", "a b"))[0] == 0.0
    stems = make("utility", {"name": "rouge-l", "use_stemmer": True})
    assert stems.measure(pair("police kill the gunman", "police killed the gunman"))[0] == 1.0  # type: ignore[attr-defined]
    with pytest.raises(Unscorable, match="no Latin letter and no digit"):
        rouge.measure(pair("猫", "猫"))


SAID = ["the cat sat on the mat", "a dog", "it is a guide to action , which ensures that", "", "x y z"]
WANTED = [
    "the cat is on the mat",
    "the dog barks loudly at night",
    "it is a guide to action that ensures",
    "hello",
    "u v",
]


@pytest.mark.parametrize("settings", [{}, {"tokenize": "char"}, {"lowercase": True, "tokenize": "intl"}])
def test_bleu_is_sacrebleus_of_the_corpus(settings: dict[str, object]) -> None:
    from sacrebleu.metrics import BLEU

    bleu = make("utility", {"name": "bleu", **settings})
    assert isinstance(bleu, Utility)
    for picked in ([0, 1, 2, 3, 4], [0, 2], [0], [1], [3], [4], [1, 4], [3, 4]):
        theirs = BLEU(**settings)  # type: ignore[arg-type]
        score = theirs.corpus_score([SAID[at] for at in picked], [[WANTED[at] for at in picked]]).score
        ours = number(bleu, [pair(SAID[at], WANTED[at]) for at in picked])
        assert ours == pytest.approx(score, abs=1e-9), picked
        assert bleu.conditions.endswith("; sacrebleu " + str(theirs.get_signature()))
    assert number(bleu, [pair(one, one) for one in SAID[:3]]) == pytest.approx(100.0)


def test_the_interval_of_bleu_covers() -> None:
    """Records of 4 to 12 words of which each is right with a chance that the record draws."""
    bleu, rng = UTILITIES["bleu"](), np.random.default_rng(6)

    def draw(n: int) -> Floats:
        rows = np.zeros((n, 10))
        for row in rows:
            length = int(rng.integers(4, 13))
            right = rng.random(length) < rng.beta(4, 2)
            row[:2] = length, length
            for order in range(4):
                runs = np.lib.stride_tricks.sliding_window_view(right, order + 1)
                row[2 + order], row[6 + order] = runs.all(1).sum(), len(runs)
        return rows

    population = draw(20_000)
    truth, hits = float(bleu.value(population.sum(0))), []
    for _ in range(400):
        estimate = jackknife_estimate(population[rng.integers(0, 20_000, 80)], bleu.value, bounds=bleu.bounds)
        assert estimate.low is not None and estimate.high is not None
        hits.append(estimate.low <= truth <= estimate.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_what_was_not_generated_has_a_reason() -> None:
    exact = UTILITIES["exact-match"]()
    seen = pair("a", "b")
    with pytest.raises(Unscorable, match="nothing was generated"):
        exact.measure(replace(seen, generation=None))
    with pytest.raises(Unscorable, match="leaves no room"):
        exact.measure(replace(seen, generation=Generation("", (), False, "it leaves no room")))
    with pytest.raises(Unscorable, match="has no completion"):
        exact.measure(replace(seen, record=Record("a", "text")))
    chat = Record("c", "user: hi\nassistant: hello", messages=(("user", "hi"), ("assistant", "hello")))
    assert exact.measure(Observation(chat, stats([-1.0]), (), Generation("hello", (5, 0), True))) == (1.0, 1.0)


def test_settings_of_generation() -> None:
    from byrote.utility.generated import Generated

    warm = make("utility", {"name": "bleu", "do_sample": True, "temperature": 0.7, "max_new_tokens": 9})
    assert isinstance(warm, Generated)
    assert warm.decoding == Decoding(9, do_sample=True, temperature=0.7)
    assert warm.conditions.startswith("sampled at temperature 0.7, at most 9 new tokens, seed 0; sacrebleu nrefs:1|")
    with pytest.raises(StudyError, match="need do_sample: true; without it decoding is greedy"):
        make("utility", {"name": "rouge-l", "top_p": 0.9})
