"""What attacks besides the headline one, and records of one slice, show of a method: reasons not to call it clean."""

from __future__ import annotations

from byrote.report.findings import Finding, judged_by
from byrote.report.formats import with_limits
from byrote.report.measures import Attack
from byrote.report.rows import Row
from byrote.report.sliced import SlicedIndex
from byrote.report.summary import Summary
from byrote.statistics.comparison import holm, p_value

ALPHA = 0.05


class OtherLeaks:
    """Membership numbers by attack and slice, at the last epoch of each configuration."""

    def __init__(self, summary: Summary) -> None:
        self.summary, self.index = summary, SlicedIndex(summary, "membership")
        aucs = (row for row in summary.results.rows if row.kind == "membership" and row.metric in ("auc", "auc-lift"))
        self.slices = list(dict.fromkeys(row.slice for row in aucs))

    def of(self, one: Finding) -> list[str]:
        """Each attack and slice that leaks, in words, the largest first.

        So many are looked at that some would leak by chance: p is at most 0.05 after Holm's correction for all of them.
        """
        asked = [
            (attack, slice_, row)
            for attack in self.summary.results.evidence.attacks
            for slice_ in self.slices
            if (attack, slice_) != (self.summary.headline, "")
            and (row := self.index.get(one, attack, judged_by(one.configuration, attack), slice_)) is not None
            and None not in (row.value, row.low, row.high, row.null_value)
            and (slice_ or one.verdicts.get(attack) == "leaks")
        ]
        # An attack whose seeds are too few to believe is no leak; it still counts as looked at.
        looked_at = len(self.summary.results.evidence.attacks) * len(self.slices) - 1
        adjusted = holm([p_value(row.estimate) for *_, row in asked] + [1.0] * (looked_at - len(asked)))
        leaks = [
            (attack, slice_, row)
            for (attack, slice_, row), p in zip(asked, adjusted, strict=False)
            if p <= ALPHA and (row.value or 0.0) > (row.null_value or 0.0)
        ]
        return [_words(*leak) for leak in sorted(leaks, key=lambda leak: -(leak[2].value or 0.0))]


def _words(attack: Attack, slice_: str, row: Row) -> str:
    what = "AUC" if row.metric == "auc" else "AUC beyond the untuned model's"
    return f"{what} of {attack.label}{f' on {slice_}' if slice_ else ''} {with_limits(row.estimate)}"
