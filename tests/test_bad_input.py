"""Bad input, by the number of its fault: a message that names the record, and the other records scored.

| fault | tested in |
|---|---|
| 1 empty, blank, one token | here, every attack; files: test_data_sources, test_audit_faults; training: test_failures |
| 2 fewer than 1/k tokens | test_attacks (very short texts, every attack; min-k), test_attack_formulas (window, wbc) |
| 3 over-long | here; test_target, test_completion, test_encoders (what is cut), test_context (what does not fit) |
| 4 broken rows | test_data_sources, test_data_init, test_audit_faults; in memory: here |
| 5 one class, equal scores, NaN, infinity | here; test_audit (degenerate input), test_report (left out and counted) |
| 6 copies | test_data_split, test_audit_faults, test_fitted_attacks |
| 7 one file twice, sides swapped | test_audit_faults |
| 8 sides that differ | test_controls, test_audit_faults |
| 9 other tokens than the base's | test_audit_faults; another size of vocabulary: here |
| 10 padding | here; test_target, test_attack_evidence, test_generation |
| 11 templates, doubled start, boundary | here (start); test_completion (the rest), test_smollm2_formulas |
| 12 minus infinity, NaN | here, every attack; test_target, test_attacks, test_shadow_attacks |
| 13 certain tokens | test_attacks (every attack), test_target, test_shadow_attacks, test_classification |
| 25 too few records or shadows | here; test_audit, test_tpr_difference, test_fitted_attacks, test_shadow_attacks |
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

import byrote
from audit_cases import MEMBERS, NONMEMBERS
from byrote.attacks.base import Attack, CalibratedAttack, Evidence, MembershipAttack, PoisoningMeasure, score_all
from byrote.attacks.fitted import FittedAttack, score_set
from byrote.attacks.shadow import Shadows
from byrote.generation import NO_TOKEN, choose
from byrote.objectives.completion import encode_completions
from byrote.registry import discover
from byrote.report.results import Results
from byrote.runner.study import run
from byrote.target import Target
from byrote.types import ByroteError, Decoding, Record, Scores, StudyError, TokenStats
from conftest import WORDS, make_model, make_texts, make_tokenizer
from evidence import many, population
from small_study import labelled_study, make_folder, study_of

KINDS = {
    name: kind for name, kind in discover("attack").items() if issubclass(kind, Attack) and kind.kind == "membership"
}
SMALLER: dict[str, dict[str, Any]] = {
    "recall": {"shots": 2},
    "con-recall": {"shots": 2},
    "neighbourhood": {"neighbours": 2},
    "spv-mia": {"pairs": 1},
    "samia": {"samples": 1, "max_new_tokens": 4},
    "pac": {"texts": 2},
    "ensemble": {"folds": 3},
    "dataset-inference": {"folds": 3},
}
OF_TEXTS = [
    {"name": name, **SMALLER.get(name, {}), **({"shadows": 2} if issubclass(kind, Shadows) else {})}
    for name, kind in KINDS.items()
    if kind.reads != "labels" and not kind.blind
]
UNTRAINED = [one for one in OF_TEXTS if not issubclass(KINDS[one["name"]], Shadows)]
OUTSIDE = make_texts(30, 9, 6, 20)
NOT_FINITE = "log-probability that is not finite"
ROOM = {"max_position_embeddings": 256}
Row = tuple[str, float, str]


pytestmark = pytest.mark.usefixtures("quick")


def tuned() -> Any:
    """Another model than make_model gives, with the same tokens."""
    model = make_model("llama", **ROOM)
    with torch.no_grad():
        for at, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at)) * 0.02)
    return model


def audited(model: Any, base: Any, members: list[str], nonmembers: list[str], **more: Any) -> Results:
    asked = {"tokenizer": make_tokenizer(), "attacks": UNTRAINED, "population": OUTSIDE, "max_length": 32} | more
    return byrote.audit(model, members, nonmembers, base=base, **asked)


def rows_of(results: Results, method: str) -> dict[str, list[Row]]:
    """(record, score, reason) of every attack."""
    table = results.scores()
    table = table[(table["method"] == method) & (table["epoch"] == table["epoch"].max())]
    return {
        str(name): list(zip(part["record_id"], part["score"].astype(float), part["reason"], strict=True))
        for name, part in table.groupby("attack")
    }


def told(rows: list[Row], ids: set[str]) -> tuple[list[Row], list[Row]]:
    """The rows of these records, and the others."""
    return [row for row in rows if row[0] in ids], [row for row in rows if row[0] not in ids]


# --- 1, 3, 5, 25: a whole study ----------------------------------------------------------------------


def test_every_attack_survives_texts_of_one_token_and_few_shadows(tmp_path: Path) -> None:
    make_folder(tmp_path, make_texts(90, 1, 6, 12) + WORDS[:30])
    make_model("llama", **ROOM).save_pretrained(tmp_path / "model")
    data = {"members": 25, "nonmembers": 25, "validation": 16, "test": 30, "near_duplicates": 1.0}
    results = run(study_of(tmp_path, data=data, attacks=OF_TEXTS, epochs=1), tmp_path / "out")
    assert not results.failed, results.failed
    short = {f"texts.txt:{line}" for line in range(91, 121)}
    found = rows_of(results, "full")
    assert set(found) == {one["name"] for one in OF_TEXTS}
    for name, rows in found.items():
        empty, others = told(rows, short)
        assert len(rows) == 50 and 5 < len(empty) < 25
        assert all(math.isnan(score) and "shorter than two tokens" in reason for _, score, reason in empty), name
        absent = {reason for _, score, reason in others if math.isnan(score)}
        if issubclass(KINDS[name], Shadows):  # of two shadows many records are in both, or in neither
            assert all("shadow model" in reason for reason in absent), (name, absent)
        else:
            assert all("knows already" in reason for reason in absent), (name, absent)
        assert sum(math.isfinite(score) for _, score, _ in others) >= 5 or name in ("lira", "bavaria"), name
    rates = [row for row in results.rows if row.metric.startswith("tpr@") and row.kind == "membership"]
    assert rates and all(row.value is None and "needs" in row.reason for row in rates if row.metric != "tpr@fpr=0.1")


def test_labels_of_one_token_texts_are_scored_by_every_attack_on_labels(tmp_path: Path) -> None:
    make_folder(tmp_path)
    study = labelled_study(tmp_path)
    path = tmp_path / "labelled.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    words = [{"text": word, "label": lines[at]["label"]} for at, word in enumerate(WORDS[:30])]
    path.write_text("\n".join(map(json.dumps, lines + words)))
    asked = [name for name, kind in KINDS.items() if kind.reads == "labels"]
    study = labelled_study_of(study, attacks=asked, methods=["full"], epochs=1)
    results = run(study, tmp_path / "out")
    assert not results.failed, results.failed
    found = rows_of(results, "full")
    assert set(found) == set(asked)
    assert {reason for rows in found.values() for _, _, reason in rows} == {""}
    path.write_text("\n".join(json.dumps(line | {"label": "cat"}) for line in lines))
    with pytest.raises(StudyError, match=r"labelled\.jsonl has one class, 'cat': classification needs at least two"):
        run(study, tmp_path / "one")


def labelled_study_of(study: Any, **changes: Any) -> Any:
    return type(study).model_validate(study.model_dump(exclude_unset=True) | changes)


def test_texts_in_memory_that_are_no_texts_are_named_or_left_out() -> None:
    bad = ["", " \n", "w1\x00w2", "w1 \ud800"]
    for text in bad:
        with pytest.raises(StudyError, match=r"'members\[2\]' (is empty|holds).*on_bad_rows='skip'"):
            audited(tuned(), None, [*MEMBERS[:2], text], NONMEMBERS)
    results = audited(tuned(), None, [*MEMBERS, *bad], NONMEMBERS, attacks=["loss"], on_bad_rows="skip")
    dropped = {name: count for name, count in results.manifest.splits["0"].items() if name.startswith("dropped")}
    assert dropped == {
        "dropped: bad row: empty": 2, "dropped: bad row: NUL byte": 1, "dropped: bad row: lone surrogate": 1
    }  # fmt: skip
    rows = rows_of(results, "tuned")["loss"]
    assert len(rows) == 60 and not any(reason for *_, reason in rows)


def test_what_is_too_long_is_cut_for_every_attack_alike_and_said() -> None:
    long = " ".join(WORDS)
    cut = " ".join(WORDS[:32])
    whole = audited(tuned(), make_model("llama", **ROOM), [long, *MEMBERS], NONMEMBERS)
    by_hand = audited(tuned(), make_model("llama", **ROOM), [cut, *MEMBERS], NONMEMBERS, attacks=["loss", "wbc"])
    assert any("1 of 31 member records were cut to 32 tokens" in warning for warning in whole.warnings)
    for name, rows in rows_of(whole, "tuned").items():
        assert {reason for *_, reason in rows if "knows already" not in reason} == {""}, name
    for name, rows in rows_of(by_hand, "tuned").items():
        assert rows_of(whole, "tuned")[name][0][1] == pytest.approx(rows[0][1], abs=1e-5)


def test_scores_that_are_all_equal_have_no_auc() -> None:
    flat = make_model("llama", **ROOM)
    torch.nn.init.zeros_(flat.lm_head.weight)  # every token is as likely as every other
    results = audited(flat, make_model("llama", **ROOM), MEMBERS, NONMEMBERS, attacks=["loss", "reference"])
    aucs = {row.name: row for row in results.rows if row.metric == "auc" and row.method == "tuned"}
    assert aucs["loss"].value is None and "every score is the same" in aucs["loss"].reason
    assert aucs["reference"].value is not None


def test_a_model_that_is_its_own_base_is_refused() -> None:
    same = make_model("llama", **ROOM)
    with pytest.raises(ByroteError, match="say the same of every text"):
        audited(same, make_model("llama", **ROOM), MEMBERS, NONMEMBERS, attacks=["loss"])


# --- 9, 10, 11: tokens -------------------------------------------------------------------------------


def test_a_base_with_fewer_tokens_is_refused() -> None:
    wide = make_model("llama", vocab_size=80, **ROOM)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"new{at}" for at in range(10)])
    texts = [*MEMBERS, "w1 new3 w2"]
    for attacks, where in ((["loss"], r"^members\[30\]"), (["neighbourhood"], "^'w1 new3 w2'")):
        with pytest.raises(ByroteError, match=f"{where} has token 67, but the model knows tokens 0 to 63 alone"):
            audited(wide, make_model("llama", **ROOM), texts, NONMEMBERS, tokenizer=tokenizer, attacks=attacks)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [None, "<eos>", "<x>"])
def test_padding_is_never_read(pad: str | None, side: str) -> None:
    tokenizer, model = make_tokenizer(), make_model("llama", **ROOM)
    tokenizer.pad_token, tokenizer.padding_side = pad, side
    texts = [*make_texts(12, 3), "w1 <eos> w2 <x> w3 <eos> <eos>"]
    records = [Record(text, text, prompt=text, completion="") for text in texts]
    target = Target(model, tokenizer, max_length=64)
    alone = Target(model, make_tokenizer(), max_length=64, token_budget=1)
    for text, stats in zip(texts, target.token_stats(texts), strict=True):
        (single,) = alone.token_stats([text])
        assert len(stats) == len(text.split()) - 1
        np.testing.assert_allclose(stats.log_prob, single.log_prob, atol=1e-4)
    decoding = Decoding(max_new_tokens=5)
    assert target.generate(records, decoding) == [alone.generate([one], decoding)[0] for one in records]
    assert target.gradient_norms(records, [()] * 13) == pytest.approx(alone.gradient_norms(records, [()] * 13))


def test_a_template_that_writes_the_start_of_text_does_not_have_it_twice() -> None:
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.chat_template = "<bos> {% for m in messages %}{{ m.content }} {% endfor %}"
    chat = Record("c", "w1 w2", messages=(("user", "w1"), ("assistant", "w2")))
    pair = Record("p", "w1\nw2", prompt="w1", completion="w2")
    assert [one.ids.count(2) for one in encode_completions(tokenizer, [chat, pair], 64)] == [1, 1]


# --- 12: what is not finite --------------------------------------------------------------------------


def masked(model: Any, word: str) -> Any:
    """The model without one word: its logit is minus infinity everywhere."""
    head = torch.nn.Linear(32, 64)
    head.weight = model.lm_head.weight
    with torch.no_grad():
        head.bias.zero_()
        head.bias[make_tokenizer().convert_tokens_to_ids(word)] = -math.inf
    model.lm_head = head
    return model


def undefined(model: Any, word: str) -> Any:
    """The model that says nothing after one word: its logits are no numbers."""
    with torch.no_grad():
        model.get_input_embeddings().weight[make_tokenizer().convert_tokens_to_ids(word)] = math.nan
    return model


@pytest.mark.parametrize("spoil", [masked, undefined])
def test_no_attack_takes_an_undefined_probability_for_a_number(spoil: Any) -> None:
    """Of a model whose weights are so, the untuned one too."""
    results = audited(spoil(tuned(), "w4"), spoil(make_model("llama", **ROOM), "w4"), MEMBERS, NONMEMBERS)
    parts = (("members", MEMBERS), ("nonmembers", NONMEMBERS))
    hit = {f"{part}[{at}]" for part, texts in parts for at, text in enumerate(texts) if "w4" in text.split()[1:-1]}
    edge = {f"{part}[{at}]" for part, texts in parts for at, text in enumerate(texts) if "w4" in text.split()} - hit
    assert len(hit) > 5
    defined = {"dc-pdd", "gradient-norm", "samia", "surp"} if spoil is masked else set()
    for name, rows in rows_of(results, "tuned").items():
        affected, others = told([row for row in rows if row[0] not in edge], hit)
        if name not in defined:  # a limit, or nothing that reads the probability of the token
            assert all(math.isnan(score) and reason for _, score, reason in affected), name
            assert any(NOT_FINITE in reason for *_, reason in affected), name
        said = {reason for _, score, reason in others if math.isnan(score)}
        if spoil is masked or name not in ("samia", "neighbourhood", "spv-mia", "recall", "con-recall"):
            assert all("knows already" in reason for reason in said), (name, said)
        else:  # what is written, or put before the text or into it, may hold the word
            assert all(NOT_FINITE in r or "next token are not numbers" in r or "knows" in r for r in said), (name, said)
        assert any(math.isfinite(score) for _, score, _ in others) or "recall" in name, name


def holed(stats: TokenStats) -> TokenStats:
    """The same with a NaN in it."""
    log_prob = stats.log_prob.copy()
    log_prob[-1] = np.nan
    classes = None if stats.classes is None else np.full_like(stats.classes, np.nan)
    return replace(stats, log_prob=log_prob, classes=classes)


def scored(attack: Attack, evidence: list[Evidence]) -> Scores:
    if isinstance(attack, FittedAttack):
        return score_set(attack, evidence, [at % 2 == 0 for at in range(len(evidence))])
    assert isinstance(attack, MembershipAttack | PoisoningMeasure | CalibratedAttack)
    peers = evidence if "peers" in attack.needs else []
    return score_all(attack, evidence, [*population(attack), *peers])


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.blind])
@pytest.mark.parametrize("where", ["target", "shadow"])
def test_a_nan_costs_its_own_record_and_no_other(name: str, where: str) -> None:
    attack: Any = KINDS[name]()
    if where == "shadow" and not attack.trainings:
        return
    evidence = many(1, 40, 0.5, attack)
    one = evidence[7]
    if where == "target":
        evidence[7] = replace(one, target=holed(one.target))
    else:
        first, *rest = one.shadows
        evidence[7] = replace(one, shadows=(replace(first, stats=holed(first.stats)), *rest))
    found = scored(attack, evidence)
    assert np.isnan(found.values[7]) and "not finite" in found.reasons[7]
    assert np.isfinite(np.delete(found.values, 7)).all()


def test_a_row_of_logits_that_are_no_numbers_draws_nothing_and_leaves_its_neighbours() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    spoilt = logits.clone()
    spoilt[1, 3], spoilt[2] = math.nan, -math.inf
    for decoding in (Decoding(), Decoding(do_sample=True, top_k=5)):
        whole, some = (choose(one, decoding, map(np.random.default_rng, range(4))) for one in (logits, spoilt))
        assert some == [whole[0], NO_TOKEN, NO_TOKEN, whole[3]]


def test_a_masked_entry_does_not_hide_logits_that_are_altered() -> None:
    model = masked(make_model("llama"), "w4")
    Target(model, make_tokenizer(), max_length=64).check()
    forward = model.forward

    def altered(*args: Any, **options: Any) -> Any:
        out = forward(*args, **options)
        out.logits = out.logits + torch.arange(64.0)
        return out

    model.forward = altered
    with pytest.raises(ByroteError, match="differ from the model's own"):
        Target(model, make_tokenizer(), max_length=64).check()
