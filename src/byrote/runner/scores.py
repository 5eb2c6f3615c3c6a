"""Scores and measurements of a run, from its token statistics: no model is touched here."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from byrote.attacks.base import (
    Attack,
    Background,
    CalibratedAttack,
    Evidence,
    MembershipAttack,
    PoisoningMeasure,
    Shadow,
    asked_by,
    score_all,
)
from byrote.attacks.fitted import FittedAttack, score_set
from byrote.registry import Component
from byrote.runner import tables
from byrote.runner.context import Context
from byrote.runner.generations import Generations, read_generations, spelled
from byrote.runner.gradients import read_gradients
from byrote.runner.one import Run
from byrote.runner.queries import NO_ANSWER, answers_identity, read_answers
from byrote.store import RunFolder, identity
from byrote.types import MISLABELLED, Record, Scores, Splits, TokenStats, Unscorable, ordinary, text_key
from byrote.utility.base import Observation, Utility
from byrote.utility.generated import Generated

SCORES, UTILITY = "scores.parquet", "utility.parquet"
NUMBERS = {"attack": "score", "utility": "statistics"}

Series = tuple[int, str, str]
"""Epoch, name and settings: the rows that one attack or measure left at one epoch."""


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """A finished shadow model, and the ids of the records that it was trained on."""

    run: Run
    members: frozenset[str]


@dataclass(eq=False)
class Witness:
    """Where the evidence on a run's records comes from: itself, the untuned base model, and its shadows.

    What is read from the disk is read once, when the first attack needs it.
    """

    run: Run
    base: Run
    epoch: int
    background: Background = field(default_factory=Background)
    shadow_runs: Sequence[ShadowRun] = ()
    asked: Sequence[Record] = ()
    """All records that are asked about in this run, members and others."""

    @cached_property
    def answers(self) -> dict[str, TokenStats]:
        return read_answers(self.run, self.epoch)

    @cached_property
    def base_answers(self) -> dict[str, TokenStats]:
        return read_answers(self.base, 0)

    @cached_property
    def gradients(self) -> dict[str, float]:
        return read_gradients(self.run, self.epoch)

    @cached_property
    def generations(self) -> Generations:
        return read_generations(self.run.folder, self.epoch)

    @cached_property
    def closed(self) -> str:
        return self.run.asked_no_more

    @cached_property
    def shadow_answers(self) -> list[dict[str, TokenStats]]:
        return [read_answers(shadow.run, shadow.run.history()["epochs"]) for shadow in self.shadow_runs]

    @cached_property
    def shadow_identities(self) -> list[str]:
        return [answers_identity(shadow.run, shadow.run.history()["epochs"]) for shadow in self.shadow_runs]

    def make(self, attack: Component) -> str:
        """What a score of this attack is made by here: the attack, and what it reads of the shadows.

        A private shadow that is trained anew is another model, under the same id.
        """
        read = self.shadow_identities[: attack.trainings] if isinstance(attack, Attack) and attack.trainings else []
        return identity([made_by(attack), *read]) if read else made_by(attack)

    def of(self, attack: Attack, record: Record) -> Evidence:
        """What the attack may read of one record."""
        key, needs = text_key(record.text), attack.needs
        base = self.base_answers.get(key) if "base" in needs else None
        target = self._read(record, self.answers[key])
        asked = asked_by(attack, record, self.background)
        keys = [query.key for query in asked.queries]
        said = [self.generations.get((self.run.generation_key(one), spelled(how))) for one, how in asked.openings]
        norm = self.gradients.get(key) if "gradients" in needs else None
        lacks = not all(one in self.answers for one in keys) or None in said or ("gradients" in needs and norm is None)
        return Evidence(
            record=record,
            target=target,
            base=None if base is None else self._read(record, base),
            of=self.background.of,
            tokens=self.run.context.tokens(record)[: len(target)] if "tokens" in needs else None,
            background=self.background,
            answers={name: self.answers[name] for name in keys if name in self.answers},
            base_answers={
                name: self.base_answers[name] for name in keys if base is not None and name in self.base_answers
            },
            shadows=tuple(self._shadows(record, key, attack.trainings)),
            continuations=tuple(one for one in said if one is not None),
            gradient_norm=norm,
            failure=asked.failure or (self.closed if lacks else ""),
        )

    def population(self, attack: Attack) -> list[Evidence]:
        """What the attack is calibrated on: records that no model was trained on, or all those that are asked about."""
        outsiders = self.background.outsiders if "population" in attack.needs else ()
        peers = ordinary(self.asked) if "peers" in attack.needs else ()
        records = [record for record in (*outsiders, *peers) if text_key(record.text) in self.answers]
        return [one for one in (self.of(attack, record) for record in records) if not one.failure]

    def _shadows(self, record: Record, key: str, count: int) -> Iterator[Shadow]:
        if count:
            for shadow, stats in zip(self.shadow_runs[:count], self.shadow_answers, strict=False):
                yield Shadow(record.id in shadow.members, self._read(record, stats[key]))

    def _read(self, record: Record, stats: TokenStats) -> TokenStats:
        return _read_for(record, stats, self.run.context.labels)


def ensure_scores(
    run: Run, attacks: Sequence[Attack], seed: int, base: Run, epochs: range, shadows: Sequence[ShadowRun] = ()
) -> bool:
    """Add to the run's scores what is missing of these attacks on members and nonmembers; whether anything was."""
    splits, background = run.context.splits(seed), run.context.background(seed)
    asked = splits.members + splits.nonmembers
    witnesses = [Witness(run, base, epoch, background, shadows, asked) for epoch in epochs]
    everything = [one for attack in attacks for one in (attack, *attack.weaker())]
    return score_records(everything, asked, witnesses, members=len(splits.members))


def ensure_poisoning(run: Run, measures: Sequence[PoisoningMeasure], records: Sequence[Record], epochs: range) -> bool:
    """Add what is missing of these measures on records that carry the label to be judged; whether anything was."""
    return score_records(measures, records, [Witness(run, run, epoch) for epoch in epochs])


def ensure_blind(context: Context, attacks: Sequence[FittedAttack], seed: int) -> bool:
    """Add what is missing of attacks that read no model to the folder of a seed's split; whether anything was."""
    import pyarrow as pa

    splits, folder = context.splits(seed), context.split_folder(seed)
    members, of = ordinary(splits.members), context.scored
    asked = members + ordinary(splits.nonmembers)
    known = _keys(_current(folder, SCORES, "attack", attacks), "attack")
    rows: list[dict[str, Any]] = []
    replaced: set[Series] = set()
    for attack in attacks:
        if _unknown(known, 0, attack.name, attack.settings(), asked):
            evidence = [Evidence(record, NO_ANSWER, of=of) for record in asked]
            rows += _score_rows(attack, 0, evidence, len(members), ())
            replaced.add((0, attack.name, attack.settings()))
    return _append(folder, SCORES, rows, "attack", {"score": pa.float64()}, attacks, replaced=replaced)


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
    known = _keys(_current(run.folder, SCORES, "attack", attacks, make), "attack")
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
            records: Sequence[Record] = _unknown(known, epoch, attack.name, attack.settings(), asked)
            if not records:
                continue
            if isinstance(attack, FittedAttack):  # a part of them would be scored by another model than the rest
                records = asked
                fitted.add((epoch, attack.name, attack.settings()))
            evidence = [witness.of(attack, record) for record in records]
            found = _score_rows(attack, epoch, evidence, members, witness.population(attack))
            rows += [row | {"made_by": make(attack)} for row in found]
    return _append(run.folder, SCORES, rows, "attack", {"score": pa.float64()}, attacks, replaced=fitted, make=make)


def _score_rows(
    attack: Attack, epoch: int, evidence: Sequence[Evidence], members: int, population: Sequence[Evidence]
) -> Iterator[dict[str, Any]]:
    """One row per record. What is learned of ordinary records is asked of these alone; of others likewise."""
    if isinstance(attack, FittedAttack):
        kinds = [_kind(one.record) for one in evidence]
        for kind in dict.fromkeys(kinds):
            places = [at for at, one in enumerate(kinds) if one == kind]
            part = [evidence[at] for at in places]
            scores = score_set(attack, part, [at < members for at in places])
            yield from _rows_of(attack, epoch, part, scores)
    else:
        assert isinstance(attack, MembershipAttack | PoisoningMeasure | CalibratedAttack)
        yield from _rows_of(attack, epoch, evidence, score_all(attack, evidence, population))


def _kind(record: Record) -> str:
    """What tells an ordinary record from one with a wrong label, and from each family of canaries."""
    if record.is_canary:
        return record.slice.partition(" copies=")[0]
    return "" if record.truth is None else MISLABELLED


def _rows_of(attack: Attack, epoch: int, evidence: Sequence[Evidence], scores: Scores) -> Iterator[dict[str, Any]]:
    for one, value, reason in zip(evidence, scores.values.tolist(), scores.reasons, strict=True):
        yield {
            "epoch": epoch,
            "attack": attack.name,
            "settings": attack.settings(),
            "made_by": made_by(attack),
            "record_id": one.record.score_id,
            "score": None if reason else value,
            "reason": reason,
        }


def ensure_utility(run: Run, measures: Sequence[Utility], splits: Splits, epochs: range) -> bool:
    """Add to the run's measurements what is missing of these utility measures on the test records."""
    import pyarrow as pa

    known = _keys(_current(run.folder, UTILITY, "utility", measures), "utility")
    rows: list[dict[str, Any]] = []
    for epoch in epochs:
        stats: dict[str, TokenStats] = {}
        said = read_generations(run.folder, epoch) if epoch == epochs[-1] and run.context.decodings else {}
        for measure in measures:
            generated = measure.decoding if isinstance(measure, Generated) else None
            if generated and epoch != epochs[-1]:
                continue
            records = _unknown(known, epoch, measure.name, measure.settings(), splits.test)
            stats = stats or (run.stats(epoch) if records else {})
            for record in records:
                row = {
                    "epoch": epoch,
                    "utility": measure.name,
                    "settings": measure.settings(),
                    "made_by": made_by(measure),
                    "record_id": record.id,
                }
                key = text_key(record.text)
                text = said.get((run.generation_key(record), spelled(generated))) if generated else None
                labels = run.context.labels
                seen = Observation(record, _read_for(record, stats[key], labels), labels, text)
                try:
                    rows.append({**row, "statistics": measure.measure(seen), "reason": ""})
                except Unscorable as unscorable:
                    closed = run.asked_no_more if generated and text is None else ""
                    rows.append({**row, "statistics": [], "reason": closed or str(unscorable)})
    return _append(run.folder, UTILITY, rows, "utility", {"statistics": pa.list_(pa.float64())}, measures)


def _read_for(record: Record, stats: TokenStats, labels: Sequence[str]) -> TokenStats:
    """A text's statistics read for the record's own label: it is scored once, whatever label a plant gives it."""
    return stats.of_class(labels.index(record.label)) if labels and record.label is not None else stats


@cache
def made_by(component: Component) -> str:
    """What a stored score was made by: the code of the component and of what it is built on, and all its settings.

    Rows of another make are not used: an attack whose formula was mended is scored again, from the
    same token statistics.
    """
    kinds = [kind for kind in type(component).__mro__ if issubclass(kind, Component) and kind is not Component]
    modules: dict[str, str] = {}
    for kind in kinds:
        _sources(kind.__module__, kind.__module__.rpartition(".")[0], modules)
    parts = [made_by(one) for one in component.parts()] if isinstance(component, Attack) else []
    code = "".join(modules[name] for name in sorted(modules))
    return identity({"code": code, "parts": parts, "settings": component.model_dump(mode="json")})


def _sources(module: str, room: str, found: dict[str, str]) -> None:
    """The source of a module and of what it takes from its own room, by name."""
    if module in found or not module.startswith(room):
        return
    found[module] = inspect.getsource(sys.modules[module])
    for value in list(vars(sys.modules[module]).values()):
        _sources(getattr(value, "__module__", None) or "", room, found)


def _current(
    folder: RunFolder, file: str, kind: str, components: Sequence[Component], make: Callable[[Component], str] = made_by
) -> Any | None:
    """The stored rows, without those that these components made before they were changed."""
    import pyarrow as pa

    table = folder.read_table(file)
    if table is None or not {"made_by", NUMBERS[kind]} <= set(table.column_names):
        return None  # of an earlier byrote
    makes = {(component.name, component.settings()): make(component) for component in components}
    rows = zip(*(table[column].to_pylist() for column in (kind, "settings", "made_by")), strict=True)
    return table.filter(pa.array([makes.get((name, own), by) == by for name, own, by in rows], pa.bool_()))


def _keys(table: Any | None, name: str) -> set[tuple[int, str, str, str]]:
    if table is None:
        return set()
    columns = [table[column].to_pylist() for column in ("epoch", name, "settings", "record_id")]
    return set(zip(*columns, strict=True))


def _unknown(
    known: set[tuple[int, str, str, str]], epoch: int, name: str, settings: str, records: Sequence[Record]
) -> list[Record]:
    return [record for record in records if (epoch, name, settings, record.score_id) not in known]


def _append(
    folder: RunFolder,
    name: str,
    rows: list[dict[str, Any]],
    kind: str,
    numbers: dict[str, Any],
    components: Sequence[Component],
    replaced: Set[Series] = frozenset(),
    make: Callable[[Component], str] = made_by,
) -> bool:
    """Write these rows beside those that are there. Of the series `replaced` these are all, and what was there goes."""
    import pyarrow as pa

    if not rows:
        return False
    texts = {"settings": pa.string(), "made_by": pa.string(), "record_id": pa.string()}
    schema = pa.schema({"epoch": pa.int32(), kind: pa.string(), **texts, **numbers, "reason": pa.string()})
    with folder.locked():
        table = _current(folder, name, kind, components, make)  # again: another study may have added to it
        if table is not None and replaced:
            series = zip(*(table[column].to_pylist() for column in ("epoch", kind, "settings")), strict=True)
            table = table.filter(pa.array([one not in replaced for one in series], pa.bool_()))
        known = _keys(table, kind)
        new = [row for row in rows if (row["epoch"], row[kind], row["settings"], row["record_id"]) not in known]
        folder.write_table(name, tables.merged(table, new, schema))
    return True
