"""What is measured of written text, beside what truly follows; whose numbers stand for all records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.longest_common import LongestCommon
from byrote.attacks.extraction.near_verbatim import NearVerbatim
from byrote.runner.context import Context
from byrote.runner.one import BaseRun
from byrote.runner.progress import Progress
from byrote.runner.study import run
from byrote.runner.witness import Witness
from byrote.store import Store
from byrote.types import Generation
from conftest import make_model, make_texts, make_tokenizer
from small_study import make_folder, study_of
from test_extraction import extraction_rows, numbers, one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("small"), make_texts(80, 1, 8, 20))


def wrote(said: str, truth: str) -> Evidence:
    written = Generation(said, (1,), False)
    return one([0] * 3, continuations=(written,), given=("",), follows=(truth,), as_long=(said,), rests=(truth,))


def test_near_verbatim_counts_what_a_reader_would_call_the_same() -> None:
    truth = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm afternoon sun"
    off = truth.replace("lazy", "lame")  # two letters of 88
    texts = (truth, off, truth[: len(truth) // 2], "", "rain fell on the harbour", f"  {truth}\n")
    found = numbers(NearVerbatim(), *(wrote(said, truth) for said in texts))
    near, bleu_above, similarity, bleu, rouge = (list(column) for column in zip(*found, strict=True))
    assert near == [1, 1, 0, 0, 0, 1] and bleu_above == [1, 1, 0, 0, 0, 1]
    assert similarity[:2] == [1, pytest.approx(1 - 2 / len(truth))] and similarity[3] == bleu[3] == rouge[3] == 0
    assert similarity[2] == pytest.approx(0.5, abs=0.02) and rouge[0] == pytest.approx(1)
    assert rouge[0] > rouge[1] > rouge[2] > rouge[4]
    assert numbers(NearVerbatim(edit_distance=0.0), wrote(off, truth))[0][0] == 0.0
    assert "nothing of it follows" in numbers(NearVerbatim(), wrote("words", " "))[0]


def test_what_follows_the_end_of_a_record_is_not_held_against_it(folder: Path, tmp_path: Path) -> None:
    truth = "the quick brown fox jumps over the lazy dog"
    knows = replace(wrote(f"{truth} and a hundred words more that no record has", truth), as_long=(truth,))
    assert numbers(NearVerbatim(), knows)[0][:3] == (1.0, 1.0, 1.0)
    study = study_of(folder, attacks=[{"name": "near-verbatim", "prefix_tokens": 4, "max_new_tokens": 20}])
    run(study, tmp_path)
    context = Context(study, Path(), Store(tmp_path / "runs"), Progress())
    base, background = BaseRun(context, context.base()), context.background(0)
    (measure,) = study.attacks_of("extraction")
    for record in context.splits(0).members:
        found = Witness(base, base, 0, background).of(measure, record)
        ids = found.continuations[0].tokens
        follow = len(context.tokenizer(record.text)["input_ids"]) - 4
        assert follow < 20 and found.as_long == (context.tokenizer.decode(ids[:follow], skip_special_tokens=True),)


def test_what_is_written_may_be_drawn(folder: Path, tmp_path: Path) -> None:
    warm = {"name": "longest-common", "prefix_tokens": 4, "max_new_tokens": 6, "do_sample": True, "temperature": 0.8}
    with pytest.raises(ValidationError, match="need do_sample: true"):
        study_of(folder, attacks=[warm | {"do_sample": False}])
    study = study_of(
        folder, attacks=["loss", warm | {"do_sample": False, "temperature": 1.0}, warm, warm | {"seed": 1}]
    )
    run(study, tmp_path)
    found = {
        key[3]: row.value
        for key, row in extraction_rows(tmp_path).items()
        if key[:2] == ("full", 2) and key[4] == "words"
    }
    assert len(found) == 3 and len(set(found.values())) == 3, found  # greedy, and two draws


def test_longest_common_is_by_the_length_of_what_truly_follows() -> None:
    (found,) = numbers(LongestCommon(), wrote("xx abc yy def", "abc def"))
    assert found == (pytest.approx(4 / 7), 1.0, 1.0)  # " def"; all of it in order; both words
    assert numbers(LongestCommon(), wrote("", "abc def")) == [(0.0, 0.0, 0.0)]
    long = "word " * 200_000
    assert numbers(LongestCommon(), wrote(long, "word word other")) == [(10 / 15, pytest.approx(12 / 15), 2 / 3)]


def test_repeated_members_weigh_no_more_among_all_members_than_they_are(folder: Path, tmp_path: Path) -> None:
    plants = [{"name": "duplicates", "copies": [3], "members": 3}]
    measure = {"name": "k-extractable", "prefix_tokens": 1, "suffix_tokens": 1, "records": 4}
    study = study_of(folder, plants=plants, attacks=["loss", measure], seeds=[0, 1])
    results = run(study, tmp_path)
    evidence = results.evidence
    assert any(
        "copies=3" in evidence.part(seed, "member").slices[4:] for seed in (0, 1)
    )  # more of them are asked about
    rows = [row for row in results.rows if row.name == "k-extractable" and row.seed is not None]
    assert {row.n for row in rows if row.metric == "share" and row.slice in ("", "nonmembers")} == {4}
    assert {row.n for row in rows if row.metric == "share" and row.slice == "copies=3"} == {3}


def test_an_audit_without_an_untuned_model_does_not_speak_of_one(tmp_path: Path) -> None:
    from byrote import audit

    members, nonmembers = make_texts(12, 1, 8, 20), make_texts(12, 2, 8, 20)
    asked = ["extraction-strength", {"name": "exact-memorisation", "prefix_tokens": 3, "suffix_tokens": None}]
    audit(
        make_model("llama"),
        members,
        nonmembers,
        tokenizer=make_tokenizer(),
        base=None,
        attacks=asked,
        out=tmp_path,
    )
    said = (tmp_path / "report.md").read_text()
    assert "No untuned model was asked" in said and "beyond" not in said.split("## What comes out")[1].split("##")[0]
    assert "strength-vs-nonmembers" in (tmp_path / "results.csv").read_text()
