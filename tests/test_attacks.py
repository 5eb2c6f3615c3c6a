"""Every registered membership attack keeps the contract; the shipped five equal their formulas."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from byrote.attacks.base import CalibratedAttack, Evidence, MembershipAttack, score_all
from byrote.attacks.membership.loss import Loss
from byrote.attacks.membership.min_k import MinK
from byrote.attacks.membership.min_k_plus_plus import MinKPlusPlus
from byrote.attacks.membership.reference import Reference
from byrote.attacks.membership.zlib_entropy import ZlibEntropy
from byrote.registry import discover, make
from byrote.statistics.delong import auc_estimate
from byrote.statistics.roc import auc
from byrote.types import Record, Scores, StudyError, Unscorable
from evidence import many, one, population, stats

AnyAttack = MembershipAttack | CalibratedAttack
ATTACKS = {name: kind for name, kind in discover("attack").items() if issubclass(kind, AnyAttack)}
NO_TARGET = "no target token: the text is shorter than two tokens"


@pytest.fixture(params=sorted(ATTACKS))
def attack(request: pytest.FixtureRequest) -> AnyAttack:
    found = ATTACKS[request.param]()
    assert isinstance(found, MembershipAttack | CalibratedAttack)
    return found


def scored(attack: AnyAttack, evidence: Sequence[Evidence]) -> Scores:
    return score_all(attack, evidence, population(attack))


# --- the contract --------------------------------------------------------------------------------


def test_the_five_attacks_are_found() -> None:
    assert {"loss", "reference", "zlib", "min-k", "min-k++"} <= set(ATTACKS)


def test_docstring_names_a_paper_and_access_is_said(attack: AnyAttack) -> None:
    assert re.search(r"\b(19|20)\d\d\b", attack.__doc__ or ""), "the docstring cites no year"
    assert re.search(r"\b\d{4}\.\d{4,5}\b|[A-Z]{3,}|Journal|Proceedings", attack.__doc__ or ""), "nor a venue"
    assert attack.access and attack.kind == "membership"


def test_scores_are_finite_and_one_each(attack: AnyAttack) -> None:
    scores = scored(attack, many(1, 30, 0.0, attack))
    assert scores.values.shape == (30,) and np.isfinite(scores.values).all() and not any(scores.reasons)
    assert scored(attack, []).values.shape == (0,)


def test_a_score_depends_on_its_record_alone(attack: AnyAttack) -> None:
    evidence = many(2, 30, 0.5, attack)
    scores = scored(attack, evidence).values
    order = np.random.default_rng(3).permutation(30)
    assert (scored(attack, [evidence[i] for i in order]).values == scores[order]).all()
    assert (scored(attack, evidence[:7]).values == scores[:7]).all()
    assert (scored(attack, evidence).values == scores).all()  # and a second time


def test_scoring_leaves_the_evidence_as_it_was(attack: AnyAttack) -> None:
    evidence = many(4, 1, 0.0, attack)[0]
    assert evidence.base is not None
    arrays = [part for side in (evidence.target, evidence.base) for part in (side.log_prob, side.mean, side.std)]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    scored(attack, [evidence])
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


def test_members_score_above_nonmembers_once_the_model_memorises(attack: AnyAttack) -> None:
    members, nonmembers = (
        scored(attack, many(5, 150, 1.0, attack)),
        scored(attack, many(6, 150, 0.0, attack)),
    )
    assert auc(members.values, nonmembers.values) > 0.7


def test_chance_on_exchangeable_records(attack: AnyAttack) -> None:
    members, nonmembers = (
        scored(attack, many(7, 300, 0.0, attack)),
        scored(attack, many(8, 300, 0.0, attack)),
    )
    estimate = auc_estimate(members.values, nonmembers.values, level=0.999)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low < 0.5 < estimate.high


def test_the_untuned_model_ties_with_itself_where_the_attack_says_so(attack: AnyAttack) -> None:
    if not attack.compares_with_base:
        return
    untuned, others = (
        [replace(each, base=each.target, base_answers=each.answers) for each in those]
        for those in (many(9, 20, 0.0, attack), population(attack))
    )
    found = score_all(attack, untuned, others)
    assert not np.isfinite(found.values).any() or np.ptp(found.values) == 0.0


def test_a_text_without_target_tokens_gets_a_reason(attack: AnyAttack) -> None:
    empty = one("empty", 0.0, 0, attack, reads=attack.reads, record=Record("empty", ""))
    empty = replace(empty, target=stats([]), base=stats([]))
    scores = scored(attack, [*many(10, 2, 0.0, attack), empty])
    assert np.isfinite(scores.values[:2]).all() and np.isnan(scores.values[2])
    said = "there are no class probabilities"
    assert scores.reasons[2] == (said if attack.reads == "labels" else NO_TARGET)


@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_very_short_texts_are_scored(attack: AnyAttack, tokens: int) -> None:
    if attack.reads == "labels":
        pytest.skip("a label is one target, whatever the text")
    evidence = one("short", 0.0, tokens, attack)
    found = scored(attack, [evidence])
    assert np.isfinite(found.values).all() or tokens < attack.least_tokens


def test_hard_numbers_are_scored_or_get_a_reason(attack: AnyAttack) -> None:
    if attack.reads == "labels":
        pytest.skip("certain and impossible labels are in test_classification")
    plain = replace(one("a", 0.0, 3, attack, record=Record("a", "one two three")), base=stats([-1.0, -2.0, -2.0]))
    tiny = replace(plain, target=stats([-1.0, -3e38, -2.0]))
    certain = replace(plain, target=stats([0.0, 0.0, 0.0], 0.0, 0.0))
    assert np.isfinite(scored(attack, [tiny, certain]).values).all()
    masked = replace(plain, target=stats([-1.0, -np.inf, -2.0], -np.inf, np.nan))
    scores = scored(attack, [masked])  # builds only where each score is finite or has a reason
    assert np.isfinite(scores.values[0]) or "not finite" in scores.reasons[0]


@pytest.mark.parametrize("attack_class", [Loss, Reference, ZlibEntropy, MinK, MinKPlusPlus])
def test_a_masked_token_is_a_reason_and_never_an_infinity(attack_class: type[MembershipAttack]) -> None:
    masked = Evidence(Record("a", "one two"), stats([-np.inf, -np.inf], -np.inf, np.nan), stats([-1.0, -2.0]))
    scores = score_all(attack_class(), [masked])
    assert np.isnan(scores.values[0]) and "not finite" in scores.reasons[0]


NEW_ATTACK = '''
from typing import ClassVar
from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import register

@register("attack", "median")
class Median(MembershipAttack):
    """The median token. Nobody 2026, arXiv 2601.00000."""

    access: ClassVar[str] = "log-probs"

    def score(self, evidence: Evidence) -> float:
        ordered = sorted(map(float, evidence.target.log_prob))
        return ordered[len(ordered) // 2]
'''


def test_a_new_file_is_listed_and_tested_with_no_other_edit(tmp_path: Path) -> None:
    folder = tmp_path / "membership"
    folder.mkdir()
    (folder / "median.py").write_text(NEW_ATTACK)
    plugin = f"import byrote.attacks.membership as room\nroom.__path__.append({str(folder)!r})\n"
    (tmp_path / "one_more_attack.py").write_text(plugin)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "one_more_attack",
        __file__,
        "-k",
        "median",
        "-p",
        "no:cacheprovider",
    ]
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # It forgets the text without tokens: the contract tests must notice, and find nothing else.
    assert "test_a_text_without_target_tokens_gets_a_reason[median]" in done.stdout
    assert re.search(r"1 failed, \d\d passed", done.stdout), done.stdout + done.stderr


# --- each formula against a naive loop -----------------------------------------------------------


@pytest.fixture
def evidence() -> Evidence:
    return one("a", 0.3, 23)


def test_loss_and_reference_and_zlib(evidence: Evidence) -> None:
    assert evidence.base is not None
    loss = -sum(float(x) for x in evidence.target.log_prob) / 23
    base = -sum(float(x) for x in evidence.base.log_prob) / 23
    size = len(zlib.compress(evidence.record.text.encode()))
    assert Loss().score(evidence) == pytest.approx(-loss, rel=1e-12)
    assert Reference().score(evidence) == pytest.approx(base - loss, rel=1e-12)
    assert ZlibEntropy().score(evidence) == pytest.approx(-loss / size, rel=1e-12)


@pytest.mark.parametrize(("k", "kept"), [(0.2, 4), (0.1, 2), (0.01, 1), (1.0, 23)])
def test_min_k_keeps_the_least_likely_tokens(evidence: Evidence, k: float, kept: int) -> None:
    lowest = sorted(float(x) for x in evidence.target.log_prob)[:kept]
    assert MinK(k=k).score(evidence) == pytest.approx(sum(lowest) / kept, rel=1e-12)
    target = evidence.target
    standardised = sorted(
        (float(x) - float(m)) / float(s) for x, m, s in zip(target.log_prob, target.mean, target.std, strict=True)
    )[:kept]
    assert MinKPlusPlus(k=k).score(evidence) == pytest.approx(sum(standardised) / kept, rel=1e-12)


def test_min_k_plus_plus_clamps_the_spread_of_a_certain_token() -> None:
    certain = Evidence(Record("a", "x y"), stats([-1e-6], 0.0, 1e-18))
    assert MinKPlusPlus().score(certain) == pytest.approx(-1e-3, rel=1e-4)


def test_reference_needs_the_base_model_on_the_same_tokens(evidence: Evidence) -> None:
    with pytest.raises(Unscorable, match="base model did not score"):
        Reference().score(Evidence(evidence.record, evidence.target))
    with pytest.raises(Unscorable, match="23 tokens here but 2"):
        Reference().score(Evidence(evidence.record, evidence.target, stats([-1.0, -2.0])))


def test_zlib_compresses_what_the_statistics_cover() -> None:
    said, asked = "w1 w2 w3 " * 20, "a long prompt that says nothing of the completion " * 3
    chat = Record("c", "all of it", messages=(("user", asked), ("assistant", said)))
    for record in (Record("p", f"{asked}\n{said}", prompt=asked, completion=said), chat):
        alone = -2.0 / len(zlib.compress(said.encode()))
        assert ZlibEntropy().score(Evidence(record, stats([-2.0]), of="completion")) == alone
        whole = -2.0 / len(zlib.compress(record.text.encode()))
        assert ZlibEntropy().score(Evidence(record, stats([-2.0]))) == whole != alone


def test_zlib_reads_any_text() -> None:
    odd = Evidence(Record("a", "caf\u00e9 \ud800"), stats([-2.0]))
    assert -1.0 < ZlibEntropy().score(odd) < 0.0


@pytest.mark.parametrize("k", [0.0, -0.1, 1.5])
def test_k_is_a_share(k: float) -> None:
    with pytest.raises(StudyError, match="attack min-k: k"):
        make("attack", {"name": "min-k", "k": k})
