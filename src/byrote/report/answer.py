"""The plain-words answer, derived from intervals against nulls and worded with its uncertainty.

Sentences are Markdown with nothing but **bold** in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from byrote.report.accounts import accounts
from byrote.report.equivalence import would_show
from byrote.report.extraction import extraction_sentences
from byrote.report.findings import Finding, Verdict, judged_by, too_few_seeds
from byrote.report.formats import listed, measure, rate, with_limits
from byrote.report.measures import Attack
from byrote.report.pairwise import pair_sentences
from byrote.report.summary import Summary
from byrote.report.versus import MANY, versus_sentences
from byrote.report.wrong_labels import excess_sentences

VERDICTS: dict[Verdict, str] = {
    "leaks": "the interval lies above the null: the attack tells members from nonmembers",
    "at chance": "the interval takes in the null and lies within the study's margin of it, {margin}",
    "below null": "the interval lies below the null: nonmembers look more trained on than members do",
    "not resolved": "the interval takes in the null and reaches beyond {margin} of it{seeds}: too few records or "
    "seeds to show leakage or its absence",
    "failed": "the run failed and has no numbers",
}


def meanings(summary: Summary) -> dict[Verdict, str]:
    """What each verdict of this study says, in the order of `VERDICTS`."""
    shown = {summary.verdict(one) for one in summary.tuned} | ({"failed"} if summary.failed else set())
    return meanings_of(shown, f"±{summary.results.evidence.margin:g}", len(summary.results.evidence.seeds))


def meanings_of(shown: Collection[str], margin: str, seeds: int) -> dict[Verdict, str]:
    """The same for verdicts that are shown, with the margin in words and how many seeds there are."""
    disagree = ", or the seeds do not agree" if seeds > 1 else ""
    return {
        verdict: words.format(margin=margin, seeds=disagree) for verdict, words in VERDICTS.items() if verdict in shown
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
            "This study asks for no membership attack, so it does not say whether members can be told from others.",
            *extraction_sentences(summary),
            *excess_sentences(summary),
            *_utility(summary),
        ]
    sentences = [
        *_not_guaranteed(summary),
        *_leaks(summary, attack),
        *_at_chance(summary, attack),
        *_below(summary, attack),
    ]
    margin = summary.results.evidence.margin
    sentences += [*_unresolved(summary, attack), *versus_sentences(summary.tuned, attack, summary.utility, margin)]
    sentences += [*pair_sentences(summary), *extraction_sentences(summary), *excess_sentences(summary)]
    sentences += [*_utility(summary), *_failed(summary)]
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


def _all_of(found: Sequence[Finding], attack: Attack, last: str = "or") -> str:
    return _with_aucs(found, attack, last) if len(found) <= MANY else f"{_names(found, last)} ({_span(found, attack)})"


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
    measured = all(judged_by(one.configuration, attack) == "auc-lift" for one in found)
    source = "the same attack on the untuned model" if measured else "a coin toss"
    return f"{'Each interval lies' if len(found) > 1 else 'The interval lies'} above the null{value}, {source}."


def _at_chance(summary: Summary, attack: Attack) -> list[str]:
    found = summary.with_verdict("at chance")
    if not found:
        return []
    said = (
        f"{summary.sizes()} show the attack at chance for {_all_of(found, attack, 'and')}: within "
        f"±{summary.results.evidence.margin:g} of the null, as far as 95% intervals go."
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
    few = [
        one for one in known
        if too_few_seeds(summary.index, one.configuration, one.epoch, attack, judged_by(one.configuration, attack))
    ]  # fmt: skip
    sentences = _wide(summary, attack, [one for one in known if one not in few])
    if few:
        seeds = len(summary.results.evidence.seeds)
        sentences.append(f"For {_with_aucs(few, attack)}, {seeds} seeds are too few to say.")
    if unknown:
        sentences.append(f"For {_names(unknown)} there are too few readable scores to say.")
    return sentences


def _wide(summary: Summary, attack: Attack, found: Sequence[Finding]) -> list[str]:
    """Whose intervals take in the null and more than the margin around it, and what it would take to narrow them."""
    if not found:
        return []
    margin = summary.results.evidence.margin
    takes, reaches = ("takes", "reaches") if len(found) == 1 else ("take", "reach")
    sentence = (
        f"Not resolved for {_all_of(found, attack, 'and')}: the {'interval' if len(found) == 1 else 'intervals'} "
        f"{takes} in the null and {reaches} beyond ±{margin:g} of it, so neither leakage nor its absence is shown."
    )
    needs = [(one, needed(summary, one, attack)) for one in found]
    known = [f"**{one.configuration.label}** ({words})" for one, words in needs if words]
    if known and len(found) <= MANY:
        sentence += f" To show its absence, should the AUC stay where it is: {'; '.join(known)}."
    return [sentence]


def needed(summary: Summary, one: Finding, attack: Attack) -> str:
    """How many records or seeds would show this AUC to be at chance; empty where that cannot be told."""
    row = summary.index.get(one.configuration, one.epoch, attack, judged_by(one.configuration, attack))
    if row is None or None in (row.value, row.low, row.high, row.null_value):
        return ""
    return would_show(row.estimate, summary.results.evidence.margin, "members and nonmembers")


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
    return [f"On test records {utility.label} is {span}{untuned}; {utility.best}."]


def _failed(summary: Summary) -> list[str]:
    names = [f"**{one.label}**" for one in summary.failed]
    return [f"{listed(names)} failed and {'has' if len(names) == 1 else 'have'} no numbers."] if names else []
