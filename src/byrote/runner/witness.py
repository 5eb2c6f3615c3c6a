"""What a run, the untuned model and the shadow models have said of each record, as the evidence that attacks read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial

from byrote.attacks.base import Attack, Background, Evidence, Shadow, asked_by
from byrote.registry import Component
from byrote.runner.chances import Chances, read_chances
from byrote.runner.generations import Generations, read_generations, spelled
from byrote.runner.gradients import read_gradients
from byrote.runner.kept_rows import made_by
from byrote.runner.one import Run
from byrote.runner.queries import answers_identity, read_answers
from byrote.store import identity
from byrote.types import Record, TokenStats, ordinary, text_key


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
    of_base: Callable[[], dict[str, TokenStats]] | None = None
    """Reads the untuned model's answers, where other witnesses read them too."""

    @cached_property
    def answers(self) -> dict[str, TokenStats]:
        return read_answers(self.run, self.epoch)

    @cached_property
    def base_answers(self) -> dict[str, TokenStats]:
        return read_answers(self.base, 0) if self.of_base is None else self.of_base()

    @cached_property
    def gradients(self) -> dict[str, float]:
        return read_gradients(self.run, self.epoch)

    @cached_property
    def chances(self) -> Chances:
        return read_chances(self.run, self.epoch)

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
        """What a score of this attack is made by here: the attack, what it reads of the shadows, and its encoders.

        A private shadow that is trained anew is another model, under the same id; so is an encoder under its name.
        Which columns are attributes changes no run either.
        """
        if not isinstance(attack, Attack):
            return made_by(attack)
        read = self.shadow_identities[: attack.trainings] if attack.trainings else []
        encoders = self.run.context.encoders
        read += [encoders.identity(name) for name in attack.encoders]
        read += [encoders.judge_identity(name) for name in attack.judges]
        read += self.run.context.study.data.attributes if "attributes" in attack.needs else ()
        return identity([made_by(attack), *read]) if read else made_by(attack)

    def of(self, attack: Attack, record: Record) -> Evidence:
        """What the attack may read of one record."""
        key, needs = text_key(record.text), attack.needs
        base = self.base_answers.get(key) if "base" in needs else None
        target = self._read(record, self.answers[key])
        asked = asked_by(attack, record, self.background)
        keys = [query.key for query in asked.queries]
        said = [
            self.generations.get((self.run.generation_key(one.record), spelled(one.decoding, one.prefix_tokens)))
            for one in asked.openings
        ]
        cuts = [self.run.context.cuts.of(one) for one in asked.openings]
        norm = self.gradients.get(key) if "gradients" in needs else None
        drawn, drawing = None, attack.drawing
        if drawing is not None:
            drawn = self.chances.get((self.run.generation_key(record), spelled(drawing)))
        lacks = not all(one in self.answers for one in keys) or None in said
        lacks |= ("gradients" in needs and norm is None) or (drawing is not None and drawn is None)
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
            given=tuple(cut.given for cut in cuts),
            follows=tuple(cut.follows for cut in cuts),
            as_long=tuple(
                self.run.context.cuts.as_long(one, cut) for one, cut in zip(said, cuts, strict=True) if one is not None
            ),
            rests=tuple(cut.rest for cut in cuts),
            chances=drawn,
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
        return read_for(record, stats, self.run.context.labels)


def witnesses_of(
    run: Run,
    base: Run,
    epochs: range,
    background: Background,
    shadows: Sequence[ShadowRun] = (),
    asked: Sequence[Record] = (),
) -> list[Witness]:
    """One for each epoch of a run; what the untuned model answered is read once for all of them."""
    of_base = cache(partial(read_answers, base, 0))
    return [Witness(run, base, epoch, background, shadows, asked, of_base) for epoch in epochs]


def read_for(record: Record, stats: TokenStats, labels: Sequence[str]) -> TokenStats:
    """A text's statistics read for the record's own label: it is scored once, whatever label a plant gives it."""
    return stats.of_class(labels.index(record.label)) if labels and record.label is not None else stats
