"""The recommendation in plain words with its uncertainty, and by what rule a method counts as dominated.

Sentences are Markdown with nothing but **bold** in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from byrote.report.answer import needed
from byrote.report.contest import ALPHA, MOST
from byrote.report.decision import Decision
from byrote.report.equivalence import would_tell
from byrote.report.findings import Finding
from byrote.report.formats import ABSENT, listed, measure, percent, signed, with_limits
from byrote.report.quantities import better
from byrote.types import Estimate

FEW = 4  # methods that a sentence names with their numbers


def recommendation(of: Decision) -> list[str]:
    """The recommendation; where there is none, why not, and what would help."""
    summary = of.summary
    if not summary.tuned:
        return []
    if of.spoilt:
        return [of.spoilt]
    if summary.results.evidence.audited:
        return _audited(of)
    if of.contest.leakage is None:
        if summary.results.evidence.extractions:
            return ["No leakage has a number that methods could be chosen by: give the study membership attacks."]
        only = "of leakage only wrong labels that were learned" if summary.results.evidence.poisonings else "no leakage"
        return [f"This study measures {only}, by which no method is chosen: give it membership attacks."]
    if of.contest.utility is None:
        return ["This study measures no utility, so nothing can be weighed against leakage: no method is chosen."]
    if not of.contest.tuned:
        return ["No method has both its leakage and its utility measured, so none is chosen."]
    if len(of.contest.entrants) > MOST:
        return [f"More than {MOST} methods are too many to set each against each: no method is chosen here."]
    words = {"chosen": _chosen, "useless": _none_useful, "unclean": _none_clean}
    return [*words[of.outcome](of), *_trade(of)]


def rule_of(of: Decision) -> str:
    """When a method counts as dominated, in words; empty where none were compared."""
    contest = of.contest
    if not contest.duels or contest.leakage is None or contest.utility is None:
        return ""
    many = f" (adjusted for all {contest.comparisons} comparisons, Holm)" if contest.comparisons > 1 else ""
    margin = of.summary.results.evidence.margin
    utility = percent(margin) if contest.utility.is_ratio else f"{contest.utility.margin:g}"
    margins = f"{margin:g} in {contest.leakage.label} and {utility} in {contest.utility.label}"
    rivals = "another, the untuned model among them," if of.summary.base is not None else "another"
    return (
        f"A method is dominated where {rivals} is shown to be better in one of the two and no worse in the other, "
        f"on the same records at the last epoch. Better: p is at most {ALPHA:g}{many}. No worse: the 95% interval "
        f"of the difference takes in 0 or better, and nothing worse than {margins}. What is not shown dominates "
        "nothing, so of two methods that cannot be told apart neither is dominated."
    )


def _chosen(of: Decision) -> list[str]:
    """'Choose **prompt-tuning**: at perplexity 61 [58, 64] it leaks nothing that 1,000 members ... can show.'"""
    best, *others = of.chosen
    attack = of.summary.headline
    by = f" by the {attack.label} attack" if attack is not None else ""
    said = [
        f"Choose **{best.configuration.label}**: at {_worded(of, best)} it leaks nothing that "
        f"{of.summary.sizes()} can show{by}: {_leak(of, best)} lies within "
        f"±{of.summary.results.evidence.margin:g} of its null."
    ]
    if others:
        said.append(f"As clean, and not shown to be less useful: {_named(of, others)}.")
    ahead = [one for one in of.useful if _is_ahead(of, one, best)]
    return [*said, *([_price(of, max(ahead, key=of.worth), best)] if ahead else [])]


def _is_ahead(of: Decision, one: Finding, best: Finding) -> bool:
    duel = of.contest.duel(one, best)
    return one not in of.chosen and duel is not None and duel.is_more_useful


def _price(of: Decision, top: Finding, best: Finding) -> str:
    """What the most useful method has over the one that is recommended, and what it costs."""
    duel, shown = of.contest.duel(top, best), of.shown(top)
    amount = _by(of, duel.utility.estimate) if duel is not None else ""
    but = f"leaks: {'; '.join(shown[:FEW])}" if shown else f"is not shown to be clean: {_leak(of, top)}"
    name = top.configuration.label
    return f"More utility has a price: **{name}** is better in {_label(of)} by {amount}, but {but}."


def _none_useful(of: Decision) -> list[str]:
    """Where no method is shown to help, and what would show that one does."""
    base, best = of.summary.base, max(of.contest.tuned, key=of.worth)
    against = [duel.utility for one in of.contest.tuned if (duel := of.against_base(one)) is not None]
    said = [
        f"None is recommended: no method is shown to improve {_label(of)} over the untuned model, which has "
        f"{_value(of, base)}. The best is **{best.configuration.label}** with {_value(of, best)}."
    ]
    if all(one.estimate.high is not None and one.estimate.high < 0.0 for one in against):
        return [*said, "All are shown to be worse than untuned: train for fewer epochs, or at other rates."]
    duel = of.against_base(best)
    ahead = duel is not None and (duel.utility.estimate.value or 0.0) > 0.0
    needs = would_tell(duel.utility.estimate, "test records") if duel is not None and ahead else ""
    return [*said, f"To show that it is better, should the numbers stay: {needs}."] if needs else said


def _none_clean(of: Decision) -> list[str]:
    """Where what helps leaks, or may: none is recommended, and what would settle it."""
    unsure = [one for one in of.useful if of.state(one) != "leaks"]
    hidden = [one for one in of.useful if of.summary.headline and of.state(one) == "leaks" and of.absent(one)]
    but = [f"**{one.configuration.label}** looks clean ({_leak(of, one)}), but {of.shown(one)[0]}." for one in hidden]
    which = f"method that is shown to improve {_label(of)}" if of.summary.base is not None else "method"
    if not unsure:
        also = "also " if of.summary.base is not None else ""
        return [f"None is recommended as safe: every {which} {also}leaks.", *but[:FEW]]
    said = [f"None is recommended as safe: no {which} is shown not to leak."]
    attack = of.summary.headline
    needs = [needed(of.summary, one, attack) if attack is not None else "" for one in unsure]
    each = [
        f"**{one.configuration.label}** ({'; '.join(filter(None, [_leak(of, one), words]))})"
        for one, words in list(zip(unsure, needs, strict=True))[:FEW]
    ]
    more = f" and {len(unsure) - FEW} more" if len(unsure) > FEW else ""
    return [*said, f"Not resolved: {listed(each)}{more}.", *but[:FEW]]


def _trade(of: Decision) -> list[str]:
    """What is left to choose between, and what is not worth choosing."""
    left = of.contest.undominated()
    weighed = [one for one in left if one in of.useful]
    idle = [one for one in left if one not in of.useful]
    said = []
    if len(weighed) > 1:
        said.append(f"Not dominated, so that choosing is weighing utility against leakage: {_named(of, weighed)}.")
    if idle and of.useful:
        said.append(f"Not shown to be more useful than the untuned model: {_names(idle)}.")
    behind = [(one, others) for one in of.contest.tuned if (others := of.contest.dominators(one))]
    if behind:
        base = [one for one, others in behind if others[-1].configuration.method == "none"]
        rest = [(one, others) for one, others in behind if one not in base]
        each = [f"**{one.configuration.label}** (by {others[0].configuration.label})" for one, others in rest]
        each = [f"{_names(base)} (by the untuned model)", *each] if base else each
        said.append(f"Dominated: {'; '.join(each)}.")
    return said


def _audited(of: Decision) -> list[str]:
    """An audit has nothing to choose between: what its one model may be taken for."""
    one = of.summary.tuned[0]
    if shown := of.shown(one):
        return [f"Treat this model as one that holds its training records: {'; '.join(shown[:FEW])}."]
    if of.absent(one):
        return [f"This model shows nothing of its training records to these attacks: {_leak(of, one)}."]
    return ["Whether this model holds its training records is not resolved, so do not treat it as one that does not."]


def _named(of: Decision, found: Sequence[Finding]) -> str:
    each = [f"**{one.configuration.label}** ({_worded(of, one)}; {_leak(of, one)})" for one in found[:FEW]]
    more = [f"**{one.configuration.label}**" for one in found[FEW:]]
    return "; ".join(each) + (f"; and {listed(more)}" if more else "")


def _worded(of: Decision, one: Finding) -> str:
    """'perplexity 61 [58, 64]', of a private method with what privacy costs."""
    return f"{_label(of)} {_value(of, one)}{_cost(of, one)}"


def _cost(of: Decision, one: Finding) -> str:
    """', 4% [2%, 6%] worse than without privacy'; empty where that is not measured."""
    quantity, utility = of.contest.utility, of.summary.chosen_by
    row = one.utility_versus.get(utility) if utility is not None else None
    if quantity is None or row is None or None in (row.value, row.low, row.high):
        return ""
    estimate = better(quantity, row.estimate)
    if estimate.low is None or estimate.high is None or estimate.low <= 0.0 <= estimate.high:
        return f" ({_by(of, estimate)} against without privacy, not resolved)"
    word = "better" if estimate.low > 0.0 else "worse"
    return f", {_by(of, estimate)} {word} than without privacy"


def _by(of: Decision, estimate: Estimate) -> str:
    """The size of a difference of utility with its interval; of what multiplies in percent of the worse one."""
    ratio = of.contest.utility is not None and of.contest.utility.is_ratio
    numbers = [estimate.value, estimate.low, estimate.high]
    if estimate.high is not None and estimate.high < 0.0:
        numbers = [estimate.value, estimate.high, estimate.low]
    crosses = estimate.low is not None and estimate.high is not None and estimate.low <= 0.0 <= estimate.high
    words = [_amount(number, ratio, crosses) for number in numbers if number is not None]
    return f"{words[0]} [{words[1]}, {words[2]}]" if len(words) == 3 else "".join(words[:1])


def _label(of: Decision) -> str:
    return of.contest.utility.label if of.contest.utility is not None else "utility"


def _value(of: Decision, one: Finding | None) -> str:
    row = of.contest.utility.values.get(one.configuration) if of.contest.utility and one else None
    return with_limits(row.estimate, measure) if row is not None else ABSENT


def _leak(of: Decision, one: Finding) -> str:
    """'AUC 0.503 [0.480, 0.526]', or what comes out."""
    quantity = of.contest.leakage
    row = quantity.values.get(one.configuration) if quantity is not None else None
    if row is None or quantity is None:
        return "leakage not measured"
    if of.summary.headline is not None:
        return f"AUC {with_limits(row.estimate)}"
    return f"{quantity.label} {with_limits(row.estimate, signed)}"


def _names(found: Sequence[Finding]) -> str:
    return listed([f"**{one.configuration.label}**" for one in found])


def _amount(number: float, is_ratio: bool, crosses: bool) -> str:
    """A gain in words: '4.1%' or '0.052'; with its sign where its interval takes in none."""
    sign = "" if not crosses else "+" if number > 0 else "−"
    return sign + (percent(math.expm1(abs(number))) if is_ratio else measure(abs(number)))
