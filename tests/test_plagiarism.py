"""Generated text against training texts: what was planted is found, the prompt does not count, odd text is no harm."""

from __future__ import annotations

import time
import unicodedata

import numpy as np
import pytest

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import measure_all
from byrote.attacks.extraction.plagiarism.attack import Plagiarism
from byrote.attacks.extraction.plagiarism.corpus import Corpus
from byrote.attacks.extraction.plagiarism.documents import join_short
from byrote.attacks.extraction.plagiarism.echo import echoed
from byrote.attacks.extraction.plagiarism.paraphrase import SentencePair, confirm, sentence_pairs
from byrote.attacks.extraction.plagiarism.settings import Matching
from byrote.types import Generation, Record
from evidence import stats
from plagiarism_texts import document, sentence, substituted, vocabulary

GENERATOR = np.random.default_rng(7)
WORDS = vocabulary(GENERATOR, 3000)
SOURCES = [document(GENERATOR, WORDS, 20) for _ in range(60)]
CORPUS = Corpus([" ".join(source) for source in SOURCES])
OTHER = [str(word) for word in vocabulary(GENERATOR, 3400) if word not in set(WORDS)]


EVEN = [[" ".join(WORDS[at : at + 9]) + "." for at in range(90 * n, 90 * (n + 1), 9)] for n in range(12)]
"""Texts of ten sentences of nine words, none of which comes twice."""


def summed_up(source: list[str]) -> str:
    """Two sentences with six between them, each without its last word."""
    return " ".join(" ".join(source[at].split()[:-1]) + "." for at in (1, 8))


def own(count: int) -> list[str]:
    """Sentences in words that no training text has."""
    return [sentence(GENERATOR, OTHER) for _ in range(count)]


# --- what was planted ------------------------------------------------------------------------------


@pytest.mark.parametrize("minlen", [50, 256])
def test_every_verbatim_copy_is_found_in_whatever_text(minlen: int) -> None:
    """Even where the search would not give that text: here it gives one."""
    corpus = Corpus([" ".join(source) for source in SOURCES], Matching(verbatim_minlen=minlen, candidates=1))
    for number, source in enumerate(corpus.texts):
        start = source.index(" ", int(GENERATOR.integers(len(source) // 2))) + 1
        end = source.index(" ", start + minlen + 20)
        said = " ".join([*own(2), source[start:end], *own(1), " ".join(SOURCES[(number + 1) % 60])[:minlen]])
        verdict = corpus.classify(said)
        assert verdict.kind == "verbatim"
        (case,) = [one for one in verdict.cases if one.source == number]
        assert source[slice(*case.training)] == source[start:end].rstrip(".")
        assert said[slice(*case.generated)] == source[start:end].rstrip(".")
        assert source[case.training_sentences[0][0]].isupper() and case.training_sentences[0][0] <= start


@pytest.mark.parametrize("reordered", [False, True])
def test_passages_with_other_words_or_in_another_order_are_paraphrases(reordered: bool) -> None:
    for number in range(20):
        passage = [substituted(GENERATOR, one, OTHER, 0.3) for one in SOURCES[number][5:9]]
        said = own(2) + (passage[::-1] if reordered else passage) + own(2)
        verdict = Corpus(CORPUS.texts, Matching(verbatim_minlen=200)).classify(" ".join(said))
        assert verdict.kind == "paraphrase" and number in verdict.candidates
        case = next(one for one in verdict.cases if one.source == number)
        text = " ".join(said)
        assert set(text[slice(*case.generated)].split(". ")) >= {one.rstrip(".") for one in passage[1:3]}


def test_a_passage_that_sums_up_a_longer_one_is_an_idea_in_the_direction_that_is_asked() -> None:
    texts = [" ".join(source) for source in EVEN]
    forwards = Corpus(texts, Matching(verbatim_minlen=200))
    backwards = Corpus(texts, Matching(idea="generation longer", verbatim_minlen=200))
    for number, source in enumerate(EVEN):
        said = summed_up(source)
        verdict = forwards.classify(said)
        assert verdict.kind == "idea"
        (case,) = verdict.cases
        assert case.source == number and case.generated == (0, len(said))
        assert len(case.training_sentences) == 8 and case.training[0] == len(source[0]) + 1
        assert backwards.classify(said).kind == "paraphrase"
        others = [said, *texts[:number], *texts[number + 1 :]]
        assert Corpus(others, backwards.settings).classify(texts[number]).kind == "idea"
        assert Corpus(others, forwards.settings).classify(texts[number]).kind == "paraphrase"


def test_text_of_its_own_is_nothing() -> None:
    verdicts = [CORPUS.classify(" ".join(own(8))) for _ in range(30)]
    assert {verdict.kind for verdict in verdicts} == {"none"}


def test_the_first_class_that_fits_is_the_only_one() -> None:
    rewritten = [substituted(GENERATOR, one, OTHER, 0.3) for one in SOURCES[4][5:9]]
    corpus = Corpus([*CORPUS.texts, *(" ".join(source) for source in EVEN)], Matching(verbatim_minlen=200))
    assert corpus.classify(" ".join(rewritten)).kind == "paraphrase"
    assert corpus.classify(" ".join([*rewritten, summed_up(EVEN[3])])).kind == "idea"
    assert corpus.classify(" ".join([*rewritten, summed_up(EVEN[3]), *SOURCES[5][:3]])).kind == "verbatim"


# --- the prompt ------------------------------------------------------------------------------------


def test_what_only_repeats_the_prompt_does_not_count() -> None:
    prompt, rest = " ".join(SOURCES[1][:6]), " ".join(SOURCES[1][6:])
    assert CORPUS.classify(prompt).kind == "verbatim"
    verdict = CORPUS.classify("Well: " + prompt, prompt)
    assert verdict.kind == "none" and verdict.echoed == ((6, len(prompt) + 5),)
    verdict = CORPUS.classify(prompt + " " + rest, prompt)
    assert verdict.kind == "verbatim"
    assert {case.generated[0] for case in verdict.cases} == {len(prompt) + 1}, "the rest still counts, from its start"


def test_a_run_does_not_go_on_across_what_was_left_out() -> None:
    before, middle, after = (" ".join(WORDS[at : at + 9]) for at in (0, 9, 18))
    corpus = Corpus([f"{before} {after}"], Matching(verbatim_minlen=max(len(before), len(after)) + 5))
    assert corpus.classify(f"{before} {after}", prompt=middle).kind == "verbatim"
    assert corpus.classify(f"{before} {middle} {after}", prompt=middle).kind != "verbatim"


def test_echo_is_eight_words_or_a_whole_sentence() -> None:
    prompt = "one two three four five six seven eight nine. Quite so short. No."
    cases = {
        "zero One two, three four\nfive six SEVEN eight zero": ["One two, three four\nfive six SEVEN eight"],
        "zero one two three four five six seven zero": [],
        "I said. Quite so short. And no.": ["Quite so short"],
        "It is quite so short.": [],
        "No. No.": [],
        "three four five six seven eight nine quite so": ["three four five six seven eight nine quite so"],
        "": [],
    }
    for said, expected in cases.items():
        assert [said[slice(*span)] for span in echoed(said, prompt)] == expected
    assert echoed("anything at all", "") == ()


# --- odd text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", " \n\t ", "...!?", "\0", "____", "\u00ad\u200d", "🙂🙂", "\ud800", "a"])
def test_text_without_words_is_nothing(said: str) -> None:
    assert CORPUS.classify(said, prompt=said).kind == "none"
    assert CORPUS.classify(said, prompt="some prompt").cases == ()
    assert Corpus([said, ""]).classify("Some words that are said here.").kind == "none"
    assert Corpus([]).classify(said).kind == "none"


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "full width", "capitals", "soft hyphens"])
def test_unicode_forms_compare_equal_and_places_are_those_of_the_text(form: str) -> None:
    text = "Cette façade déjà vue était l’œuvre naïve d’un élève zélé, très tôt repéré à Besançon."
    change = {
        "full width": lambda one: "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in one),
        "capitals": str.upper,
        "soft hyphens": lambda one: one.replace("ç", "ç\u00ad"),
    }
    said = change[form](text) if form in change else unicodedata.normalize(form, text)
    for left, right in ((text, said), (said, text)):
        (case,) = Corpus(["Rien. " + left]).classify("Oh ! " + right).cases
        assert case.generated == (5, 5 + len(right) - 1)
        assert case.training == (6, 6 + len(left) - 1)


@pytest.mark.parametrize(
    "text",
    [
        "这座城市的老图书馆收藏了许多珍贵的手稿，每年春天都会向公众开放展览，吸引了来自各地的学者和游客前来参观。",
        "この街の古い図書館には貴重な写本が数多く収められており、毎年春になると一般の人々にも公開されています。",
        "ห้องสมุดเก่าแก่ของเมืองนี้เก็บรักษาต้นฉบับล้ำค่าไว้มากมายและเปิดให้ประชาชนเข้าชมทุกปี",
        "इस शहर का पुराना पुस्तकालय अनेक दुर्लभ पांडुलिपियाँ सुरक्षित रखता है और हर वसंत में जनता के लिए खुलता है।",
        "تحتفظ المكتبة القديمة في هذه المدينة بالعديد من المخطوطات النادرة وتفتح أبوابها للجمهور كل ربيع.",
        "Старая библиотека этого города хранит множество редких рукописей и каждую весну открыта для публики.",
    ],
    ids=["Chinese", "Japanese", "Thai", "Hindi", "Arabic", "Russian"],
)
def test_other_scripts_are_read(text: str) -> None:
    corpus = Corpus(["Something else.", text], Matching(verbatim_minlen=30))
    said = "So: " + unicodedata.normalize("NFD", text)
    (case,) = corpus.classify(said).cases
    assert case.source == 1
    assert unicodedata.normalize("NFC", said[slice(*case.generated)]) == unicodedata.normalize("NFC", text).rstrip(
        "。।."
    )
    half = text[: len(text) // 4]
    assert corpus.classify(half + " foo " + half).kind != "verbatim"


HOSTILE = {
    "groups": "(a+)+$ " * 20_000,
    "brackets": "([{<" * 50_000,
    "quotes": "\"'“‘«" * 40_000,
    "dots": "." * 200_000,
    "lines": "a\n\n" * 70_000,
    "one word": "a" * 200_000,
    "accents": "e" + "\u0301" * 200_000,
    "numbers": "1.2.3.4. " * 22_000,
    "backslashes": "\\" * 200_000,
    "abbreviations": "e.g. Mr. A. B. i.e. " * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_no_longer_than_other_text(name: str) -> None:
    start = time.perf_counter()
    CORPUS.classify(HOSTILE[name])
    CORPUS.classify(HOSTILE[name], prompt=HOSTILE[name][:1000])
    Corpus([HOSTILE[name], "b"]).classify(HOSTILE[name][:50_000])
    assert time.perf_counter() - start < 20


def megabyte(kind: str, size: int) -> str:
    words, source = " ".join(WORDS), " ".join(SOURCES[0])
    unit = {"prose": " ".join(own(300)), "endless": words.replace(".", ""), "copies": " ".join(CORPUS.texts)}.get(kind)
    unit = unit or {"loop": SOURCES[0][4] + " ", "mixed loop": source.replace(WORDS[0], "ba") + " "}[kind]
    return (unit * (size // len(unit) + 1))[:size]


@pytest.mark.parametrize("kind", ["prose", "endless", "copies", "loop", "mixed loop"])
def test_a_megabyte_takes_seconds_and_none_of_it_is_left_out(kind: str) -> None:
    said, end = megabyte(kind, 1_000_000), " ".join(SOURCES[33][3:7])
    start = time.perf_counter()
    verdict = CORPUS.classify(said + "\n\n" + end)
    assert time.perf_counter() - start < 30
    assert verdict.kind == "verbatim"
    last = max(case.generated for case in verdict.cases if case.source == 33)
    assert last == (len(said) + 2, len(said) + 2 + len(end) - 1)
    CORPUS.align(said, range(10))  # what would be aligned, were nothing verbatim
    assert time.perf_counter() - start < 60


# --- parts -----------------------------------------------------------------------------------------


def test_short_sentences_are_joined_to_the_next() -> None:
    assert join_short(np.array([5, 1, 0, 1, 4, 0, 2, 3]), 3) == [(0, 0), (1, 4), (6, 7)]
    assert join_short(np.array([3, 1]), 3) == [(0, 0), (1, 1)], "the last one has no next"
    assert join_short(np.array([0, 0]), 3) == []


def test_a_paraphrase_is_confirmed_by_any_pair_above_the_threshold() -> None:
    pairs = [SentencePair("A b c.", "A b d."), SentencePair(" same ", "Same"), SentencePair("x", "y")]
    assert confirm(pairs, [0.2, 0.99, 0.5]) == "unconfirmed", "a sentence is no paraphrase of itself"
    assert confirm(pairs, [0.51, 0.0, 0.0]) == "confident"
    assert confirm(pairs, [0.51, 0.0, 0.0], threshold=0.6) == "unconfirmed"
    assert confirm([], []) == "unconfirmed"
    with pytest.raises(ValueError, match="3 pairs but 1 scores"):
        confirm(pairs, [0.1])


def test_the_sentence_pairs_are_those_inside_the_cases() -> None:
    passage = [substituted(GENERATOR, one, OTHER, 0.4) for one in SOURCES[8][5:7]]
    said = " ".join(own(1) + passage + own(1))
    verdict = CORPUS.classify(said)
    assert verdict.kind == "paraphrase"
    expected = {(ours, theirs) for ours in passage for theirs in SOURCES[8][5:7]}
    assert set(sentence_pairs(verdict, said, CORPUS)) == expected


# --- the measure -----------------------------------------------------------------------------------


def wrote(text: str, given: str = "", follows: str = "more") -> Evidence:
    generation = Generation(text, (), True)
    record = Record(f"{text} after {given}", given + follows)
    return Evidence(record, stats([-1.0]), continuations=(generation,), given=(given,), follows=(follows,))


def test_the_measure_gives_each_record_its_class() -> None:
    rewritten = " ".join(substituted(GENERATOR, one, OTHER, 0.3) for one in SOURCES[4][5:9])
    sources = [*CORPUS.texts, " ".join(EVEN[3])]
    copied = " ".join(SOURCES[5][:3])
    side = [wrote(one) for one in (copied, rewritten, summed_up(EVEN[3]), " ".join(own(5)), "")]
    side += [wrote(copied, given=copied), wrote("x", follows=" ")]
    measure = Plagiarism(verbatim_minlen=200, encoder=None)  # no one confirms that what is rewritten says the same
    assert tuple(measure.metrics) == ("verbatim", "paraphrase", "idea", "unconfirmed", "any")
    nothing = (0, 0, 0, 0, 0)
    found = measure_all(measure, side, sources)
    assert found[:6] == [(1, 0, 0, 0, 1), (0, 0, 0, 1, 0), (0, 0, 1, 0, 1), nothing, nothing, nothing]
    assert found[6] == "nothing of it follows its first 50 tokens (prefix_tokens)"
    assert measure_all(measure, side[:1], ["Something else."]) == [nothing]
