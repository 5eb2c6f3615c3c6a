"""The fast text alignment gives what the literal one gives: seeds, cases, classes and verbatim runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import literal_plagiarism as literal
from byrote.attacks.extraction.plagiarism.corpus import Corpus
from byrote.attacks.extraction.plagiarism.settings import Matching
from literal_plagiarism import Found, words_of
from plagiarism_texts import document, sentence, substituted, vocabulary

SETTINGS = {
    "defaults": Matching(),
    "original": Matching.original(),
    "narrow gaps": Matching(src_gap=1, susp_gap=2, src_gap_summary=3, susp_gap_summary=3, min_plaglen=0),
    "hard to validate": Matching(th1=0.2, th2=0.2, th3=0.75, min_plaglen=0),
    "gaps with a floor": Matching(th3=0.7, src_gap_least=2, susp_gap_least=1, min_plaglen=0),
    "at least two sentences": Matching(src_size=2, susp_size=2, th3=0.5, min_plaglen=0),
    "long sentences": Matching(min_sentlen=12, min_plaglen=0),
    "plain counts": Matching(idf="none", th1=0.4),
    "idf over all texts": Matching(idf="corpus"),
    "the other direction": Matching(idea="generation longer", idea_ratio=1.5),
    "wider": Matching(th1=0.15, th2=0.15, th3=0.2, idea_ratio=1.5, verbatim_minlen=400),
}


def texts(seed: int) -> tuple[str, list[str]]:
    """A generation made of bits of six sources, changed in every way, and sentences of its own."""
    generator = np.random.default_rng(seed)
    words = vocabulary(generator, int(generator.integers(30, 150)))
    sources = [document(generator, words, int(generator.integers(1, 14))) for _ in range(6)]
    said = []
    for _ in range(generator.integers(1, 12)):
        source = sources[generator.integers(len(sources))]
        start = int(generator.integers(len(source)))
        piece = source[start : start + int(generator.integers(1, 5))]
        kind = generator.integers(6)
        if kind == 0:
            said += piece
        elif kind == 1:
            said += [substituted(generator, one, words, 0.4) for one in piece]
        elif kind == 2:
            said += piece[::-1]
        elif kind == 3:
            said.append(" ".join(" ".join(piece).replace(".", "").split()[::2]) + ".")
        elif kind == 4:
            said.append(str(generator.choice(["Ba.", "Yes!", "No, no.", "...", "1. 2."])))
        else:
            said.append(sentence(generator, words, 1, 20))
    glue = [" ", "\n", "\n\n", "  \t"]
    join = lambda parts: "".join(part + str(generator.choice(glue)) for part in parts)  # noqa: E731
    return join(said), [join(source) for source in sources]


@pytest.mark.parametrize("name", SETTINGS)
def test_seeds_and_cases_are_those_of_the_literal_implementation(name: str) -> None:
    settings, seen = SETTINGS[name], {"seeds": 0, "cases": 0, "wide": 0, "ideas": 0, "none": 0}
    for seed in range(25):
        generation, sources = texts(seed)
        corpus = Corpus(sources, settings)
        found = {one.source: one for one in corpus.align(generation)}
        for number, source in enumerate(sources):
            expected = literal.align(generation, source, settings, sources)
            if number not in found:
                assert expected.seeds == []
                seen["none"] += 1
                continue
            one = found[number]
            assert sorted(one.seeds) == sorted(expected.seeds)
            assert [(case.generated, case.training) for case in one.cases] == expected.cases
            assert [(case.generated, case.training) for case in one.wide_cases] == expected.wide_cases
            assert one.is_idea == expected.is_idea
            seen["seeds"] += len(one.seeds)
            seen["cases"] += len(one.cases)
            seen["wide"] += one.cases != one.wide_cases
            seen["ideas"] += one.is_idea
    assert seen["seeds"] > 200 and seen["cases"] > 30, seen  # else nothing was compared


def test_the_class_is_that_of_the_literal_implementation() -> None:
    settings, seen = Matching(candidates=6), []
    for seed in range(40):
        generation, sources = texts(seed)
        expected = literal.classify(generation, sources, settings)
        assert Corpus(sources, settings).classify(generation).kind == expected, seed
        seen.append(expected)
    assert {"verbatim", "paraphrase", "none"} <= set(seen)


@pytest.mark.parametrize("minlen", [1, 20, 50, 120, 256])
def test_verbatim_runs_are_those_of_dynamic_programming(minlen: int) -> None:
    """Of every text that has any; and each run that is just long enough lies in one that is given."""
    found_any = 0
    for seed in range(25):
        generation, sources = texts(seed)
        verdict = Corpus(sources, Matching(verbatim_minlen=minlen)).classify(generation)
        ours = words_of(generation)
        for number, source in enumerate(sources):
            theirs = words_of(source)
            runs = [run for run in literal.common_runs(ours, theirs) if literal.characters(ours[slice(*run)]) > minlen]
            cases = [case for case in verdict.cases if case.source == number] if verdict.kind == "verbatim" else []
            covered: set[int] = set()
            for case in cases:
                said = [one.word.form for one in words_of(generation[slice(*case.generated)])]
                assert said == [one.word.form for one in words_of(source[slice(*case.training)])]
                low = [one.start for one in ours].index(case.generated[0])
                assert literal.characters(ours[low : low + len(said)]) > minlen
                covered |= set(range(low, low + len(said)))
            assert covered <= {word for run in runs for word in range(*run)}
            assert {word for run in runs for word in just_long_enough(ours[slice(*run)], run[0], minlen)} <= covered
            if runs:  # the first one is given to its end
                first = min(runs, key=lambda run: (run[0], -run[1]))
                assert min(cases).generated == (ours[first[0]].start, ours[first[1] - 1].end)
            found_any += bool(covered)
    assert found_any >= 1


def just_long_enough(run: Sequence[Found], first: int, minlen: int) -> set[int]:
    """The words of all runs within this one of which no shorter one from the same word exceeds the limit."""
    words: set[int] = set()
    for start in range(len(run)):
        end = next((end for end in range(start + 1, len(run) + 1) if literal.characters(run[start:end]) > minlen), 0)
        words |= set(range(first + start, first + end))
    return words


def test_a_run_is_taken_at_the_place_where_it_is_longest() -> None:
    source = "da me lo ri. ku da me lo zu. da me lo ri na bo fi."
    (case,) = Corpus([source], Matching(verbatim_minlen=9)).classify("ba da me lo ri na bo ti").cases
    assert source[slice(*case.training)] == "da me lo ri na bo" and case.training[0] == 29


def test_the_limit_is_exceeded_and_not_reached() -> None:
    source = "Zeta gamma tau rho alpha omega."
    said = "I said: gamma, tau\n\nrho ALPHA! And more."
    assert len("gamma tau rho alpha") == 19
    for minlen, kind in ((18, "verbatim"), (19, "none")):
        assert Corpus([source], Matching(verbatim_minlen=minlen)).classify(said).kind == kind
    (case,) = Corpus([source], Matching(verbatim_minlen=18)).classify(said).cases
    assert said[slice(*case.generated)] == "gamma, tau\n\nrho ALPHA"
    assert source[slice(*case.training)] == "gamma tau rho alpha"


@pytest.mark.parametrize("longer_first", [True, False])
def test_of_two_places_that_a_passage_is_copied_from_the_longer_one_is_kept(longer_first: bool) -> None:
    words = vocabulary(np.random.default_rng(9), 90)
    distinct = [" ".join(words[at : at + 9]) + "." for at in range(0, 90, 9)]
    whole, between = distinct[:4], distinct[4:]
    parts = [whole, between, whole[:2]] if longer_first else [whole[:2], between, whole]
    source, said = " ".join(map(" ".join, parts)), " ".join(whole)
    (found,) = Corpus([source]).align(said)
    (case,) = found.cases
    assert said[slice(*case.generated)] == source[slice(*case.training)] == said
    assert literal.align(said, source, Matching()).cases == [(case.generated, case.training)]


def test_one_sentence_beside_one_has_seeds_only_by_the_idf_of_all_texts() -> None:
    """By the published weights a word that all sentences of the pair have counts nothing."""
    words = vocabulary(np.random.default_rng(3), 200)
    source = " ".join(words[:12]) + "."
    said = " ".join([*words[:3], "foo", *words[4:7], "bar", *words[8:12]]) + "."
    others = [" ".join(words[start : start + 12]) + "." for start in range(12, 200, 12)]
    assert literal.align(said, source, Matching()).seeds == []
    assert Corpus([source, *others]).classify(said).kind == "none"
    corpus = Corpus([source, *others], Matching(idf="corpus"))
    assert corpus.classify(said).kind == "paraphrase"
    assert [case.source for case in corpus.classify(said).cases] == [0]
