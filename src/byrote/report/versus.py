"""What privacy changed: every private configuration beside the same method without privacy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from byrote.report.findings import Configuration, Finding, Verdict, over_seeds
from byrote.report.formats import listed, rate, signed, with_limits
from byrote.report.measures import Attack, Utility
from byrote.report.privacy_rows import privacy_settings, without_privacy
from byrote.store import canonical_json

MANY = 6  # methods that a sentence names with an interval each

CHANGES: dict[Verdict, str] = {
    "below null": "falls for",
    "leaks": "rises for",
    "at chance": "stays within ±{margin:g} of what it was for",
    "not resolved": "shows no resolved change for",
}


def twin_finding(found: Sequence[Finding], one: Finding) -> Finding | None:
    """The finding of the same method with the same settings without privacy."""
    of = one.configuration
    wanted = (of.method, without_privacy(of.settings), "none")
    return next((other for other in found if _key(other.configuration) == wanted), None)


def _key(of: Configuration) -> tuple[str, str, str]:
    return of.method, of.settings, of.privacy


def pairs(found: Sequence[Finding], attack: Attack) -> list[tuple[Finding, Finding]]:
    """Every private finding with its twin, where their AUCs could be compared: one seed of several says nothing."""
    twins = [(one, twin_finding(found, one)) for one in found if one.configuration.private]
    return [
        (one, other)
        for one, other in twins
        if other is not None and (row := one.versus.get(attack)) is not None and row.value is not None
        and (row.seed is None or not over_seeds(one.configuration, other.configuration))
    ]  # fmt: skip


def versus_sentences(found: Sequence[Finding], attack: Attack, utility: Utility | None, margin: float) -> list[str]:
    """What each privacy level did to the AUC and to the first utility measure: one sentence for each level."""
    levels: dict[str, list[Finding]] = {}
    twins = pairs(found, attack)
    for one, _ in twins:
        levels.setdefault(_level(one, found), []).append(one)
    names = {one.configuration: other.configuration.label for one, other in twins}
    return [
        f"With {level} the AUC of the {attack.label} attack {_changes(of, names, attack, margin)}{_price(of, utility)}."
        for level, of in levels.items()
    ]


def _level(one: Finding, found: Sequence[Finding]) -> str:
    """'ε 8', with its own settings where another level of the study has the same epsilon."""
    of = one.configuration
    level = [other.configuration for other in found if other.configuration.level == of.level]
    alike = {canonical_json(privacy_settings(other.settings)) for other in level}
    own = ", ".join(f"{name} {value}" for name, value in privacy_settings(of.settings).items())
    return f"{of.level} ({own})" if len(alike) > 1 and own else of.level


def _changes(of: Sequence[Finding], names: Mapping[Configuration, str], attack: Attack, margin: float) -> str:
    """'falls for **full** by 0.260 [0.239, 0.282] and shows no resolved change for **lora** (difference ...)'."""
    clauses = []
    for verdict, words in CHANGES.items():
        same = [one for one in of if one.versus_verdicts[attack] == verdict]
        each = [f"**{names[one.configuration]}**{_amount(one, attack, verdict)}" for one in same]
        if same and len(of) > MANY:
            each = [f"**{names[one.configuration]}**" for one in same]
        clauses += [f"{words.format(margin=margin)} {listed(each)}"] if same else []
    return listed(clauses)


def _amount(one: Finding, attack: Attack, verdict: Verdict) -> str:
    row = one.versus[attack]
    if verdict not in ("below null", "leaks") or row.value is None or row.low is None or row.high is None:
        return f" (difference {with_limits(row.estimate, signed)})"
    low, high = sorted((abs(row.low), abs(row.high)))
    return f" by {rate(abs(row.value))} [{rate(low)}, {rate(high)}]"


def _price(of: Sequence[Finding], utility: Utility | None) -> str:
    """What the first utility measure came to, beside the same methods without privacy; empty where not known."""
    rows = [one.utility_versus[utility] for one in of if utility is not None and utility in one.utility_versus]
    values = sorted(row.value for row in rows if row.value is not None)
    if utility is None or not values:
        return ""
    spell = rate if utility.form == "exp" else signed
    span = spell(values[0]) if spell(values[0]) == spell(values[-1]) else f"{spell(values[0])} to {spell(values[-1])}"
    if utility.form == "exp":
        return f"; {utility.label} on test records is {span} times as high"
    return f"; {utility.label} on test records changes by {span}"
