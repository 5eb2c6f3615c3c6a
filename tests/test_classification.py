"""The classification objective: labels as one target a record, against transformers' own classifiers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import PreTrainedModel

from byrote.attacks.base import Evidence
from byrote.attacks.membership.learned_logistic_regression import LogisticRegressionAttack
from byrote.attacks.membership.learned_mlp import MultilayerPerceptron
from byrote.methods.base import attach_peft
from byrote.methods.full import Full
from byrote.objectives.batching import collate
from byrote.objectives.classification import Classifier, encode_labelled
from byrote.objectives.lm import per_example_loss
from byrote.registry import make
from byrote.runner.study import run
from byrote.store import RunFolder
from byrote.target import Target
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.losses import HeadLoss, TextLoss, only_the_head_trains
from byrote.training.per_example import Clipping, Loop
from byrote.training.state import trainable
from byrote.training.vmap import VMap
from byrote.types import Record, StudyError, TokenStats
from byrote.utility.base import Observation
from conftest import ENCODERS, FAMILIES, make_classifier, make_texts, make_tokenizer
from small_study import LABELS, labelled_study, leave_out_what_is_slow, make_folder

KINDS = [*FAMILIES, *ENCODERS]


def records_of(count: int, seed: int = 0) -> list[Record]:
    """Random texts; token 0, the padding of these models, never stands in one."""
    return [Record(f"r{at}", text, label=LABELS[at % 3]) for at, text in enumerate(make_texts(count, seed=seed, low=3))]


def own_loss(model: PreTrainedModel, ids: tuple[int, ...], label: int | None) -> torch.Tensor:
    """transformers' own cross-entropy of one unpadded text."""
    row = torch.tensor([ids])
    return model(input_ids=row, attention_mask=torch.ones_like(row), labels=torch.tensor([label])).loss


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_transformers_own_of_single_texts(kind: str) -> None:
    model, examples = make_classifier(kind), encode_labelled(make_tokenizer(), records_of(6), LABELS, 40)
    reader, batch = Classifier(model), collate(examples, 0)
    expected = [float(own_loss(model, e.ids, e.label).detach()) for e in examples]
    assert per_example_loss(reader, batch).tolist() == pytest.approx(expected, rel=1e-4)
    assert reader.loss_without_looking(batch).tolist() == pytest.approx(expected, rel=1e-4)
    reader.check(batch)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_virtual_tokens_do_not_change_which_place_is_pooled(kind: str) -> None:
    """PEFT pools a padded place there: the same record in a batch and alone then gets other scores."""
    from peft import PromptTuningConfig, TaskType

    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=4)
    model = attach_peft(make_classifier(kind), config).model.eval()
    examples = encode_labelled(make_tokenizer(), records_of(5), LABELS, 40)
    reader = Classifier(model)
    together = per_example_loss(reader, collate(examples, 0)).tolist()
    alone = [float(per_example_loss(reader, collate([e], 0)).detach()) for e in examples]
    assert together == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "roberta"])
def test_every_engine_is_exact_or_refuses(kind: str) -> None:
    model = Full().attach(make_classifier(kind)).model
    examples = encode_labelled(make_tokenizer(), records_of(4), LABELS, 40)
    parameters, naive = trainable(model), {}
    for example in examples:
        gradients = torch.autograd.grad(
            own_loss(model, example.ids, example.label), list(parameters.values()), allow_unused=True
        )
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters.values(), gradients, strict=True)]
        norm = float(torch.stack([g.norm() for g in filled]).norm())
        for name, gradient in zip(parameters, filled, strict=True):
            naive[name] = naive.get(name, 0) + gradient * min(1.0, 0.5 / norm)
    loss = TextLoss(Classifier(model), examples, 0, "cpu")
    loss.training = False
    for engine in (Bookkeeping, VMap, Loop):
        sums = engine(loss, parameters).clipped_sums([[at] for at in range(4)], Clipping(0.5)).sums
        whole = max(float(value.norm()) for value in naive.values())
        for name, value in naive.items():
            assert float((sums[name] - value).norm()) <= 1e-4 * max(float(value.norm()), 1e-2 * whole), name


def test_a_head_alone_trains_on_rows_made_once() -> None:
    model = make_classifier("bert")
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    examples = encode_labelled(make_tokenizer(), records_of(6), LABELS, 40)
    reader = Classifier(model)
    assert only_the_head_trains(reader)
    cached, whole = HeadLoss(reader, examples, 0, "cpu"), TextLoss(reader, examples, 0, "cpu")
    whole.training = False
    torch.testing.assert_close(cached([2, 0, 5]), whole([2, 0, 5]))


def test_statistics_are_of_the_label() -> None:
    model, records = make_classifier("bert"), records_of(7)
    target = Target(model, make_tokenizer(), max_length=40, objective="classification", labels=LABELS)
    target.check()
    for record, found in zip(records, target.token_stats(records), strict=True):
        ids = torch.tensor([make_tokenizer()(record.text)["input_ids"]])
        with torch.no_grad():
            scores = torch.log_softmax(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0], 0)
        label = LABELS.index(record.label or "")
        assert found.classes is not None and found.classes.tolist() == pytest.approx(scores.tolist(), abs=1e-4)
        assert found.log_prob.tolist() == pytest.approx([float(scores[label])], abs=1e-4)
        assert found.rank.tolist() == [int((scores > scores[label]).sum())]
        assert found.mean.tolist() == pytest.approx([float((scores.exp() * scores).sum())], abs=1e-4)


def stats_of(probabilities: list[float], label: int) -> TokenStats:
    logs = np.log(np.array(probabilities, dtype=np.float64)).astype(np.float32)
    rank = np.array([sum(p > probabilities[label] for p in probabilities)], dtype=np.int32)
    return TokenStats(logs[label : label + 1], logs[:1], logs[:1], rank, classes=logs)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_label_attacks_by_their_formulas(label: int) -> None:
    p = [0.7, 0.2, 0.1]
    evidence = Evidence(Record("a", "x", label="cat"), stats_of(p, label))
    margin = make("attack", "confidence-margin").score(evidence)  # type: ignore[attr-defined]
    assert margin == pytest.approx(math.log(p[label] / (1 - p[label])), rel=1e-5)
    entropy = -(1 - p[label]) * math.log(p[label])
    entropy -= sum(q * math.log(1 - q) for at, q in enumerate(p) if at != label)
    assert make("attack", "modified-entropy").score(evidence) == pytest.approx(-entropy, rel=1e-5)  # type: ignore[attr-defined]


def test_label_attacks_stay_finite_where_the_model_is_certain() -> None:
    for label in (0, 1):
        evidence = Evidence(Record("a", "x"), stats_of([1.0 - 1e-7, 1e-30], label))
        for name in ("confidence-margin", "modified-entropy"):
            assert math.isfinite(make("attack", name).score(evidence))  # type: ignore[attr-defined]


def test_accuracy_and_cross_entropy() -> None:
    right, wrong = (Observation(Record("a", "x"), stats_of([0.7, 0.3], label)) for label in (0, 1))
    accuracy, loss = make("utility", "accuracy"), make("utility", "cross-entropy")
    assert [accuracy.measure(one) for one in (right, wrong)] == [(1.0, 1.0), (0.0, 1.0)]  # type: ignore[attr-defined]
    assert loss.measure(wrong) == pytest.approx((-math.log(0.3), 1.0), rel=1e-5)  # type: ignore[attr-defined]


# --- studies -------------------------------------------------------------------------------------


def test_a_study_of_labels_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    make_folder(tmp_path)
    study = labelled_study(tmp_path, methods=["full"], privacy=["none", {"epsilon": 8}], learning_rate=1e-2, epochs=12)
    results = run(study, tmp_path / "out")
    assert not results.failed
    rows = {(row.method, row.privacy, row.epoch, row.name): row for row in results.rows if row.metric in ("accuracy",)}
    assert (rows["full", "none", 12, "accuracy"].value or 0.0) >= 0.75
    assert (rows["none", "none", 0, "accuracy"].value or 0.0) < 0.8
    attacks = {row.name for row in results.rows if row.kind == "membership" and row.name != "blind-baseline"}
    assert attacks == {"loss", "reference", "confidence-margin", "modified-entropy"}
    utility = [row for row in results.rows if row.kind == "utility" and row.epoch == 12]
    assert {row.metric for row in utility if row.privacy == "none"} == {"accuracy", "macro-f1", "cross-entropy"}
    assert {row.metric for row in utility if row.value is not None and row.metric.endswith("-vs-none")} == {
        "accuracy-vs-none", "macro-f1-vs-none", "cross-entropy-vs-none"
    }  # fmt: skip
    (macro,) = [row for row in utility if row.metric == "macro-f1" and row.privacy == "none"]
    assert macro.value is not None and macro.null_value is not None and macro.n == 15


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": ["min-k"]}, "min-k reads tokens, but objective: classification gives labels"),
        ({"utility": ["perplexity"]}, "perplexity reads tokens"),
        ({"objective": "lm", "attacks": ["confidence-margin"]}, "confidence-margin reads labels, but objective: lm"),
    ],
)
def test_what_reads_something_else_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        labelled_study(tmp_path, **change)


def test_learned_attacks_are_fitted_on_whole_splits_and_again_where_a_part_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_is_slow(monkeypatch)
    make_folder(tmp_path)
    attacks = ["loss", "logistic-regression", {"name": "mlp", "max_iter": 5}, "k-nearest-neighbours"]
    attacks += [{"name": "random-forest", "n_estimators": 5}, {"name": "logistic-regression", "folds": 3}]
    plants = [{"name": "mislabel", "members": 3}]  # their scores are kept under the label that they were given
    settings = {"methods": ["full"], "epochs": 1, "learning_rate": 1e-2, "seeds": [0, 1], "nulls": []}
    study = labelled_study(tmp_path, **settings, attacks=attacks, plants=plants)
    results = run(study, tmp_path / "out")
    assert not results.failed
    learned = {r for r in results.rows if r.metric == "auc" and r.kind == "membership" and r.method != "none"}
    learned = {row for row in learned if row.name != "loss"}
    assert {row.slice for row in learned} == {"", "mislabelled"}
    learned = {row for row in learned if not row.slice}
    assert {(row.method, row.null_value) for row in learned} == {("full", 0.5)}
    assert {(row.name, row.settings) for row in learned if row.seed == 1} == {
        ("logistic-regression", ""),
        ("logistic-regression", '{"logistic-regression":{"folds":3}}'),
        ("k-nearest-neighbours", ""),
        ("mlp", '{"mlp":{"max_iter":5}}'),
        ("random-forest", '{"random-forest":{"n_estimators":5}}'),
    }
    assert all(row.value is not None for row in learned)
    assert not [row for row in results.rows if row.metric == "auc-lift" and row.name != "loss"]
    assert len(results.null_ranges) == 5 and "27 members and 17 nonmembers" in results.null_ranges[0]
    store = tmp_path / "out" / "runs"
    base, _, first, second = [RunFolder(store / cell.run_id) for cell in results.manifest.cells]
    assert {row["attack"] for row in scores_of(base)} == {"loss"}  # seeds share it, and their splits differ
    before = [scores_of(folder) for folder in (first, second)]
    assert len(before[0]) == 6 * 50 and before[0] != before[1]
    # A part of two series is lost. The fitted one is made whole again, what was left of it included.
    rows = sorted(scores_of(first), key=lambda row: str(row["record_id"]))
    kept = [row | ({"score": 9.0} if row["attack"] == "mlp" else {}) for row in rows[150:]]
    kept += [row for row in rows[:150] if row["attack"] not in ("loss", "mlp")]
    table = first.read_table("scores.parquet")
    assert table is not None
    first.write_table("scores.parquet", pa.Table.from_pylist(kept, schema=table.schema))
    calls: list[str] = []
    fit = MultilayerPerceptron.fit
    monkeypatch.setattr(MultilayerPerceptron, "fit", lambda self, *a: calls.append(self.name) or fit(self, *a))
    monkeypatch.setattr(LogisticRegressionAttack, "fit", lambda *_: pytest.fail("it is whole"))
    run(study, tmp_path / "out")
    assert [scores_of(folder) for folder in (first, second)] == before and calls == ["mlp"] * 5


def scores_of(folder: RunFolder) -> list[dict[str, object]]:
    """The stored rows in an order of their own."""
    table = folder.read_table("scores.parquet")
    assert table is not None
    return sorted(table.to_pylist(), key=lambda row: (row["attack"], row["settings"], row["epoch"], row["record_id"]))


def test_labels_that_cannot_be_learned_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    study = labelled_study(tmp_path)
    path = tmp_path / "labelled.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]

    def outcome(changed: list[dict[str, object]]) -> None:
        path.write_text("\n".join(json.dumps(row) for row in changed))
        run(study, tmp_path / "out")

    with pytest.raises(StudyError, match=r"one class, 'cat': classification needs at least two"):
        outcome([row | {"label": "cat"} for row in rows])
    with pytest.raises(StudyError, match=r"the label 'emu' of .* is that of no member"):
        for at in range(len(rows)):  # wherever the one emu lands but among the members
            outcome([row | {"label": "emu"} if number == at else row for number, row in enumerate(rows)])
    with pytest.raises(
        StudyError, match=r"the label is None, but objective: classification needs one of cat, dog, owl"
    ):
        encode_labelled(make_tokenizer(), [Record("a", "w1")], LABELS, 10)
