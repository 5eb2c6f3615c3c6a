"""The section on audited epsilons: what coin-flip canaries prove of each training, beside what its ledger says."""

from __future__ import annotations

from typing import NamedTuple

from byrote.report.checks import REFUTED, cell_label
from byrote.report.epsilon_rows import CEILING, GROUP, LOWER_BOUND, P_VALUE, audit_attack
from byrote.report.formats import ABSENT, listed, measure, rounded_up
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.report.tables import Column, Value
from byrote.statistics.epsilon import ESTIMATORS
from byrote.store import Cell
from byrote.types import COIN_FLIP, Ledger

ABOUT = (
    "Of each coin-flip canary a coin of its own decided whether it was trained on. How well an attacker guesses the "
    "coins proves, with 95% confidence, that epsilon is at least as large as is shown; with coins guessed no better "
    "than by chance it is 0. The ceiling is what a perfect attacker would have shown on as many canaries. A low bound "
    "proves no privacy: a better attack, or more canaries, may show more."
)
HEADS = {
    "one-run": Column("one run", "whatever scores have in common"),
    "one-run-f-dp": Column("one run, f-DP", "of a Gaussian mechanism"),
    "clopper-pearson": Column("rates", "canaries independent"),
    "gaussian": Column("rates, Gaussian", "both assumptions"),
}
"""What each estimator takes for granted."""


class AuditLine(NamedTuple):
    """One run and one family of canaries."""

    label: str
    values: list[Value]


class AuditedEpsilon(NamedTuple):
    """Everything that the section says."""

    about: str
    columns: list[Column]
    lines: list[AuditLine]
    statements: list[str]


def audited_epsilon_of(summary: Summary) -> AuditedEpsilon | None:
    """The section; None where no canary had a coin."""
    evidence, rows = summary.results.evidence, summary.results.rows
    found = [row for row in rows if row.kind == "privacy" and row.slice.startswith(COIN_FLIP)]
    if not found:
        return None
    index = {(row.run_id, row.seed, row.slice, row.name, row.metric): row for row in found}
    families = list(dict.fromkeys(row.slice for row in found))
    lines = []
    for cell in evidence.done():
        for slice_ in families:
            of = {(name, metric): row for (*key, name, metric), row in index.items()
                  if key == [cell.run_id, cell.seed, slice_]}  # fmt: skip
            if of:
                several = f", {slice_.removeprefix(COIN_FLIP)}" if len(families) > 1 else ""
                ledger = evidence.pieces[cell.run_id].ledger
                lines.append(AuditLine(f"{cell_label(cell)}{several}", _values(cell, of, ledger)))
    return AuditedEpsilon(
        about=ABOUT,
        columns=[*HEADS.values(), Column("epsilon of the ledger"), Column("chance under it", "of such guesses")],
        lines=lines,
        statements=_statements(summary, found),
    )


def _values(cell: Cell, of: dict[tuple[str, str], Row], ledger: Ledger | None) -> list[Value]:
    bounds = [_bound(of.get((name, LOWER_BOUND)), of.get((name, CEILING))) for name in ESTIMATORS]
    absent = next((row.reason for (_, metric), row in of.items() if metric == LOWER_BOUND and row.reason), "")
    if absent:
        bounds = [Value(ABSENT, (absent,)), *[Value(ABSENT)] * (len(ESTIMATORS) - 1)]
    p = next((row for (_, metric), row in of.items() if metric == P_VALUE), None)
    group = next((row for (_, metric), row in of.items() if metric == GROUP), None)
    return [*bounds, _ledger(cell, ledger, group), _chance(p)]


def _bound(row: Row | None, ceiling: Row | None) -> Value:
    if row is None or row.value is None:
        return Value(ABSENT)
    most = () if ceiling is None else (f"ceiling {measure(ceiling.value)}",)
    return Value(f"≥ {measure(row.value) if row.value else 0}", (*most, f"{row.n:,} canaries"))


def _ledger(cell: Cell, ledger: Ledger | None, group: Row | None) -> Value:
    """What the bounds are to be compared with: the epsilon of one record, or of a group of as many as the copies."""
    if cell.privacy == "none":
        return Value(ABSENT, ("not private",))
    if ledger is None or not ledger.private:
        return Value(ABSENT, ("not known" if ledger is None else "NOT private",))
    if group is not None:
        if group.value is None:
            return Value(ABSENT, (group.reason,))
        return Value(rounded_up(group.value), (f"of {group.n} copies", f"δ {ledger.delta:.2g}"))
    return Value(rounded_up(ledger.epsilon), (f"δ {ledger.delta:.2g}",))


def _chance(row: Row | None) -> Value:
    if row is None or row.value is None:
        return Value(ABSENT, (row.reason,) if row else ())
    return Value("below 1e-09" if row.value < 1e-9 else f"{row.value:.2g}")


def _statements(summary: Summary, found: list[Row]) -> list[str]:
    evidence = summary.results.evidence
    deltas = sorted({row.delta for row in found if row.delta is not None})
    attack = audit_attack(evidence)
    sentences = [
        f"Coins are guessed by the scores of {attack.label if attack else 'no attack'}, at δ "
        f"{listed([f'{delta:.2g}' for delta in deltas])}. Half of the canaries, drawn by the seed, choose how many to "
        "guess or the threshold, and the other half are counted. Each bound holds with 95% confidence by itself; their "
        "maximum does not."
    ]
    tests = [row for row in found if row.metric == P_VALUE and row.value is not None]
    if tests:
        sentences.append(
            "The chance under the ledger is at most that of so many right guesses in a training with this account, by "
            f"the whole trade-off of its noise. Below {REFUTED:g}, after Holm's correction for "
            f"{'the 1 test' if len(tests) == 1 else f'all {len(tests)} tests'} of this study, the ledger is wrong."
        )
    return sentences
