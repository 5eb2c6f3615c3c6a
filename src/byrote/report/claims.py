"""What a study's claims came to: supported, contradicted, or not resolved, each with the differences it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from pydantic import ValidationError

from byrote.claims import UNTUNED, Claim
from byrote.report.axes import VariedResults
from byrote.report.claim_contrasts import MATCHED, Contrast, Contrasts
from byrote.report.claim_sides import Side, Studied, gaps_of, pairs_of, place_of, words_of
from byrote.report.equivalence import MOST, rounded, would_show
from byrote.report.evidence import MARGIN
from byrote.report.formats import count, measure, seconds, signed, size
from byrote.report.results import Results
from byrote.statistics.comparison import OVER_SEEDS, holm, p_value, size_beyond, within_margin
from byrote.types import ByroteError, Estimate

ALPHA = 0.05
Verdict = Literal["supported", "contradicted", "not resolved"]
MEANINGS: dict[Verdict, str] = {
    "supported": "every comparison's 95% interval lies on the claimed side of 0, or within the margin where equality "
    "is claimed",
    "contradicted": f"at least one comparison lies on the other side, or beyond the margin, with p at most {ALPHA:g} "
    "after Holm's correction for all comparisons of the claim",
    "not resolved": "neither: the intervals are too wide to say",
}


class JudgedContrast(NamedTuple):
    """One comparison of a claim, and what it says about it."""

    contrast: Contrast
    verdict: Verdict
    where: str
    one: str
    other: str
    difference: str
    needed: str
    """What would resolve it; empty where it is."""


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """A claim, its verdict, and every comparison: those that contradict it, then the one that says least for it."""

    claim: Claim
    verdict: Verdict
    contrasts: tuple[JudgedContrast, ...]
    about: str
    """How many comparisons say what."""
    needed: str
    margin: float

    @property
    def weakest(self) -> JudgedContrast | None:
        """The comparison that the verdict hangs on."""
        return self.contrasts[0] if self.contrasts else None


def claims_of(results: Results | VariedResults) -> list[Claim]:
    """The claims of a study. Raises ByroteError where they were written by another version."""
    raw = results.manifest.study.get("claims", []) if isinstance(results, Results) else results.manifest.claims
    try:
        return [Claim.model_validate(one) for one in raw]
    except ValidationError as error:
        raise ByroteError(f"the claims of {results.manifest.name} cannot be read: run the study again") from error


@lru_cache(maxsize=2)
def judged_claims(results: Results | VariedResults) -> tuple[JudgedClaim, ...]:
    """Every claim with its verdict, in the study's order; kept, as every form of the report asks for it."""
    studied, contrasts = Studied.of(results), Contrasts()
    default = next((found.evidence.margin for _, found in studied.points), MARGIN)
    return tuple(
        judged(
            claim, [contrasts.of(claim, pair) for pair in pairs_of(claim, studied)], default, gaps_of(claim, studied)
        )
        for claim in claims_of(results)
    )


def judged(claim: Claim, found: Sequence[Contrast], default: float = MARGIN, gaps: Sequence[str] = ()) -> JudgedClaim:
    """The verdict on a claim from its comparisons; `default` is the margin where it names none.

    `gaps` says what it is about and could not be compared: with a gap it may fall, but cannot stand.

    A claim is about all of its comparisons: it stands where every one does (an intersection-union test, which needs no
    correction: Berger 1982), and falls where one is on the other side though all were looked at (Holm 1979).
    """
    margin = claim.margin or default
    stands = [_stands(claim, one.estimate, margin) for one in found]
    falls = _falls(claim, [one.estimate for one in found], margin)
    each = [
        _judged(claim, one, "supported" if holds else "contradicted" if against else "not resolved", margin)
        for one, holds, against in zip(found, stands, falls, strict=True)
    ]
    verdict: Verdict = "not resolved"
    if found and all(stands) and not gaps:
        verdict = "supported"
    elif any(falls):
        verdict = "contradicted"
    order = sorted(range(len(found)), key=lambda at: (not falls[at], _support(claim, found[at].estimate)))
    ordered = tuple(each[at] for at in order)
    needed = _needed_of(ordered, verdict)
    if gaps and verdict == "not resolved":
        needed = needed or "the results that are missing"
    return JudgedClaim(claim, verdict, ordered, _about(ordered, gaps), needed, margin)


def _sign(claim: Claim) -> int:
    return -1 if claim.direction in ("lower", "not higher") else 1


def _edge(claim: Claim, value: float, margin: float) -> float:
    """The difference beyond which a claim falls."""
    if claim.direction == "equal":
        return math.copysign(margin, value)
    return {"not higher": margin, "not lower": -margin}.get(claim.direction, 0.0)


def _stands(claim: Claim, estimate: Estimate, margin: float) -> bool:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return False
    if claim.direction == "equal":
        return within_margin(estimate, margin)
    edge = _edge(claim, 0.0, margin)
    return estimate.low > edge if _sign(claim) > 0 else estimate.high < edge


def _falls(claim: Claim, estimates: Sequence[Estimate], margin: float) -> list[bool]:
    """Which comparisons lie on the other side, judged together."""
    known = [at for at, one in enumerate(estimates) if None not in (one.value, one.low, one.high)]
    edges = [replace(estimates[at], null_value=_edge(claim, estimates[at].value or 0.0, margin)) for at in known]
    adjusted = dict(zip(known, holm([p_value(edge) for edge in edges]), strict=True))
    return [
        at in adjusted and adjusted[at] <= ALPHA and _beyond(claim, one.value or 0.0, margin)
        for at, one in enumerate(estimates)
    ]


def _beyond(claim: Claim, value: float, margin: float) -> bool:
    if claim.direction == "equal":
        return abs(value) > margin
    return _sign(claim) * (value - _edge(claim, value, margin)) < 0.0


def _support(claim: Claim, estimate: Estimate) -> float:
    """How much a comparison says for the claim; what is absent says least."""
    if estimate.value is None:
        return -math.inf
    low, high = (estimate.value if limit is None else limit for limit in (estimate.low, estimate.high))
    if claim.direction == "equal":
        return -max(abs(low), abs(high))
    return low if _sign(claim) > 0 else -high


def _judged(claim: Claim, one: Contrast, verdict: Verdict, margin: float) -> JudgedContrast:
    pair = one.pair
    other = words_of(pair.other, pair.one) if isinstance(pair.other, Side) else _named(pair.other)
    shown = [
        f"{words} ({_number(end, claim.measured.metric)})"
        for words, end in ((words_of(pair.one, pair.other), one.ends[0]), (other, one.ends[1]))
    ]
    if isinstance(pair.other, int | float):
        shown[1] = other
    if claim.at == "matched" and any(one.epochs):
        shown = [
            f"{words} at epoch {epoch}" if epoch else words for words, epoch in zip(shown, one.epochs, strict=True)
        ]
    needed = "" if verdict != "not resolved" else _needed(claim, one, margin)
    return JudgedContrast(one, verdict, place_of(pair), shown[0], shown[1], difference_words(one), needed)


def _named(other: float | str) -> str:
    return "untuned model" if other == UNTUNED else f"{other:g}"


def _number(value: float | None, metric: str) -> str:
    if metric.endswith("_parameters"):
        return count(value)
    if metric.endswith("_bytes"):
        return size(value)
    return seconds(value) if metric == "seconds" else measure(value)


def difference_words(one: Contrast) -> str:
    """'+0.113 [+0.052, +0.174]', of a ratio '×1.04 [1.02, 1.06]'; why there is none where it is absent."""
    estimate = one.estimate
    if estimate.value is None:
        return estimate.reason
    spell = _ratio if one.is_ratio else signed
    words = spell(estimate.value)
    if estimate.low is None or estimate.high is None:
        return f"{words}, no interval"
    return words if estimate.interval == "counted" else f"{words} [{spell(estimate.low)}, {spell(estimate.high)}]"


def _ratio(value: float) -> str:
    return f"×{measure(math.exp(value))}"


def size_words(one: Contrast) -> str:
    """On what a comparison rests: '3 seeds', or '400 records, one seed'."""
    n = one.estimate.n
    if one.estimate.value is None:
        return ""
    if one.estimate.interval in OVER_SEEDS or one.seeds > 1:
        return f"{one.seeds} seeds"
    return (
        "counted"
        if one.estimate.interval == "counted"
        else f"{n or 1:,} records, one seed"
        if (n or 1) > 1
        else "one run"
    )


def _needed(claim: Claim, one: Contrast, margin: float) -> str:
    """What would resolve a comparison that is not."""
    estimate = one.estimate
    if estimate.value is None:
        return estimate.reason
    if estimate.low is None or estimate.high is None:
        if one.seeds > 1:
            return f"the {one.seeds} seeds came to the same, and none has an interval of its own"
        return "more seeds: one run has no interval"
    if claim.direction == "equal":
        return would_show(estimate, margin, "records")
    edge = _edge(claim, estimate.value, margin)
    if estimate.interval == "counted" and estimate.value == edge == 0.0:
        return "no number of seeds would: these are known, and the same"
    if _sign(claim) * (estimate.value - edge) <= 0.0:
        beyond = estimate.high < edge if _sign(claim) > 0 else estimate.low > edge
        return "the difference points the other way, and could be chance" + (
            " among so many comparisons" if beyond else ""
        )
    enough = size_beyond(replace(estimate, null_value=edge))
    what = "seeds" if estimate.interval in OVER_SEEDS else "records"
    if enough is None or enough > MOST:
        return f"the difference is next to {edge:g}: no number of {what} that anybody has would show it"
    return f"about {rounded(enough):,} {what} would show it, it has {estimate.n:,}"


def _about(each: Sequence[JudgedContrast], gaps: Sequence[str]) -> str:
    """'12 of 15 comparisons support it, 1 contradicts it; model tiny-16m has no results'."""
    return "; ".join([_counted(each), *dict.fromkeys(gaps)])


def _counted(each: Sequence[JudgedContrast]) -> str:
    if not each:
        return "the study has no two runs that it is about"
    counts = {verdict: sum(one.verdict == verdict for one in each) for verdict in MEANINGS}
    if len(each) == 1:
        return "one comparison"
    words = [f"{counts['supported']} of {len(each)} comparisons support it"]
    against = counts["contradicted"]
    words += [f"{against} {'contradicts' if against == 1 else 'contradict'} it"] if against else []
    return ", ".join(words)


def _needed_of(each: Sequence[JudgedContrast], verdict: Verdict) -> str:
    if verdict != "not resolved":
        return ""
    return next((one.needed for one in each if one.needed), "")


def conditions(judged: JudgedClaim) -> str:
    """What is compared, in words: 'membership.loss.auc, at matched validation loss (within 0.02 nats)'."""
    claim, margin = judged.claim, f"{judged.margin:g}"
    is_ratio = any(one.contrast.is_ratio for one in judged.contrasts)
    if is_ratio:
        margin = f"a factor of {measure(math.exp(judged.margin))}"
    words = [claim.measure]
    words += [f"{key} {value}" for key, value in claim.settings.items()]
    if claim.at == "matched":
        words.append(f"at matched validation loss (within {MATCHED:g} nats)")
    elif claim.at == "best":
        words.append("at the epoch of lowest validation loss")
    if claim.direction == "equal":
        words.append(f"equal within {'' if is_ratio else '±'}{margin}")
    elif claim.direction in ("not higher", "not lower"):
        words.append(f"{claim.direction} by more than {margin}")
    return ", ".join(words)
