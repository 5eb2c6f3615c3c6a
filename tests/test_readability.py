"""Readability formulas: their authors' own tables and texts; and what a study generates for them, and shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from byrote.registry import make
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.types import Generation, Record, TokenStats, Unscorable
from byrote.utility.base import Observation
from byrote.utility.coleman_liau import ColemanLiau
from byrote.utility.flesch_kincaid_grade import FleschKincaidGrade
from byrote.utility.flesch_reading_ease import FleschReadingEase
from byrote.utility.readability import Counts, Readability, counts
from byrote.utility.smog import Smog
from byrote.utility.syllables import syllables
from small_study import leave_out_what_is_slow, make_folder, study_of

ALL: tuple[Readability, ...] = (FleschReadingEase(), FleschKincaidGrade(), Smog(), ColemanLiau())
# The abstract of Coleman and Liau 1975.
ABSTRACT = (
    "Existing computer programs that measure readability are based largely upon subroutines which estimate number of "
    "syllables, usually by counting vowels. The shortcoming in estimating syllables is that it necessitates "
    "keypunching the prose into the computer. There is no need to estimate syllables since word length in letters is "
    "a better predictor of readability than word length in syllables. Therefore, a new readability formula was "
    "computed that has for its predictors letters per 100 words and sentences per 100 words. Both predictors can be "
    "counted by an optical scanning device, and thus the formula makes it easy for an organization such as the U.S. "
    "Office of Education to calibrate the readability of all textbooks for the public school system."
)


def graded(measure: Readability, words: float, sentences: float, syllables: float = 0.0, many: float = 0.0) -> float:
    return float(measure.value(np.array([words, sentences, syllables, many, 0.0] + [0.0] * 5)))


@pytest.mark.parametrize(
    ("per_sentence", "per_100_words", "low", "high"),
    [(8, 123, 90, 100), (11, 131, 80, 90), (14, 139, 70, 80), (17, 147, 60, 70), (21, 155, 50, 60), (25, 167, 30, 50),
     (29, 192, 0, 30)],
)  # fmt: skip
def test_reading_ease_is_that_of_fleschs_table(per_sentence: int, per_100_words: int, low: int, high: int) -> None:
    """Flesch 1948: typical sentences and syllables of seven styles, from "very easy" to "very difficult"."""
    assert low < graded(FleschReadingEase(), 100 * per_sentence, 100, per_100_words * per_sentence) < high


def test_flesch_kincaid_is_that_of_its_report() -> None:
    assert graded(FleschKincaidGrade(), 1, 1, 1) == pytest.approx(-3.4)  # the lowest that there is
    assert graded(FleschKincaidGrade(), 200, 10, 300) == pytest.approx(0.39 * 20 + 11.8 * 1.5 - 15.59)


def test_smog_is_that_of_mclaughlins_conversion_table() -> None:
    """Words of three syllables or more in 30 sentences, and the grade: 3 and the root of the nearest square."""
    for fewest, most, grade in ((3, 6, 5), (13, 20, 7), (43, 56, 10), (91, 110, 13), (183, 210, 17)):
        for count in (fewest, most):
            assert graded(Smog(), 1000, 30, 0, count) == pytest.approx(grade, abs=1.3)
    assert graded(Smog(), 1000, 30) == pytest.approx(3.1291)


def test_coleman_and_liaus_own_abstract_is_counted_right() -> None:
    found = Counts(*map(np.float64, counts(ABSTRACT)))
    # It is known to have 119 words in 5 sentences, two of which are the figure 100; and at 537 letters and 4.20
    # sentences for 100 words, grade 14.5.
    assert (found.words, found.sentences) == (119 - 2, 5)
    assert found.letters == sum(letter.isalpha() for letter in ABSTRACT)
    assert float(ColemanLiau().value(np.array([100.0, 4.20, 0, 0, 537.0] + [0.0] * 5))) == pytest.approx(14.5, abs=0.05)


def test_syllables_are_those_that_are_spoken() -> None:
    # The first three are Flesch's own examples.
    spoken = {
        1: "asked the strengths whole eyes edge moved makes we're",
        3: "determined readily media period element usual created syllable",
        5: "pronunciation association university identifier individual",
        2: "table wanted boxes doesn't being patient people houses quiet lonely careful movement player's",
        4: "identify automation material experience mechanism",
    }
    found = {count: [word for word in words.split() if syllables(word) != count] for count, words in spoken.items()}
    assert found == {count: [] for count in spoken}


def test_words_and_sentences_are_counted_as_flesch_does() -> None:
    one = Counts(*map(np.float64, counts('He said: "Don\'t, it is a well-known café!" Then 42 of them left.')))
    assert (one.words, one.sentences) == (12, 2)
    assert one.letters == len("HesaidDontitisawellknowncaféThenofthemleft")
    assert counts("") == counts("42 - 17 = 25.") == counts("Привет, мир.") == (0.0,) * 5
    assert counts("half \ud83d of a pair") == counts("half of a pair")


@pytest.mark.parametrize("measure", ALL, ids=lambda one: one.name)
def test_counts_of_parts_make_the_number_of_the_whole(measure: Readability) -> None:
    parts = [part.strip() + "." for part in ABSTRACT.split(". ") if "U.S" not in part][:4]
    empty = np.zeros(0, np.float32)
    stats = TokenStats(empty, empty, empty, empty.astype(np.int32))

    def seen(said: str, follows: str) -> Observation:
        return Observation(Record("a", "x"), stats, (), Generation(said, (5,), False), follows)

    rows = [measure.measure(seen(said, true)) for said, true in zip(parts, reversed(parts), strict=True)]
    whole = measure.measure(seen(" ".join(parts), " ".join(reversed(parts))))
    assert measure.value(np.sum(rows, 0)) == pytest.approx(measure.value(np.array(whole)))
    assert measure.reference(np.sum(rows, 0)) == pytest.approx(measure.value(np.array(whole))), "the same sentences"
    with pytest.raises(Unscorable, match="no word in Latin letters was generated"):
        measure.measure(seen("42.", "a word"))
    assert np.isnan(measure.reference(np.array(measure.measure(seen("a word", "42."))))), "nothing to compare with"


@pytest.mark.parametrize("objective", ["lm", "completion"])
def test_a_study_shows_generated_text_beside_the_records_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    leave_out_what_is_slow(monkeypatch)
    rng = np.random.default_rng(3)
    words = [" ".join(rng.choice([f"w{at}" for at in range(60)], 14)) for _ in range(80)]
    folder = make_folder(tmp_path, words)
    rows = [json.dumps({"q": one[: len(one) // 2].rpartition(" ")[0], "a": one.rpartition(" ")[2]}) for one in words]
    (folder / "pairs.jsonl").write_text("\n".join(rows))
    completed = {"source": str(folder / "pairs.jsonl"), "prompt": "q", "completion": "a", "near_duplicates": 1.0}
    measures = [{"name": name, "max_new_tokens": 5} for name in ("flesch-kincaid-grade", "coleman-liau")]
    own = {"data": completed} if objective == "completion" else {}
    if objective == "lm":
        measures = [{**one, "prefix_tokens": 6} for one in measures]
    study = study_of(folder, utility=measures, epochs=1, attacks=["loss"], **own)
    # The words of the random model are letters with a number, of which a formula reads the letters.
    results = run(study, tmp_path / "out")
    assert not results.failed
    found = {(row.method, row.metric): row for row in results.rows if row.kind == "utility"}
    base, tuned = found["none", "flesch-kincaid-grade"], found["full", "flesch-kincaid-grade"]
    truth = found["none", "flesch-kincaid-grade-of-the-records"]
    assert ("full", "flesch-kincaid-grade-of-the-records") not in found
    assert base.value is not None and tuned.null_value == base.value and tuned.n == truth.n == 5
    # By hand, from the texts that were kept: what follows, no further than could be written, and what was written.
    run_id = next(cell.run_id for cell in Manifest.read(tmp_path / "out").cells if cell.method == "full")
    (place,) = (tmp_path / "out/runs" / run_id).glob("generations/*.parquet")
    texts = pyarrow.parquet.read_table(place)["text"].to_pylist()
    assert len(texts) == 5
    measure = make("utility", measures[0])
    assert isinstance(measure, Readability)
    said = np.sum([counts(text) for text in texts], 0)
    assert tuned.value == pytest.approx(float(measure.value(np.array([*said, *said]))))
    test = {row["record_id"] for row in pyarrow.parquet.read_table(tmp_path / "out/splits.parquet").to_pylist()
            if row["split"] == "test"}  # fmt: skip
    assert len(test) == 5
    follows = 5 if objective == "lm" else 1
    per_sentence = 0.39 * follows + 11.8 - 15.59  # every word has one syllable, and every text is one sentence
    assert truth.value == pytest.approx(per_sentence)
    line = "own is best. Made with greedy decoding, at most 5 new tokens. The records' own text has"
    assert line in report_markdown(results) and "the nearest to the records&#39; own is best" in report_html(results)


def test_labels_are_not_read_for_readability(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with pytest.raises(ValueError, match="smog reads generated text, but objective: classification gives labels"):
        study_of(folder, objective="classification", utility=["smog"], attacks=[])
