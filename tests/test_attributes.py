"""Secrets in records: whether a model writes them, and whether it tells them from others."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byrote.attacks.base import Background, Evidence
from byrote.attacks.extraction.attribute_inference import AttributeInference
from byrote.attacks.extraction.base import measure_all
from byrote.attacks.extraction.field_recall import FieldRecall
from byrote.data.base import Columns
from byrote.data.load import load
from byrote.report.results import Results
from byrote.runner.context import Context
from byrote.runner.extraction import extraction_name
from byrote.runner.progress import Progress
from byrote.runner.study import run
from byrote.store import Store
from byrote.types import Generation, Query, Record, StudyError, TokenStats
from conftest import WORDS
from evidence import stats
from small_study import count_work, leave_out_what_is_slow, make_folder, study_of
from test_canaries import SMALL

COLOURS = WORDS[10:14]
NO_BACKGROUND = Background()
RECORD = Record("a", "name Ann Lee, phone 12 34, end", attributes=(("name", "Ann Lee"), ("phone", "12 34")))
COMPLETION = Background(of="completion")


def said(*texts: str, **fields: Any) -> tuple[Generation, ...]:
    return tuple(Generation(text, (1, 2, 3), fields.get("ended", True), fields.get("reason", "")) for text in texts)


def recall(record: Record, *texts: str, background: Background = NO_BACKGROUND, **fields: Any) -> Any:
    evidence = Evidence(record, stats([-1.0]), background=background, continuations=said(*texts, **fields))
    return measure_all(FieldRecall(), [evidence], ())[0]


# --- recall --------------------------------------------------------------------------------------


def test_a_model_is_given_the_text_before_each_attribute() -> None:
    first, second = FieldRecall().openings(RECORD, Background())
    assert (first.record.text, second.record.text) == ("name", "name Ann Lee, phone")
    for one in (first, second):
        assert (one.record.id, one.prefix_tokens, one.decoding.do_sample) == ("a", None, False)
        assert (one.record.prompt, one.record.completion) == (one.record.text, "")


def test_an_attribute_is_recalled_where_what_is_written_begins_with_it() -> None:
    assert recall(RECORD, "Ann Lee, phone", "12 34") == (1.0,)
    assert recall(RECORD, "  ann\n LEE", "12 35") == (0.5,)
    assert recall(RECORD, "Ann Leeward", "it is 12 34") == (0.0,)
    assert recall(RECORD, "", "") == (0.0,)
    last = replace(RECORD, text="name Ann Lee", attributes=RECORD.attributes[:1])
    assert recall(last, "Ann Leeward") == (1.0,)  # the record ends there: whatever follows is no part of it
    short = recall(RECORD, "Ann", "12 34", ended=False)
    assert short == "an attribute is longer than the 3 tokens that the model wrote"
    assert recall(RECORD, "Bob", "12 34", ended=False) == (0.5,)
    assert recall(RECORD, "Ann Lee", "12", reason="no room") == "no room"
    assert "it has no attribute to recall" in recall(Record("b", "nothing"))
    assert "was not asked" in recall(RECORD)


def test_what_only_a_prompt_holds_is_not_asked() -> None:
    record = Record("a", "name Ann\nphone 12 34", prompt="name Ann", completion="phone 12 34",
                    attributes=(("name", "Ann"), ("phone", "12 34")))  # fmt: skip
    (opening,) = FieldRecall().openings(record, COMPLETION)
    assert opening.record.text == "name Ann\nphone" and opening.record.completion == ""
    assert recall(record, "12 34", background=COMPLETION) == (1.0,)
    whole = replace(record, attributes=(("said", "phone 12 34"),))
    assert FieldRecall().openings(whole, COMPLETION)[0].record.text == "name Ann\n"


def test_of_a_chat_the_beginning_of_the_answer_is_asked() -> None:
    chat = Record("a", "user: who\nassistant: 12 34", messages=(("user", "who"), ("assistant", "12 34")),
                  attributes=(("secret", "12 34"),))  # fmt: skip
    assert [one.record for one in FieldRecall().openings(chat, COMPLETION)] == [chat]
    within = replace(chat, attributes=(("secret", "34"),))
    assert not FieldRecall().openings(within, COMPLETION)
    assert "no attribute to recall" in recall(within, background=COMPLETION)


# --- inference -----------------------------------------------------------------------------------

VALUES = Background(values={("", "name"): ("Ann Lee", "Bob", "Cy", "Di", "Di"), ("", "phone"): ("12 34", "5")})


def answered(likelihoods: dict[str, float], measure: AttributeInference, record: Record = RECORD) -> Evidence:
    """Of each text the log-probability that stands there, as two tokens of half as much."""
    found: dict[str, TokenStats] = {}
    for query in measure.queries(record, VALUES):
        value = next(value for text, value in likelihoods.items() if text in query.record.text)
        found[query.key] = stats([value / 2, value / 2])
    own = likelihoods["12 34"]
    return Evidence(record, stats([own / 2, own / 2]), background=VALUES, answers=found)


def test_candidates_are_the_values_of_other_records() -> None:
    one = replace(RECORD, attributes=RECORD.attributes[:1])
    measure = AttributeInference(candidates=9)
    assert measure.others(one, "name", "Ann Lee", VALUES) == ["Bob", "Cy", "Di"]
    texts = [query.record.text for query in measure.queries(one, VALUES)]
    assert texts == [f"name {name}, phone 12 34, end" for name in ("Bob", "Cy", "Di")]
    many = Background(values={("", "name"): ("Ann Lee", *(f"x{at}" for at in range(50)))})
    drawn = [AttributeInference(seed=seed).others(one, "name", "Ann Lee", many) for seed in (0, 0, 1)]
    assert len(set(drawn[0])) == 9 and drawn[0] == drawn[1] != drawn[2] and "Ann Lee" not in drawn[0]
    canary = replace(one, slice="canary:personal-data copies=4")
    assert AttributeInference().others(canary, "name", "Ann Lee", VALUES) == []


@pytest.mark.parametrize(
    ("others", "accuracy", "rank"),
    [((-9.0, -8.0, -7.0), 1.0, 1.0), ((-4.0, -8.0, -7.0), 0.0, 2 / 3), ((-5.0, -5.0, -7.0), 1 / 3, (1 + 2 / 2) / 3)],
)
def test_the_likeliest_candidate_is_the_guess(others: tuple[float, ...], accuracy: float, rank: float) -> None:
    record, measure = replace(RECORD, attributes=RECORD.attributes[:1]), AttributeInference()
    likelihoods = dict(zip(("name Bob", "name Cy", "name Di"), others, strict=True)) | {"12 34": -5.0}
    found = measure_all(measure, [answered(likelihoods, measure, record)], ())[0]
    assert found == (pytest.approx(accuracy), pytest.approx(rank), 0.0)  # Di is the commonest of the four
    both = answered({**likelihoods, "phone 5": -3.0, "12 34": -5.0}, measure, RECORD)
    (mean,) = measure_all(measure, [both], ())
    assert mean == (pytest.approx(accuracy / 2), pytest.approx(rank / 2), pytest.approx(0.5 / 2))


def test_what_cannot_be_inferred_has_a_reason() -> None:
    measure = AttributeInference()
    evidence = answered({"": -5.0, "12 34": -5.0}, measure)
    cut = replace(evidence, target=replace(stats([-1.0]), truncated_tokens=2))
    alone = replace(evidence, background=Background(values={("", "name"): ("Ann Lee",)}))
    reasons = measure_all(measure, [cut, alone, replace(evidence, record=Record("b", "x"))], ())
    assert "longer than max_length" in reasons[0]
    assert reasons[1] == "no other record has another name"
    assert "no attribute to infer" in reasons[2]


def test_an_attribute_is_replaced_wherever_it_stands() -> None:
    measure = AttributeInference()
    parts = Record("a", "Ann Lee\nsays 12 34", prompt="Ann Lee", completion="says 12 34",
                   attributes=(("phone", "12 34"),))  # fmt: skip
    (query,) = measure.queries(parts, VALUES)
    assert (query.record.text, query.record.prompt, query.record.completion) == ("Ann Lee\nsays 5", "Ann Lee", "says 5")
    chat = replace(parts, prompt=None, completion=None, messages=(("user", "Ann Lee"), ("assistant", "says 12 34")))
    assert measure.queries(chat, VALUES)[0].record.messages == (("user", "Ann Lee"), ("assistant", "says 5"))


# --- in a study ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("attributes"))


def numbers(out: Path, measure: str) -> dict[tuple[str, str, str], Any]:
    rows = Results.read(out).rows
    return {
        (row.method, row.metric, row.slice): row for row in rows if row.kind == "extraction" and row.name == measure
    }


def test_what_is_repeated_is_recalled_and_inferred(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of canaries of known words, recall is greedy extraction of their second halves, record by record."""
    leave_out_what_is_slow(monkeypatch)
    plant = {**SMALL, "families": ["random-token"], "controls": 40}
    attacks = ["field-recall", "attribute-inference", {"name": "k-extractable", "prefix_tokens": 4, "suffix_tokens": 4}]
    study = study_of(folder, plants=[plant], attacks=attacks, epochs=6, learning_rate=1e-2)
    results = run(study, tmp_path)
    assert [cell.error for cell in results.failed] == []
    learned, controls = "canary:random-token copies=8", "canary:random-token copies=8 nonmembers"
    found = numbers(tmp_path, "field-recall")
    assert found["full", "recall", learned].value > 0.8 and found["full", "recall", controls].value == 0.0
    assert found["full", "recall", learned].null_value == 0.0
    assert "no attribute to recall" in found["full", "recall", ""].reason
    inferred = numbers(tmp_path, "attribute-inference")
    assert inferred["full", "accuracy", learned].value == inferred["full", "rank", learned].value == 1.0
    assert inferred["full", "accuracy", controls].value < 0.4
    assert inferred["none", "rank", controls].low < 0.5 < inferred["none", "rank", controls].high
    assert inferred["full", "prior-accuracy", learned].value == pytest.approx(0.1)
    cell = next(cell for cell in results.manifest.cells if cell.method != "none")
    kept = (
        results.manifest.store(tmp_path).run(cell.run_id).read_table(extraction_name(results.manifest.extractions["0"]))
    )
    assert kept is not None
    by = {(row["measure"], row["record_id"]): row["statistics"] for row in kept.to_pylist() if row["epoch"] == 6}
    canaries = [record for _, record in by if record.startswith("canary:")]
    assert len(set(canaries)) == 12 + 40
    assert all(by["field-recall", record] == by["k-extractable", record] for record in canaries)


def secret_rows() -> list[dict[str, Any]]:
    """80 texts with one of four colours, and a code that is in the text of every other one; no word is in another."""
    generator = np.random.default_rng(4)
    rows = []
    for at in range(80):
        words = [WORDS[i] for i in generator.integers(30, 60, 8)]
        colour, code = COLOURS[at % 4], WORDS[14 + at % 16]
        text = " ".join([*words[:4], colour, *words[4:], *([code] if at % 2 else [])])
        rows.append({"text": text, "colour": colour, "code": code})
    return rows


def test_columns_of_the_data_are_attributes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which columns they are changes no run: it is asked anew of the model that is there."""
    leave_out_what_is_slow(monkeypatch)
    source = folder / "secrets.jsonl"
    source.write_text("\n".join(map(json.dumps, secret_rows())))
    done = count_work(monkeypatch)
    measure = {"name": "attribute-inference", "candidates": 4}

    def ask(*columns: str) -> dict[tuple[str, str, str], Any]:
        data = {"source": str(source), "text": "text", "attributes": list(columns), "near_duplicates": 1.0}
        run(study_of(folder, data=data, attacks=[measure], keep="all"), tmp_path)
        return numbers(tmp_path, "attribute-inference")

    ids, ranks = [], []
    for columns in (("colour",), ("colour", "code"), ("colour",)):
        found = ask(*columns)
        ids.append({cell.run_id for cell in Results.read(tmp_path).manifest.cells})
        ranks.append(found["full", "rank", ""].value)
        prior = found["full", "prior-accuracy", ""]
        assert prior.value == pytest.approx(1 / 4) and prior.n == 10  # four colours, each as common; so are codes
        assert prior.value == found["none", "prior-accuracy", ""].value
    assert ids[0] == ids[1] == ids[2] and ranks[0] == ranks[2] != ranks[1]
    assert done["steps"] == 2 * 3  # trained once


def test_the_naive_attacker_ranks_alike(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each candidate's whole text scored by itself, and counted by hand."""
    leave_out_what_is_slow(monkeypatch)
    source = folder / "secrets.jsonl"
    source.write_text("\n".join(map(json.dumps, secret_rows())))
    data = {"source": str(source), "text": "text", "attributes": "colour", "near_duplicates": 1.0}
    study = study_of(folder, data=data, attacks=["attribute-inference"], positive_control=False)
    results = run(study, tmp_path)
    context = Context(study, Path(), Store(tmp_path / "runs"), Progress())
    loaded = context.load_model()

    import torch

    def likelihood(text: str) -> float:
        ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            logits = loaded.model(ids).logits[0, :-1].double().log_softmax(1)
        return float(logits.gather(1, ids[0, 1:, None]).sum())

    base = next(cell for cell in results.manifest.cells if cell.method == "none").run_id
    kept = results.manifest.store(tmp_path).run(base).read_table(extraction_name(results.manifest.extractions["0"]))
    assert kept is not None
    by = {row["record_id"]: row["statistics"] for row in kept.to_pylist()}
    splits = context.splits(0)
    for record in splits.members + splits.nonmembers:
        ((_, colour),) = record.attributes
        texts = [record.text.replace(colour, other) for other in COLOURS if other != colour]
        less = [likelihood(text) < likelihood(record.text) for text in texts]
        assert by[record.id][:2] == [float(all(less)), pytest.approx(sum(less) / 3)]


# --- columns -------------------------------------------------------------------------------------


def test_attributes_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    import pandas as pd

    rows = secret_rows()[:6]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "r.csv", index=False)
    frame.to_parquet(tmp_path / "r.parquet")
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("r.csv", "r.parquet", "r.jsonl"):
        found = load(str(tmp_path / name), Columns(attributes=("code", "colour")))  # the text is the column "text"
        for at, record in enumerate(found.records):
            assert record.text == rows[at]["text"]
            assert record.attributes == (("colour", rows[at]["colour"]), ("code", rows[at]["code"]))[: 1 + at % 2]
            places = [record.text.index(value) for _, value in record.attributes]
            assert all(one < next_ for one, next_ in pairwise(places))
        assert found.fingerprint == load(str(tmp_path / name)).fingerprint


def test_a_value_that_stands_twice_or_first_or_nowhere_is_no_attribute(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "Ann called Ann", "who": "Ann"}, {"text": "Ann called", "who": "Ann"}, {"text": "x", "who": None},
        {"text": "the year is annual", "who": "ann"}, {"text": "y", "who": " "}, {"text": "z"},
        {"text": "number 7 and more", "who": 7}, {"text": "w", "who": "Bob"},
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = load(str(tmp_path / "r.jsonl"), Columns(attributes=("who",)))
    assert [record.attributes for record in found.records] == [()] * 6 + [(("who", "7"),), ()]
    with pytest.raises(StudyError, match=r"no text holds its value of the column 'other' once"):
        (tmp_path / "s.jsonl").write_text(json.dumps({"text": "x", "other": "gone"}))
        load(str(tmp_path / "s.jsonl"), Columns(attributes=("other",)))
    with pytest.raises(StudyError, match=r"has no column 'whom', which is named as 'attributes'. Did you mean 'who'"):
        load(str(tmp_path / "r.jsonl"), Columns(attributes=("whom",)))


def test_a_query_of_another_candidate_has_another_key() -> None:
    keys = {query.key for query in AttributeInference().queries(RECORD, VALUES)}
    assert len(keys) == 4 and Query(RECORD).key not in keys
