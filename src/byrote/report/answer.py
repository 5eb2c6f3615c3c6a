"""The plain-words answer, derived from intervals against nulls and worded with its uncertainty.

Sentences are Markdown with nothing but **bold** in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from byrote.report.accounts import accounts
from byrote.report.findings import Finding, Verdict
from byrote.report.formats import listed, measure, rate, with_limits
from byrote.report.measures import Attack
from byrote.report.summary import Summary
from byrote.report.versus import MANY, versus_sentences
from byrote.report.wrong_labels import excess_sentences

VERDICTS: dict[Verdict, str] = {
    "leaks": "the interval lies above the null: the attack tells members from nonmembers",
    "nothing shown": "the interval takes in the null: this sample cannot tell the two apart",
    "below null": "the interval lies below the null: nonmembers look more trained on than members do",
    "not resolved": "there are too few seeds or records to say",
    "failed": "the run failed and has no numbers",
}


def answer(summary: Summary) -> list[str]:
    """The answer as a few sentences; says so when there is nothing to answer with."""
    attack = summary.headline
    if not summary.tuned:
        if not summary.results.failed:
            return ["No run of this study has ended yet, so there is no answer: run it again and it goes on."]
        return ["No run of this study ended well, so it has no answer. What failed, and why, is listed below."]
    if attack is None:
        return [
            "This study asks for no membership attack, so it says nothing about leakage.",
            *excess_sentences(summary),
            *_utility(summary),
        ]
    sentences = [
        *_not_guaranteed(summary),
        *_leaks(summary, attack),
        *_nothing(summary, attack),
        *_below(summary, attack),
    ]
    sentences += [*_unresolved(summary, attack), *versus_sentences(summary.tuned, attack, summary.utility)]
    sentences += [*excess_sentences(summary), *_utility(summary), *_failed(summary)]
    return [*sentences, "What one attack does not find, a stronger one may: nothing shown is not nothing there."]


def _not_guaranteed(summary: Summary) -> list[str]:
    of = [f"**{one.configuration.label}**" for one in accounts(summary.results.evidence) if not one.holds]
    return [f"No guarantee holds for {listed(of)}, whatever the label says: see Privacy."] if of else []


def _when(found: Sequence[Finding], then: str) -> str:
    """A sentence that begins with how long was trained; where nothing was, only what then follows."""
    epochs = {one.epoch for one in found if one.configuration.trained}
    if not epochs:
        return then[:1].upper() + then[1:]
    epoch = epochs.pop() if len(epochs) == 1 else None
    return f"After {'training' if epoch is None else '1 epoch' if epoch == 1 else f'{epoch} epochs'}, {then}"


def _names(found: Sequence[Finding], last: str = "and") -> str:
    return listed([f"**{one.configuration.label}**" for one in found], last)


def _with_aucs(found: Sequence[Finding], attack: Attack, last: str = "and") -> str:
    return listed(
        [f"**{one.configuration.label}** (AUC {with_limits(one.auc[attack].estimate)})" for one in found], last
    )


def _leaks(summary: Summary, attack: Attack) -> list[str]:
    found = summary.with_verdict("leaks")
    if not found:
        return []
    if all(one.configuration.method == "tuned" for one in found):
        where = _all_of(found, attack)
        then = f"the {attack.label} attack can tell the members from new records of the same kind in {where}."
        return [f"{_when(found, then)} {_null(found, attack)}"]
    tuned, shown = ([one for one in found if one.configuration.trained is trained] for trained in (True, False))
    what = "the members from new records" if shown else "training records from new ones"
    how = [f"tuned {'on them ' if shown else ''}by {_all_of(tuned, attack)}"] if tuned else []
    how += [f"shown them by {_all_of(shown, attack)}"] if shown else []
    then = f"the {attack.label} attack can tell {what} of the same kind when the model was {' or '.join(how)}."
    return [f"{_when(found, then)} {_null(found, attack)}"]


def _all_of(found: Sequence[Finding], attack: Attack) -> str:
    return _with_aucs(found, attack, "or") if len(found) <= MANY else f"{_names(found, 'or')} ({_span(found, attack)})"


def _span(found: Sequence[Finding], attack: Attack) -> str:
    """From the lowest AUC to the highest, each with its interval and method."""
    ordered = sorted(found, key=lambda one: one.auc[attack].value or 0.0)
    ends = [
        f"{with_limits(one.auc[attack].estimate)} for {one.configuration.label}" for one in (ordered[0], ordered[-1])
    ]
    return f"AUC from {ends[0]} to {ends[1]}"


def _null(found: Sequence[Finding], attack: Attack) -> str:
    """What the AUCs are compared with."""
    nulls = {rate(one.auc[attack].null_value) for one in found}
    value = f" of {nulls.pop()}" if len(nulls) == 1 else ""
    source = "a coin toss" if attack.null_is_stated else "the same attack on the untuned model"
    return f"{'Each interval lies' if len(found) > 1 else 'The interval lies'} above the null{value}, {source}."


def _nothing(summary: Summary, attack: Attack) -> list[str]:
    found = summary.with_verdict("nothing shown")
    if not found:
        return []
    highs = [one.auc[attack].high for one in found]
    reach = max(high for high in highs if high is not None)
    said = (
        f"for {_names(found)}, {summary.sizes()} show nothing: the "
        f"{'intervals take' if len(found) > 1 else 'interval takes'} in the null, and AUCs up to {rate(reach)} are not "
        "ruled out."
    )
    return [_when([] if summary.with_verdict("leaks") else found, said)]


def _below(summary: Summary, attack: Attack) -> list[str]:
    found = summary.with_verdict("below null")
    if not found:
        return []
    return [
        f"{_with_aucs(found, attack)} {'lies' if len(found) == 1 else 'lie'} below the null: nonmembers look more "
        "trained on than members, which calls for a look at the split before anything is concluded."
    ]


def _unresolved(summary: Summary, attack: Attack) -> list[str]:
    found = summary.with_verdict("not resolved")
    known = [one for one in found if attack in one.auc and one.auc[attack].value is not None]
    unknown = [one for one in found if one not in known]
    seeds = len(summary.results.evidence.seeds)
    sentences = []
    if known:
        sentences.append(f"For {_with_aucs(known, attack)}, {seeds} seeds are too few to say.")
    if unknown:
        sentences.append(f"For {_names(unknown)} there are too few readable scores to say.")
    return sentences


def _utility(summary: Summary) -> list[str]:
    """How the first utility measure moved, from the untuned model to the methods."""
    utility, base = summary.utility, summary.base
    if utility is None:
        return []
    rows = [(one.utility[utility].value, one) for one in summary.tuned if utility in one.utility]
    known = sorted(((value, one) for value, one in rows if value is not None), key=lambda pair: pair[0])
    if not known:
        return []
    before = base.utility[utility].value if base is not None and utility in base.utility else None
    (low, first), (high, last) = known[0], known[-1]
    span = f"{measure(low)} ({first.configuration.label})"
    if last is not first:
        span = f"between {span} and {measure(high)} ({last.configuration.label})"
    untuned = "" if before is None else f", against {measure(before)} for the untuned model"
    better = "higher" if utility.higher_is_better else "lower"
    return [f"On test records {utility.label} is {span}{untuned}; {better} is better."]


def _failed(summary: Summary) -> list[str]:
    names = [f"**{one.label}**" for one in summary.failed]
    return [f"{listed(names)} failed and {'has' if len(names) == 1 else 'have'} no numbers."] if names else []
