"""What a study came to: its findings around one attack and one utility measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from byrote.report.findings import Configuration, Finding, Index, Verdict, configurations, findings
from byrote.report.measures import Attack, Utility, headline
from byrote.report.results import Results
from byrote.report.rows import Row

MOST_DRAWN = 24
"""Methods in one picture: of more, none can be told from another."""


@dataclass(frozen=True, eq=False)
class Summary:
    """Findings of a study around its headline attack and its first utility measure."""

    results: Results
    most: int | None = None
    """Of how many methods it speaks, the first of them; None: all."""

    @cached_property
    def index(self) -> Index:
        return Index(self.results.evidence, self.results.rows)

    @cached_property
    def configurations(self) -> list[Configuration]:
        return configurations(self.results.evidence)

    @cached_property
    def findings(self) -> list[Finding]:
        """The base model's first, then every method's."""
        found = findings(self.index)
        base = sum(one.configuration.method == "none" for one in found)
        return found if self.most is None else found[: base + self.most]

    @cached_property
    def base(self) -> Finding | None:
        return next((one for one in self.findings if one.configuration.method == "none"), None)

    @cached_property
    def tuned(self) -> list[Finding]:
        return [one for one in self.findings if one.configuration.method != "none"]

    @property
    def drawn(self) -> list[Finding]:
        """What pictures have room for: the first `MOST_DRAWN` methods and the untuned model."""
        return self.findings[: MOST_DRAWN + (self.base is not None)]

    @property
    def drawn_tuned(self) -> list[Finding]:
        return self.tuned[:MOST_DRAWN]

    @property
    def failed(self) -> list[Configuration]:
        """Configurations of which no run ended well."""
        return [one for one in self.configurations if not one.done]

    @cached_property
    def headline(self) -> Attack | None:
        return headline(self.results.evidence.attacks)

    @property
    def utility(self) -> Utility | None:
        return next(iter(self.results.evidence.utilities), None)

    @property
    def chosen_by(self) -> Utility | None:
        """The first utility measure of which more is better, or less: methods cannot be chosen by another."""
        return next((one for one in self.results.evidence.utilities if one.higher_is_better is not None), None)

    def of_the_records(self, utility: Utility) -> Row | None:
        """The number of the test records' own text; None for a measure without such a thing."""
        found = (self.index.get(one.configuration, one.epoch, utility, utility.of_the_records) for one in self.findings)
        return next((row for row in found if row is not None), None)

    @cached_property
    def null(self) -> float | None:
        """The null of the headline attack's AUC where all methods share one."""
        return same_null([one.auc.get(self.headline) for one in self.tuned]) if self.headline is not None else None

    @cached_property
    def tpr_null(self) -> float | None:
        """That of its TPR at `tpr_rate`."""
        if self.headline is None or self.tpr_rate is None:
            return None
        return same_null([one.tpr.get(self.headline, {}).get(self.tpr_rate) for one in self.tuned])

    @cached_property
    def tpr_rate(self) -> float | None:
        """The lowest FPR at which the headline attack's TPR is resolved for any method."""
        found = [
            at for one in self.tuned if self.headline
            for at, row in one.tpr.get(self.headline, {}).items() if row.value is not None
        ]  # fmt: skip
        return min(found, default=None)

    def verdict(self, finding: Finding) -> Verdict:
        attack = self.headline
        return "not resolved" if attack is None else finding.verdicts.get(attack, "not resolved")

    def with_verdict(self, verdict: Verdict) -> list[Finding]:
        return [one for one in self.tuned if self.verdict(one) == verdict]

    def sizes(self) -> str:
        """'200 members and 200 nonmembers', with 'per seed' where there are several."""
        evidence = self.results.evidence
        parts = evidence.split_seeds
        members, nonmembers = (
            min((len(evidence.part_of(seed, side)) for seed in parts), default=0) for side in ("member", "nonmember")
        )
        per_seed = f" in each of {len(parts)} seeds" if len(parts) > 1 else ""
        return f"{members:,} members and {nonmembers:,} nonmembers{per_seed}"

    def pooled(self) -> str:
        """', pooled over 4 seeds'; ', pooled over 1 to 4 seeds' where methods differ; nothing with one seed."""
        counts = [len(one.configuration.done) for one in self.tuned or self.findings]
        low, high = min(counts, default=1), max(counts, default=1)
        span = str(high) if low == high else f"{low} to {high}"
        return f", pooled over {span} seeds" if high > 1 else ""


def same_null(rows: Iterable[Row | None]) -> float | None:
    """The one null of all these rows, or None where they differ."""
    nulls = {row.null_value for row in rows if row is not None and row.value is not None}
    return nulls.pop() if len(nulls) == 1 else None
