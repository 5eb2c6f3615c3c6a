"""What comes out: each measure against a naive computation, and greedy extraction against text that is generated."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from byrote.attacks.base import Evidence
from byrote.attacks.extraction.base import ExtractionMeasure, chosen, measure_all
from byrote.attacks.extraction.discoverable import Discoverable
from byrote.attacks.extraction.exact_memorisation import ExactMemorisation
from byrote.attacks.extraction.extraction_strength import ExtractionStrength
from byrote.attacks.extraction.k_extractable import KExtractable
from byrote.generation import choose, drawing_log_probs
from byrote.objectives.batching import encode
from byrote.registry import discover
from byrote.report.results import Results
from byrote.runner.extraction import extraction_name
from byrote.runner.progress import Progress
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.target import Target
from byrote.types import Decoding, Record
from conftest import WORDS, make_model, make_texts, make_tokenizer
from evidence import stats
from small_study import make_folder, study_of
from test_generation import Prompt
from test_generation import naive as written_by

FREE = ({"name": "k-extractable", "prefix_tokens": [3, 5], "suffix_tokens": 2}, "extraction-strength")


def target_of(**options: Any) -> Target:
    return Target(make_model("llama"), make_tokenizer(), **{"max_length": 40, **options})


def one(rank: list[int], **fields: Any) -> Evidence:
    return Evidence(Record("a", "text"), stats([-1.0] * len(rank), rank=rank), **fields)


def numbers(measure: ExtractionMeasure, *evidence: Evidence) -> list[Any]:
    return measure_all(measure, evidence, ())


# --- texts after a prefix of tokens --------------------------------------------------------------


def test_a_text_is_gone_on_from_after_so_many_of_its_tokens_in_any_company() -> None:
    target = target_of()
    records = [Record(str(at), text) for at, text in enumerate(make_texts(12, 3, 4, 18))]
    for prefix in (1, 4, 9):
        found = target.generate(records, Decoding(6), prefix_tokens=prefix)
        for record, said in zip(records, found, strict=True):
            ids = tuple(target.tokenizer(record.text)["input_ids"])
            if len(ids) <= prefix:
                assert said.reason == f"nothing of it follows its first {prefix} tokens (prefix_tokens)"
            else:
                assert said.tokens == written_by(target.decoder.model, Prompt(ids[:prefix], 99), 6, target.stops)
                assert target.generate([record], Decoding(6), prefix_tokens=prefix)[0].tokens == said.tokens


# --- formulas --------------------------------------------------------------------------------------


def test_a_suffix_is_extractable_where_every_one_of_its_tokens_is_likeliest() -> None:
    measure = KExtractable(prefix_tokens=3, suffix_tokens=2)  # the tokens 3 and 4 of the text: targets 2 and 3
    assert numbers(measure, one([5, 5, 0, 0, 9])) == [(1.0,)]
    assert numbers(measure, one([0, 0, 1, 0, 0]), one([0, 0, 0, 1, 0])) == [(0.0,), (0.0,)]
    assert numbers(KExtractable(prefix_tokens=3, suffix_tokens=None), one([5, 5, 0, 0, 9])) == [(0.0,)]
    short = numbers(measure, one([0, 0, 0]))[0]
    assert short == "its text has 4 tokens, fewer than prefix_tokens 3 and suffix_tokens 2"
    of_completion = replace(one([0, 0, 9]), of="completion")  # there the prompt is the prefix
    assert numbers(measure, of_completion) == [(1.0,)]
    assert "its completion has 1 tokens" in numbers(measure, replace(one([0]), of="completion"))[0]


def test_exact_memorisation_and_extraction_strength_by_counting() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        rank = generator.integers(0, 2, generator.integers(1, 12)).tolist()
        if len(rank) >= 3:
            found = numbers(ExactMemorisation(prefix_tokens=3, suffix_tokens=None), one(rank))
            assert found == [(pytest.approx(sum(place == 0 for place in rank[2:]) / len(rank[2:])),)]
        shortest = next(k for k in range(len(rank) + 1) if all(place == 0 for place in rank[k:]))
        assert numbers(ExtractionStrength(), one(rank)) == [(pytest.approx(1 - shortest / len(rank)),)]
    assert "no target token" in numbers(ExtractionStrength(), one([]))[0]


@pytest.mark.parametrize(
    "how", [{}, {"top_k": 5}, {"top_k": None}, {"top_p": 0.7}, {"temperature": 0.6, "top_k": 9, "top_p": 0.8}]
)
def test_the_chance_of_a_token_is_how_often_it_is_drawn(how: dict[str, Any]) -> None:
    drawing = Discoverable(**how).drawing
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(5)) * 2
    log_probs = drawing_log_probs(logits.expand(30, 30), torch.arange(30), drawing)
    assert log_probs.exp().sum() == pytest.approx(1.0)
    draws = (np.random.default_rng([9, at]) for at in range(20_000))
    counts = np.bincount(choose(logits.expand(20_000, 30), drawing, draws), minlength=30) / 20_000
    assert np.abs(counts - log_probs.exp().numpy()).max() < 0.012
    assert (counts[np.isneginf(log_probs.numpy())] == 0).all()


def test_chances_of_a_batch_are_those_of_each_text_alone() -> None:
    target, drawing = target_of(), Decoding(1, True, 0.8, 12)
    records = [Record(str(at), text) for at, text in enumerate([*make_texts(9, 4, 2, 15), "w1"])]
    context = (7, 9)
    found = target.chances(records, drawing, [context if at % 2 else () for at in range(len(records))])
    for at, (record, chances) in enumerate(zip(records, found, strict=True)):
        before = context if at % 2 else ()
        ids = [*before, *target.tokenizer(record.text)["input_ids"]]
        with torch.no_grad():
            logits = target.decoder.model(torch.tensor([ids])).logits[0, :-1].double() / 0.8
        kept = logits.masked_fill(logits < logits.topk(12, dim=1).values[:, -1:], -math.inf).log_softmax(1)
        wanted = kept.gather(1, torch.tensor(ids[1:])[:, None])[len(before) :, 0].numpy()
        assert chances.shape == wanted.shape
        np.testing.assert_allclose(chances, wanted, atol=1e-4)


def test_discoverable_counts_what_comes_out_of_n_draws_with_probability_p() -> None:
    measure = Discoverable(prefix_tokens=2, suffix_tokens=2, n=10, p=0.3)
    chances = np.log([0.5, 0.3, 0.1])  # the suffix is the last two: 0.03 of each draw
    ((share, probability),) = numbers(measure, one([0] * 3, chances=chances))
    assert probability == pytest.approx(1 - 0.97**10) and share == float(probability >= 0.3) == 0.0
    assert numbers(measure.model_copy(update={"p": 0.26}), one([0] * 3, chances=chances))[0][0] == 1.0
    assert numbers(measure, one([0] * 3, chances=np.array([0.0, 0.0, -math.inf]))) == [(0.0, 0.0)]
    assert numbers(measure, one([0] * 3, chances=np.array([0.0, -1e-17, 0.0]))) == [(1.0, 1.0)]
    tiny = numbers(measure, one([0] * 3, chances=np.array([0.0, -30.0, -30.0])))[0][1]
    assert tiny == pytest.approx(10 * math.exp(-60))  # 1 - (1 - q)^n as it stands would be 0
    assert "was not asked" in numbers(measure, one([0] * 3))[0]


def test_one_record_does_not_cost_the_others_their_numbers() -> None:
    good, missing = one([0, 0, 0]), replace(one([0, 0, 0]), failure="it was private")
    broken = replace(good, target=stats([math.nan] * 3))
    found = numbers(KExtractable(prefix_tokens=1, suffix_tokens=2), good, missing, broken, good)
    assert found[0] == found[3] == (1.0,) and found[1] == "it was private" and "not a number" in found[2]


def test_every_slice_gives_so_many_records() -> None:
    side = [Record(str(at), "x", slice=["", "copies=4"][at % 3 == 0]) for at in range(30)]
    few = chosen(KExtractable(records=4), side)
    assert [record.id for record in few] == ["0", "1", "2", "3", "6", "9"]  # four of all, and four of the slice
    assert chosen(KExtractable(), side) == side
    canaries = [Record(str(at), "x", slice=f"canary:format copies={1 + at % 2}") for at in range(9)]
    assert [record.id for record in chosen(KExtractable(records=2), [*side, *canaries])[-4:]] == ["0", "1", "2", "3"]


# --- greedy extraction is what generation would show -----------------------------------------------


def half_extractable(target: Target, count: int) -> list[Record]:
    """Texts that end as the model itself would go on, and texts that do not, some by their last word alone."""
    generator = np.random.default_rng(8)
    records = []
    for at in range(count):
        words = [WORDS[i] for i in generator.integers(0, 60, 8)]
        ids = tuple(target.tokenizer(" ".join(words))["input_ids"])
        said = [token - 4 for token in written_by(target.decoder.model, Prompt(ids, 99), 6, ())]
        tail = [WORDS[token] if token >= 0 else "w0" for token in said]
        if at % 3 == 1:
            tail = [WORDS[i] for i in generator.integers(0, 60, 6)]
        elif at % 3 == 2:
            tail[-1] = WORDS[(WORDS.index(tail[-1]) + 1) % 60]
        records.append(Record(str(at), " ".join([*words, *tail])))
    return records


def test_the_greedy_check_equals_generating_and_comparing_on_every_record() -> None:
    target = target_of()
    records = half_extractable(target, 60)
    found = numbers(
        KExtractable(prefix_tokens=8, suffix_tokens=6),
        *(Evidence(r, s) for r, s in zip(records, target.token_stats(records), strict=True)),
    )
    said = target.generate(records, Decoding(6), prefix_tokens=8)
    truth = [one.ids[8:] for one in encode(target.tokenizer, [record.text for record in records], 99)]
    assert [value == (1.0,) for value in found] == [one.tokens == ids for one, ids in zip(said, truth, strict=True)]
    assert {value for (value,) in found} == {0.0, 1.0}


# --- studies ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("small"), make_texts(80, 1, 8, 20))


def extraction_rows(out: Path) -> dict[tuple[Any, ...], Any]:
    return {
        (row.method, row.epoch, row.name, row.settings, row.metric, row.slice): row
        for row in Results.read(out).rows
        if row.kind == "extraction"
    }


def test_a_study_gives_members_nonmembers_and_their_difference_beside_the_untuned_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"name": "discoverable", "prefix_tokens": 4, "suffix_tokens": 3, "n": 5}
    study = study_of(
        folder, attacks=["loss", *FREE, more], plants=[{"name": "duplicates", "copies": [3], "members": 4}]
    )
    run(study, tmp_path)
    rows = extraction_rows(tmp_path)
    assert {row.name for row in rows.values()} == {"k-extractable", "extraction-strength", "discoverable"}
    manifest = Manifest.read(tmp_path)
    base, full = (manifest.store(tmp_path).run(cell.run_id) for cell in manifest.cells)
    name = extraction_name(manifest.extractions["0"])
    kept = [of.read_table(name).to_pylist() for of in (base, full)]
    values = [
        {row["record_id"]: row["statistics"][0] for row in table if (row["measure"], row["epoch"]) == of}
        for table, of in zip(kept, (("extraction-strength", 0), ("extraction-strength", 2)), strict=True)
    ]
    splits = Results.read(tmp_path).evidence.splits[0]
    sides = [splits[name].ids for name in ("member", "nonmember")]
    before, after = ([np.mean([of[one] for one in ids]) for ids in sides] for of in values)

    def row(metric: str, slice_: str = "") -> Any:
        of = ("full", 2, "extraction-strength", metric, slice_)
        (found,) = [row for key, row in rows.items() if (*key[:3], *key[4:]) == of]
        return found

    assert row("strength").value == pytest.approx(after[0]) and row("strength").null_value == pytest.approx(before[0])
    assert row("strength", "nonmembers").value == pytest.approx(after[1])
    between, beyond = row("strength-vs-nonmembers"), row("strength-excess-vs-nonmembers")
    assert between.value == pytest.approx(after[0] - after[1])
    assert between.null_value == pytest.approx(before[0] - before[1])
    assert beyond.value == pytest.approx((after[0] - before[0]) - (after[1] - before[1])) and beyond.null_value == 0
    assert row("strength", "copies=3").n == 4
    assert {key[1] for key in rows if key[:3:2] == ("full", "discoverable")} == {2}  # it takes a pass of its own
    monkeypatch.setattr(Target, "token_stats", lambda *_: pytest.fail("a forward pass"))
    monkeypatch.setattr(Target, "chances", lambda *_: pytest.fail("a forward pass"))
    said: list[str] = []
    run(study, tmp_path, progress=_Told(said))
    assert any("Everything was in the store already" in line for line in said)


class _Told(Progress):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def say(self, message: str) -> None:
        self.said.append(message)


def test_numbers_that_another_version_made_are_left_out_with_a_word(folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    run(study_of(folder, attacks=["loss", "extraction-strength"]), tmp_path)
    manifest = Manifest.read(tmp_path)
    kept = manifest.store(tmp_path).run(manifest.cells[-1].run_id)
    name = extraction_name(manifest.extractions["0"])
    table = kept.read_table(name)
    assert table is not None
    wider = pa.array([[0.5, 0.5]] * len(table), pa.list_(pa.float64()))
    place = table.column_names.index("statistics")
    kept.write_table(name, table.set_column(place, "statistics", wider))
    found = [row for row in extraction_rows(tmp_path).values() if row.method == "full"]
    assert found and all(row.value is None and "another version of byrote" in row.reason for row in found)


def test_several_lengths_of_prefix_are_several_measures(folder: Path) -> None:
    study = study_of(folder, attacks=list(FREE))
    assert [getattr(one, "prefix_tokens", None) for one in study.attacks] == [3, 5, None]
    with pytest.raises(ValidationError, match="stands twice"):
        study_of(folder, attacks=[{"name": "k-extractable", "prefix_tokens": [3, 3]}])
    with pytest.raises(ValidationError, match="prefix_tokens"):
        study_of(folder, attacks=[{"name": "k-extractable", "prefix_tokens": ["three"]}])


def test_a_prefix_longer_than_every_record_gives_reasons_and_no_number(folder: Path, tmp_path: Path) -> None:
    run(study_of(folder, attacks=["loss", "k-extractable"]), tmp_path)
    found = extraction_rows(tmp_path)
    assert {row.value for row in found.values()} == {None}
    assert all("prefix_tokens 50 and suffix_tokens 50" in row.reason for row in found.values())


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """builtin:tiny trained on 50 records until it knows them."""
    from byrote.study import Study

    out = tmp_path_factory.mktemp("overfitted")
    sizes = {"members": 50, "nonmembers": 50, "validation": 10, "test": 10}
    measure = {"name": "k-extractable", "prefix_tokens": 10, "suffix_tokens": 20}
    study = Study.model_validate(
        {
            "name": "overfitted",
            "model": "builtin:tiny",
            "data": {"source": "builtin:aws-docs", "min_tokens": 30, **sizes},
            "methods": [{"name": "full", "learning_rate": 2e-3}],
            "attacks": ["loss", measure, "extraction-strength"],
            "epochs": 20,
            "max_length": 64,
            "positive_control": False,
        }
    )
    run(study, out)
    return out


def test_an_overfitted_model_gives_its_members_and_no_nonmember(overfitted: Path) -> None:
    rows = [row for row in Results.read(overfitted).rows if row.name == "k-extractable" and row.epoch == 20]
    found = {(row.metric, row.slice): row for row in rows}
    assert found["share", ""].value >= 0.9 and found["share", ""].null_value == 0.0
    assert found["share", "nonmembers"].value == 0.0
    assert found["share-vs-nonmembers", ""].low > 0.7 and found["share-excess-vs-nonmembers", ""].low > 0.7


def test_canaries_that_are_repeated_are_as_exposed_as_can_be_told_and_unseen_ones_not(tmp_path: Path) -> None:
    from byrote.study import Study

    planted = {
        "name": "canaries",
        "families": ["random-token", "format"],
        "copies": [16],
        "canaries": 6,
        "controls": 60,
    }
    study = Study.model_validate(
        {
            "name": "canaries",
            "model": "builtin:tiny",
            "data": {"source": "builtin:aws-docs", "members": 40, "nonmembers": 20, "validation": 10, "test": 10},
            "methods": [{"name": "full", "learning_rate": 1e-3}],
            "plants": [planted],
            "attacks": ["loss", "field-recall"],
            "epochs": 4,
            "max_length": 64,
            "positive_control": False,
        }
    )
    run(study, tmp_path)
    rows = {
        (row.metric, row.slice): row for row in Results.read(tmp_path).rows if row.method == "full" and row.epoch == 4
    }
    for family in ("canary:random-token", "canary:format"):
        most = rows["exposure-maximum", family].value
        assert most == pytest.approx(math.log2(61))
        assert rows["exposure", f"{family} copies=16"].value > most - 0.5
        assert rows["exposure", family].value == pytest.approx(1.44, abs=0.15)  # those that were never inserted
    written = rows["recall-vs-nonmembers", "canary:random-token copies=16"]
    assert written.low > 0.2  # the secrets are written out


def test_every_extraction_measure_says_what_it_is() -> None:
    found = [kind for kind in discover("attack").values() if issubclass(kind, ExtractionMeasure)]
    assert len(found) >= 4
    for kind in found:
        measure = kind()
        assert measure.kind == "extraction" and measure.metrics and measure.access and measure.paper()
        assert set(measure.metrics.values()) <= {"share", "mean"}
