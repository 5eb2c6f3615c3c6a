"""Scores and measurements of a run, from its token statistics: no model is touched here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from byrote.attacks.base import (
    Attack,
    CalibratedAttack,
    Evidence,
    MembershipAttack,
    PoisoningMeasure,
    score_all,
)
from byrote.attacks.fitted import FittedAttack, score_set
from byrote.runner.context import Context
from byrote.runner.generations import spelled
from byrote.runner.kept_rows import Series, append, current, keys, made_by, unknown
from byrote.runner.one import Run
from byrote.runner.queries import NO_ANSWER
from byrote.runner.witness import Witness, read_for
from byrote.types import Record, Scores, Splits, Unscorable, ordinary, text_key
from byrote.utility.base import Observation, Utility
from byrote.utility.generated import Generated

SCORES, UTILITY = "scores.parquet", "utility.parquet"


def ensure_scores(attacks: Sequence[Attack], splits: Splits, witnesses: Sequence[Witness]) -> bool:
    """Add to a run's scores what is missing of these attacks on members and nonmembers; whether anything was."""
    everything = [one for attack in attacks for one in (attack, *attack.weaker())]
    return score_records(everything, splits.members + splits.nonmembers, witnesses, members=len(splits.members))


def ensure_poisoning(run: Run, measures: Sequence[PoisoningMeasure], records: Sequence[Record], epochs: range) -> bool:
    """Add what is missing of these measures on records that carry the label to be judged; whether anything was."""
    return score_records(measures, records, [Witness(run, run, epoch) for epoch in epochs])


def ensure_blind(context: Context, attacks: Sequence[FittedAttack], seed: int) -> bool:
    """Add what is missing of attacks that read no model to the folder of a seed's split; whether anything was."""
    import pyarrow as pa

    splits, folder = context.splits(seed), context.split_folder(seed)
    members, of = ordinary(splits.members), context.scored
    asked = members + ordinary(splits.nonmembers)
    known = keys(current(folder, SCORES, "attack", attacks), "attack")
    rows: list[dict[str, Any]] = []
    replaced: set[Series] = set()
    for attack in attacks:
        if unknown(known, 0, attack.name, attack.settings(), asked):
            evidence = [Evidence(record, NO_ANSWER, of=of) for record in asked]
            rows += _score_rows(attack, made_by(attack), 0, evidence, len(members), ())
            replaced.add((0, attack.name, attack.settings()))
    return append(folder, SCORES, rows, "attack", {"score": pa.float64()}, attacks, replaced=replaced)


def score_records(
    attacks: Sequence[Attack], asked: Sequence[Record], witnesses: Sequence[Witness], *, members: int = 0
) -> bool:
    """Add what is missing of these attacks on these records, by each witness; whether anything was.

    The first `members` of the records asked about are the members, of which fitted attacks learn.
    """
    import pyarrow as pa

    if not witnesses:
        return False
    run = witnesses[0].run
    make = witnesses[0].make  # the witnesses differ in their epoch alone
    known = keys(current(run.folder, SCORES, "attack", attacks, make), "attack")
    rows: list[dict[str, Any]] = []
    fitted: set[Series] = set()
    for witness in witnesses:
        for attack in attacks:
            epoch = witness.epoch
            if (
                attack.blind
                or (epoch == 0 and attack.null_is_stated and not (attack.learns and run.context.given is not None))
                or (attack.at_the_end and witness is not witnesses[-1])
            ):
                continue
            records: Sequence[Record] = unknown(known, epoch, attack.name, attack.settings(), asked)
            if not records:
                continue
            if isinstance(attack, FittedAttack):  # a part of them would be scored by another model than the rest
                records = asked
                fitted.add((epoch, attack.name, attack.settings()))
            evidence = [witness.of(attack, record) for record in records]
            rows += _score_rows(attack, make(attack), epoch, evidence, members, witness.population(attack))
    return append(run.folder, SCORES, rows, "attack", {"score": pa.float64()}, attacks, replaced=fitted, make=make)


def _score_rows(
    attack: Attack, made: str, epoch: int, evidence: Sequence[Evidence], members: int, population: Sequence[Evidence]
) -> Iterator[dict[str, Any]]:
    """One row per record. What is learned of ordinary records is asked of these alone; of others likewise."""
    if isinstance(attack, FittedAttack):
        kinds = [one.record.family or one.record.truth is not None for one in evidence]
        for kind in dict.fromkeys(kinds):
            places = [at for at, one in enumerate(kinds) if one == kind]
            part = [evidence[at] for at in places]
            scores = score_set(attack, part, [at < members for at in places])
            yield from _rows_of(attack, made, epoch, part, scores)
    else:
        assert isinstance(attack, MembershipAttack | PoisoningMeasure | CalibratedAttack)
        yield from _rows_of(attack, made, epoch, evidence, score_all(attack, evidence, population))


def _rows_of(
    attack: Attack, made: str, epoch: int, evidence: Sequence[Evidence], scores: Scores
) -> Iterator[dict[str, Any]]:
    for one, value, reason in zip(evidence, scores.values.tolist(), scores.reasons, strict=True):
        yield {
            "epoch": epoch,
            "attack": attack.name,
            "settings": attack.settings(),
            "made_by": made,
            "record_id": one.record.score_id,
            "score": None if reason else value,
            "reason": reason,
        }


def ensure_utility(measures: Sequence[Utility], test: Sequence[Record], witnesses: Sequence[Witness]) -> bool:
    """Add to a run's measurements what is missing of these utility measures on the test records."""
    import pyarrow as pa

    if not witnesses:
        return False
    folder = witnesses[0].run.folder
    known = keys(current(folder, UTILITY, "utility", measures), "utility")
    rows = [
        _measurement(witness, measure, record)
        for witness in witnesses
        for measure in measures
        if witness is witnesses[-1] or not isinstance(measure, Generated)
        for record in unknown(known, witness.epoch, measure.name, measure.settings(), test)
    ]
    return append(folder, UTILITY, rows, "utility", {"statistics": pa.list_(pa.float64())}, measures)


def _measurement(witness: Witness, measure: Utility, record: Record) -> dict[str, Any]:
    """The row of one test record."""
    seen, reason = _observed(witness, measure, record), ""
    statistics: tuple[float, ...] = ()
    try:
        statistics = measure.measure(seen)
    except Unscorable as unscorable:
        closed = witness.closed if isinstance(measure, Generated) and seen.generation is None else ""
        reason = closed or str(unscorable)
    return {
        "epoch": witness.epoch,
        "utility": measure.name,
        "settings": measure.settings(),
        "made_by": made_by(measure),
        "record_id": record.id,
        "statistics": statistics,
        "reason": reason,
    }


def _observed(witness: Witness, measure: Utility, record: Record) -> Observation:
    """What a measure may read of a test record."""
    run, context = witness.run, witness.run.context
    stats = read_for(record, witness.answers[text_key(record.text)], context.labels)
    if not isinstance(measure, Generated):
        return Observation(record, stats, context.labels)
    asked = measure.opening(record, context.scored)
    text = witness.generations.get((run.generation_key(record), spelled(asked.decoding, asked.prefix_tokens)))
    follows = None if asked.prefix_tokens is None else context.cuts.of(asked).follows
    return Observation(record, stats, context.labels, text, follows)
