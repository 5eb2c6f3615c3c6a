"""The section on privacy: accounts side by side, what they guarantee and what not, and what privacy changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from byrote.report.accounts import Account, accounts
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, limits, measure, percent, rate, rounded_up, seconds, signed
from byrote.report.limits import Limit, limit_of, limits_of
from byrote.report.privacy_rows import REPEATABLE
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.report.tables import Column, Value
from byrote.report.versus import twin_finding
from byrote.statistics.tradeoff import group_bound
from byrote.types import Ledger

NOTHING = Value(ABSENT)
AT = 0.01  # the false-positive rate at which the table gives the limit
BOUND = (
    "Epsilon and delta bound what any attack, whatever it knows, can learn from the tuned weights about one unit. They "
    "are a bound and not a forecast: an epsilon such as 8 does not promise that attacks are at chance, and attacks at "
    "chance do not prove that epsilon is small."
)
CHANCE = (
    "These limits are for telling trainings with a record from the same trainings without it, over the chance of "
    "training: what is measured on one split and one training may lie above them by chance."
)


class PrivacyLine(NamedTuple):
    """One configuration in a table of the section."""

    label: str
    values: list[Value]


class Privacy(NamedTuple):
    """Everything that the section says."""

    banners: list[str]
    columns: list[Column]
    accounts: list[PrivacyLine]
    engines: list[str]
    statements: list[str]
    outside: list[str]
    versus_columns: list[Column]
    versus: list[PrivacyLine]


def privacy_of(summary: Summary) -> Privacy | None:
    """The section; None where no run of the study is private."""
    found = accounts(summary.results.evidence)
    if not found:
        return None
    return Privacy(
        banners=summary.results.banners,
        columns=_columns(),
        accounts=[PrivacyLine(one.configuration.label, _account(one)) for one in found],
        engines=_refused(found),
        statements=[BOUND, *_limits(found), *([CHANCE] if any(map(limit_of, found)) else []), *_units(found)],
        outside=_outside(summary),
        versus_columns=_versus_columns(summary),
        versus=_versus(summary),
    )


def _columns() -> list[Column]:
    return [
        Column("epsilon spent"),
        Column("limit at 1% FPR", "no attack finds more"),
        Column("protects"),
        Column("noise", "in clip norms"),
        Column("steps"),
        Column("accountant"),
        Column("gradients by"),
    ]


def _account(one: Account) -> list[Value]:
    ledger = one.ledger
    if ledger is None:
        return [Value("not known", ("no account",)), *[NOTHING] * (len(_columns()) - 1)]
    steps = {other.steps for other in one.ledgers}
    chance = f"{ledger.sampling.capitalize()}, {percent(ledger.sampling_rate)} each"
    drawn = f"{ledger.expected_batch_size:,} of {ledger.units:,} expected"
    each = (f"{ledger.records_per_group} records of each",) if ledger.records_per_group > 1 else ()
    early = (f"of {ledger.planned_steps:,} planned",) if min(steps) < ledger.planned_steps else ()
    rdp = () if ledger.epsilon_rdp is None or not ledger.private else (f"by RDP: {rounded_up(ledger.epsilon_rdp)}",)
    return [
        _spent(one, ledger),
        _limit(one),
        Value(f"one {ledger.unit}", (ledger.relation,)),
        Value(measure(ledger.noise_multiplier), (f"clip norm {ledger.clip_norm:g}", f"{ledger.clipping} clipping")),
        Value(_span(steps), (*early, chance, drawn, *each)),
        Value(ledger.accountant.upper(), (ledger.accountant_version, *rdp)),
        Value(", ".join(dict.fromkeys(other.engine for other in one.ledgers))),
    ]


def _spent(one: Account, ledger: Ledger) -> Value:
    if not all(other.private for other in one.ledgers):
        return Value("NOT private", (REPEATABLE.partition(",")[0],))
    lowest = min(other.epsilon for other in one.ledgers)
    small = [
        f"δ {ledger.delta:.2g}",
        "no target: noise given" if ledger.target_epsilon is None else f"target {ledger.target_epsilon:g}",
    ]
    if lowest < ledger.epsilon * 0.995:
        small.append(f"the least of a seed {rounded_up(lowest)}")
    small += [f"not known of seed {seed}" for seed in one.unknown]
    return Value(rounded_up(ledger.epsilon), tuple(small))


def _span(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _limit(one: Account) -> Value:
    limit = limit_of(one)
    if limit is None:
        return NOTHING
    group = (f"groups of {limit.copies}",) if limit.copies > 1 else ()
    best, pair = _shares(limit)
    return Value(best, (f"ε, δ alone: {pair}", *group))


def _shares(limit: Limit) -> tuple[str, str]:
    """The largest TPR at the table's FPR: from the whole profile, and from epsilon and delta alone."""
    at = np.array([AT])
    return bound_up(float(limit.by_profile(at)[0])), bound_up(float(limit.by_pair(at)[0]))


def bound_up(share: float) -> str:
    """A share that bounds another in per cent, rounded up: '5.2%'."""
    tenths = math.ceil(share * 1000 - 1e-9)
    return "no limit" if tenths >= 1000 else f"{tenths / 10:g}%"


def _refused(found: Sequence[Account]) -> list[str]:
    """Which gradient engines were passed over, each once with its reason and the configurations concerned."""
    same: dict[str, list[str]] = {}
    for one in found:
        for reason in dict.fromkeys(reason for ledger in one.ledgers for reason in ledger.refused_engines):
            same.setdefault(reason, []).append(one.configuration.label)
    return [f"{'; '.join(names)}: passed over {reason}" for reason, names in same.items()]


def _limits(found: Sequence[Account]) -> list[str]:
    sentences = []
    for limit in limits_of(found):
        names = "; ".join(one.label for one in limit.configurations)
        best, pair = _shares(limit)
        group = f" that lie in groups of up to {limit.copies}" if limit.copies > 1 else ""
        if best == "no limit":
            sentences.append(f"{names}: at {percent(AT)} FPR nothing keeps an attack from finding all members{group}.")
            continue
        alone = "allow everything" if pair == "no limit" else f"allow {pair}"
        area = math.ceil(limit.auc() * 1000) / 1000
        sentences.append(
            f"{names}: no attack can have a TPR above {best} at {percent(AT)} FPR on members{group}, nor an AUC above "
            f"{area:.3f}, by the whole trade-off of the noise (f-DP). At that FPR ε and δ alone {alone}."
        )
    return sentences


def _units(found: Sequence[Account]) -> list[str]:
    """What the guarantee is for records that are repeated, and for groups."""
    sentences = []
    known = [one.ledger for one in found if one.ledger is not None]
    if any(ledger.unit == "record" for ledger in known):
        sentences.append(
            "Where the unit is one record, a text that stands k times among the members, and the k records of one "
            "person together, have only the bound of group privacy: k times epsilon, and a delta that grows with it."
        )
    if shared := [limit for limit in limits_of(found) if limit.copies > 1]:
        together = [(limit, group_bound(limit.epsilon, limit.delta, limit.copies)) for limit in shared]
        each = dict.fromkeys(
            f"{f'ε {rounded_up(epsilon)} and δ {delta:.2g}' if delta < 1 else 'no guarantee'} "
            f"({', '.join(dict.fromkeys(limit.levels))})"
            for limit, (epsilon, delta) in together
        )
        largest = max(limit.copies for limit in shared)
        sentences.append(
            f"The largest group of members here has {largest} records, which together have {'; '.join(each)}."
        )
    if any(ledger.unit == "group" for ledger in known):
        sentences.append("Where the unit is one group, all of its records are protected together, however many.")
    if any(one.straddles for one in found):
        sentences.append(
            "Groups of this study have members and nonmembers, so their nonmembers are not strangers to the model: no "
            "limit is given."
        )
    return sentences


def _outside(summary: Summary) -> list[str]:
    """What the guarantee does not cover, of what this study did."""
    study = summary.results.manifest.study
    private = [cell for cell in summary.results.evidence.done() if cell.privacy != "none"]
    choices = [
        *(["the search for a learning rate"] if any(cell.tried for cell in private) else []),
        *(["early stopping"] if study.get("early_stop") else []),
    ]
    found = []
    if choices:
        found.append(
            f"{' and '.join(choices).capitalize()} used only records outside the private set (validation and test): "
            "these records have no guarantee."
        )
    if study.get("plants"):
        found.append(
            "Which members the plants took was drawn among all members: the guarantee is that of the planted data."
        )
    cells = summary.results.evidence.done()
    besides = [
        *(["the positive control"] if summary.results.manifest.positive_control is not None else []),
        *(["shadow models"] if any(cell.shadows for cell in cells) else []),
    ]
    if besides:
        found.append(
            f"{' and '.join(besides).capitalize()} trained on members for the attacks of this report. Nothing of them "
            "leaves this folder unless it is given away."
        )
    return [
        *found,
        "The training loss and its curve are computed from the members without noise.",
        "The removal of near-duplicates, and the choice of the columns, looked at the records.",
        "The count of bad examples, whose gradient was not finite and was left out, tells of the members.",
        "Every number of this report that is computed from members (attacks, audits), and the scores it comes from.",
        "Each epsilon is that of one run. Whoever sees several runs on the same records, of other methods, levels, "
        "seeds or nulls, has seen more: their epsilons add up.",
    ]


def _versus_columns(summary: Summary) -> list[Column]:
    attack = summary.headline
    heads = [Column(f"AUC of {attack.label}", "without → with"), Column("paired difference")] if attack else []
    for utility in summary.results.evidence.utilities:
        ratio = "ratio" if utility.form == "exp" else "difference"
        better = "" if utility.higher_is_better is None else utility.best
        heads += [Column(utility.label, "without → with"), Column(f"paired {ratio}", better)]
    return [*heads, Column("training", "without → with")]


def _versus(summary: Summary) -> list[PrivacyLine]:
    twins = [(one, twin_finding(summary.tuned, one)) for one in summary.tuned if one.configuration.private]
    return [
        PrivacyLine(one.configuration.label, _compared(summary, one, other))
        for one, other in twins
        if other is not None
    ]


def _compared(summary: Summary, one: Finding, other: Finding) -> list[Value]:
    values, attack = [], summary.headline
    if attack is not None:
        values = [Value(f"{rate(_value(other.auc.get(attack)))} → {rate(_value(one.auc.get(attack)))}"),
                  _difference(one.versus.get(attack), signed)]  # fmt: skip
    for utility in summary.results.evidence.utilities:
        before, after = (_value(side.utility.get(utility)) for side in (other, one))
        spell = rate if utility.form == "exp" else measure
        values += [
            Value(f"{measure(before)} → {measure(after)}"),
            _difference(one.utility_versus.get(utility), spell),
        ]
    times = (side.cost.get("train_seconds") for side in (other, one))
    return [*values, Value(" → ".join(map(seconds, times)))]


def _value(row: Row | None) -> float | None:
    return None if row is None else row.value


def _difference(row: Row | None, spell: Callable[[float | None], str]) -> Value:
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row else ())
    return Value(spell(row.value), tuple(filter(None, [limits(row.estimate, spell)])))
