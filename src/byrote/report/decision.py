"""What to choose: derived from intervals, and nothing where they show nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from byrote.report.accounts import accounts
from byrote.report.contest import MOST, Contest, Duel, contest_of
from byrote.report.controls import unseen
from byrote.report.extraction_numbers import comes_out_more, number_label
from byrote.report.findings import Configuration, Finding
from byrote.report.formats import signed, with_limits
from byrote.report.other_leaks import OtherLeaks
from byrote.report.results import Results
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.report.wrong_labels import learned_wrong_labels
from byrote.statistics.comparison import within_margin

State = Literal["clean", "leaks", "open"]
Outcome = Literal["chosen", "useless", "unclean", "nothing"]


@lru_cache(maxsize=4)
def decision_of(results: Results) -> Decision:
    """The decision of a study, made once for all forms of its report."""
    return Decision(Summary(results))


@dataclass(frozen=True, eq=False)
class Decision:
    """The recommendation of one study, and what it rests on."""

    summary: Summary

    @cached_property
    def contest(self) -> Contest:
        return contest_of(self.summary)

    @cached_property
    def chosen(self) -> list[Finding]:
        """Those that are recommended: shown to be useful and clean, the most useful and all not shown to be less so."""
        if self.spoilt:
            return []
        able = [one for one in self.useful if self.state(one) == "clean" and self.guaranteed(one)]
        best = max(able, key=self.worth, default=None)
        if best is None:
            return []
        rivals = [(one, self.contest.duel(best, one)) for one in able if one is not best]
        return [best, *(one for one, duel in rivals if duel is not None and not duel.is_more_useful)]

    @cached_property
    def useful(self) -> list[Finding]:
        """The tuned methods that are shown to be more useful than the untuned model; all, where there is none."""
        if not any(one.configuration.method == "none" for one in self.contest.entrants):
            return self.contest.tuned
        against = [(one, self.against_base(one)) for one in self.contest.tuned]
        return [one for one, duel in against if duel is not None and duel.is_more_useful]

    def state(self, one: Finding) -> State:
        """What all that was measured says of its leakage together."""
        if self.shown(one):
            return "leaks"
        return "clean" if self.absent(one) else "open"

    @cached_property
    def outcome(self) -> Outcome:
        """What it comes to, where anything can be chosen at all."""
        if self.spoilt or not self.contest.tuned or len(self.contest.entrants) > MOST:
            return "nothing"
        return "chosen" if self.chosen else "unclean" if self.useful else "useless"

    @cached_property
    def spoilt(self) -> str:
        """Why no number of this study may be chosen by; empty where they may."""
        results, attack = self.summary.results, self.summary.headline
        if results.broken_splits and attack is not None:
            return (
                "Nothing is recommended: members and nonmembers can be told apart without any model, so no membership "
                "number says what was learned."
            )
        blind = attack is not None and any(
            line.startswith(f"{attack.label} does not") for line in unseen(results.evidence)
        )
        if blind and attack is not None:
            return (
                f"Nothing is recommended: the {attack.label} attack does not see even members that were over-fitted on "
                "purpose, so that it finds nothing says nothing."
            )
        return ""

    def guaranteed(self, one: Finding) -> bool:
        """Whether what it is called holds."""
        if not one.configuration.private:
            return True
        return not self.summary.results.contradictions and one.configuration in self._held

    @cached_property
    def _held(self) -> set[Configuration]:
        return {of.configuration for of in accounts(self.summary.results.evidence) if of.holds}

    def shown(self, one: Finding) -> list[str]:
        """The kinds of leakage that were shown of a method, each in words."""
        summary, attack = self.summary, self.summary.headline
        found = []
        if attack is not None and summary.verdict(one) in ("leaks", "below null"):
            found.append(f"AUC {with_limits(one.auc[attack].estimate)}")
        found += self._others.of(one)
        for extraction in summary.results.evidence.extractions:
            for metric, row in comes_out_more(self._out, one, extraction).items():
                found.append(f"{number_label(extraction, metric)} {with_limits(row.estimate, signed)} of members")
        if one.configuration in {of.configuration for of, _ in learned_wrong_labels(summary)}:
            found.append("wrong labels learned")
        return found

    @cached_property
    def _others(self) -> OtherLeaks:
        return OtherLeaks(self.summary)

    @cached_property
    def _out(self) -> SlicedIndex:
        return SlicedIndex(self.summary, "extraction")

    def absent(self, one: Finding) -> bool:
        """Whether the number that methods are chosen by is shown to be next to its null."""
        if self.summary.headline is not None:
            return self.summary.verdict(one) == "at chance"
        row = self.contest.leakage.values.get(one.configuration) if self.contest.leakage else None
        return row is not None and within_margin(row.estimate, self.summary.results.evidence.margin)

    def against_base(self, one: Finding) -> Duel | None:
        base = self.summary.base
        return None if base is None else self.contest.duel(one, base)

    def worth(self, one: Finding) -> float:
        """The utility of a method, higher for better."""
        quantity = self.contest.utility
        value = quantity.values[one.configuration].value if quantity is not None else None
        return -math.inf if quantity is None or value is None else quantity.sign * value
