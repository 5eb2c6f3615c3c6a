"""The privacy accounts of a study, one for each private configuration, and what a reader must be told of them first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from byrote.report.evidence import Evidence
from byrote.report.findings import Configuration, configurations
from byrote.report.privacy_rows import no_account
from byrote.types import Ledger, family_of

OVERSPENT = 1.0 + 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What the ledgers of one private configuration say, over its seeds."""

    configuration: Configuration
    ledgers: tuple[Ledger, ...]
    unknown: dict[int, str]
    """The seeds whose ledger cannot be read, each with the reason."""
    copies: int
    """Records of the largest group among the members of one seed, canaries apart; 1 where every record stands alone."""
    straddles: bool
    """Whether a group has members and nonmembers, so that neither side is the model's of another record."""

    @property
    def ledger(self) -> Ledger | None:
        """The account of the seed that spent most: what holds for all of them. None where none can be read."""
        return max(self.ledgers, key=lambda one: one.epsilon, default=None)

    @property
    def holds(self) -> bool:
        """Whether every seed has an account, and none of them had repeatable noise."""
        return bool(self.ledgers) and not self.unknown and all(one.private for one in self.ledgers)

    @property
    def exposed(self) -> int:
        """How many units of its guarantee the largest group of members takes: 1 where the unit is the group."""
        ledger = self.ledger
        return self.copies if ledger is not None and ledger.unit == "record" else 1


def accounts(evidence: Evidence) -> list[Account]:
    """The account of every private configuration with a run that ended well, in the order of the tables."""
    return [_account(evidence, one) for one in configurations(evidence) if one.private and one.done]


def _account(evidence: Evidence, of: Configuration) -> Account:
    ledgers = [evidence.pieces[cell.run_id].ledger for cell in of.done]
    counts, straddles = [1], False
    for seed in {cell.seed for cell in of.done}:
        members, nonmembers = (
            evidence.part(seed, split).only(lambda name: not family_of(name)) for split in ("member", "nonmember")
        )
        sizes: Counter[str] = Counter()
        for group, copies in zip(members.groups, members.copies, strict=True):  # a planted copy is a record, too
            sizes[group] += copies
        counts += sizes.values()
        straddles |= bool(set(members.groups) & set(nonmembers.groups))
    return Account(
        configuration=of,
        ledgers=tuple(one for one in ledgers if one is not None),
        unknown={cell.seed: why for cell in of.done if (why := no_account(evidence, cell))},
        copies=max(counts),
        straddles=straddles,
    )


def banners(evidence: Evidence) -> list[str]:
    """What a reader must know before any epsilon of this study: nothing private, nothing known, a delta too large."""
    found = accounts(evidence)
    return [*_repeatable(found), *_unknown(found), *_overspent(found), *_large_deltas(found)]


def _names(of: Sequence[Account]) -> str:
    return "; ".join(one.configuration.label for one in of)


def _repeatable(found: Sequence[Account]) -> Iterator[str]:
    of = [one for one in found if any(not ledger.private for ledger in one.ledgers)]
    if of:
        yield (
            f"The noise was repeatable: NOT private. Whoever repeats the generator of {_names(of)} can take the noise "
            "away again, so no epsilon holds for these runs."
        )


def _unknown(found: Sequence[Account]) -> Iterator[str]:
    for one in found:
        for seed, why in one.unknown.items():
            yield (
                f"What {one.configuration.label}, seed {seed}, guarantees is not known: {why.partition(':')[0]}. "
                "Take the run as not private until it has been trained again."
            )


def _overspent(found: Sequence[Account]) -> Iterator[str]:
    for one in found:
        ledger = one.ledger
        if ledger and ledger.target_epsilon and ledger.epsilon > ledger.target_epsilon * OVERSPENT:
            yield (
                f"{one.configuration.label} spent ε {ledger.epsilon:.4g}, which is more than its target of "
                f"{ledger.target_epsilon:g}: what it spent is what holds."
            )


def _large_deltas(found: Sequence[Account]) -> Iterator[str]:
    same: dict[tuple[float, int, str], list[Account]] = {}
    for one in found:
        for ledger in one.ledgers[:1]:
            if ledger.delta * ledger.units >= 1.0:
                same.setdefault((ledger.delta, ledger.units, ledger.unit), []).append(one)
    for (delta, units, unit), of in same.items():
        yield (
            f"delta is not smaller than one over the number of {unit}s: δ {delta:.2g} against 1/{units:,} for "
            f"{_names(of)}. Publishing each {unit} whole with that chance, at least one of them on average, would "
            "satisfy this delta, so the epsilon beside it promises little."
        )
