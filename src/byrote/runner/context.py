"""What all runs of a study share: the model's files, the records, the splits, the store."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from byrote.attacks.base import Asked, Attack, Background, asked_by
from byrote.attacks.extraction.base import chosen
from byrote.data.base import Columns, Loaded
from byrote.data.duplicates import remove_duplicates
from byrote.data.load import load as load_data
from byrote.data.split import split
from byrote.methods.tuned import Tuned
from byrote.models.load import LoadedModel, ResolvedModel, load, load_tokenizer, resolve
from byrote.models.tuned import GivenModel
from byrote.objectives.batching import encode
from byrote.objectives.completion import encode_completions
from byrote.plants.base import Plant, plant_all
from byrote.registry import Component
from byrote.runner import tables
from byrote.runner.cuts import Cuts
from byrote.runner.encoders import Encoders
from byrote.runner.environment import pick_device
from byrote.runner.neighbours import missing_neighbours, read_neighbours, why_no_neighbours
from byrote.runner.plant_tools import StoredTools
from byrote.runner.progress import Progress
from byrote.store import Locked, RunFolder, Store, identity
from byrote.study import Study
from byrote.study.experiment import RECIPE, BaseExperiment, Experiment
from byrote.study.fields import Part
from byrote.study.privacy import PrivacyLevel
from byrote.types import Decoding, Opening, Query, Record, Splits, StudyError, ordinary, text_key
from byrote.utility.generated import Generated

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RECORDS = "records.parquet"
SUMMARY = "split.json"


@dataclass(frozen=True, slots=True)
class Given:
    """What an audit is given, and a study makes itself: a tuned model, and who was a member."""

    tuned: GivenModel
    data: Loaded
    splits: Splits
    base: GivenModel | None = None
    """The untuned model where it is in memory; None where the study's `model` names it, or there is none."""
    notes: tuple[str, ...] = ()


class Context:
    """One study being run. The model and the tokenizer are loaded only when something needs them."""

    def __init__(
        self, study: Study, folder: Path, store: Store, progress: Progress, given: Given | None = None
    ) -> None:
        self.study, self.store, self.progress, self.given = study, store, progress, given
        self.encoders, self.cuts = Encoders(self, folder), Cuts(self)
        if given is None and any(isinstance(method, Tuned) for method in study.methods):
            raise StudyError(
                "tuned: a study draws its members itself, which says nothing of what this model was trained on. "
                "Use `byrote audit`, which takes members and nonmembers from you"
            )
        if given is None and not study.untuned:
            raise StudyError(
                "untuned: false is for audits alone: a study's numbers are compared with its untuned model"
            )
        self.model = self._untuned_model(folder)
        self.data = self._load_data(folder) if given is None else given.data
        self.keeps_splits = True
        """Whether the splits that are drawn are written to the store; a dry run writes nothing."""
        self._drawn: dict[int, Splits] = {}
        self._planted: dict[int, Splits] = {}
        self._backgrounds: dict[int, Background] = {}
        self._wanted: dict[int, list[Asked]] = {}
        self._tokens: dict[str, NDArray[np.int32]] = {}
        self._tokenizer: PreTrainedTokenizerBase | None = None

    def looking_ahead(self) -> Context:
        """The same for a plan: it writes nothing, and keeps no question for later that may hang on neighbours which
        are still to be made.
        """
        found = copy.copy(self)
        found.keeps_splits, found._backgrounds, found._wanted = False, {}, {}
        return found

    def _untuned_model(self, folder: Path) -> ResolvedModel:
        if self.given is not None and (found := self.given.base or (None if self.study.untuned else self.given.tuned)):
            return ResolvedModel(found.reference, "memory", "", found.fingerprint, found.description)
        return resolve(self.study.model, self.study.revision, base_folder=folder)

    def _load_data(self, folder: Path) -> Loaded:
        data = self.study.data
        return load_data(
            data.source,
            Columns(
                data.text,
                data.prompt,
                data.completion,
                data.messages,
                data.label,
                data.group,
                data.id,
                tuple(data.attributes),
            ),
            on_bad_rows=data.on_bad_rows,
            split=data.split,
            revision=data.revision,
            base_folder=folder,
        )

    @cached_property
    def device(self) -> str:
        """Where the work is done."""
        return pick_device(self.study.device)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base model's; the tuned model's own where there is no other."""
        if self._tokenizer is None and self.given is not None and (self.given.base or not self.study.untuned):
            own = self.given.base.tokenizer() if self.given.base is not None else None
            self._tokenizer = own or self.given.tuned.tokenizer()
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.model, self.study.trust_remote_code)
        return self._tokenizer

    def load_model(self) -> LoadedModel:
        """A fresh copy of the base model, on the device."""
        if self.given is not None and self.given.base is not None:
            model: Any = self.given.base.load(dtype=self.study.dtype, device=self.device)
            return LoadedModel(model, self.tokenizer, self.model)
        loaded = load(
            self.model,
            dtype=self.study.dtype,
            device=self.device,
            trust_remote_code=self.study.trust_remote_code,
            labels=self.labels,
            dropout=self.study.dropout,
        )
        self._tokenizer = loaded.tokenizer
        return loaded

    def to_measure(self, records: Sequence[Record]) -> tuple[Opening, ...]:
        """What the study's measures want the model to go on from in these records, each once, one way after another."""
        measures = [one for one in self.study.utility if isinstance(one, Generated)]
        return tuple(dict.fromkeys(one.opening(record, self.scored) for one in measures for record in records))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes, over all records of the data; empty where nothing is classified. Raises StudyError."""
        if self.study.objective != "classification":
            return ()
        found = {record.label for record in self.data.records if record.label is not None}
        if len(found) < 2:
            said = f"one class, {found.pop()!r}" if found else "no labels"
            raise StudyError(
                f"{self.study.data.source} has {said}: classification needs at least two. Set data.label to the column "
                "of the labels, or use objective: lm"
            )
        numbers = all(label.lstrip("-").isdigit() for label in found)
        return tuple(sorted(found, key=int) if numbers else sorted(found))

    @cached_property
    def population(self) -> tuple[tuple[Record, ...], dict[str, int]]:
        """The records that can be drawn, and how many were left out by reason."""
        dropped = {f"bad row: {reason}": count for reason, count in self.data.bad_rows.items()}
        records = self._within_length(self.data.records, dropped)
        kept, copies = remove_duplicates(records, self.study.data.near_duplicates)
        return kept, dropped | copies

    def _within_length(self, records: Sequence[Record], dropped: dict[str, int]) -> Sequence[Record]:
        low, high = self.study.data.min_tokens or 0, self.study.data.max_tokens or 2**62
        if low == 0 and high == 2**62:
            return records
        lengths = [len(e.ids) for e in encode(self.tokenizer, [record.text for record in records], 2**31)]
        kept = [record for record, length in zip(records, lengths, strict=True) if low <= length <= high]
        dropped[f"not of {low} to {high} tokens" if high < 2**62 else f"under {low} tokens"] = len(records) - len(kept)
        return kept

    def split_folder(self, seed: int) -> RunFolder:
        """Where the split of a seed is kept, under the identity of everything that decides it."""
        data = self.study.data
        what: dict[str, Any] = {"recipe": RECIPE, "source": self.data.fingerprint, "seed": seed}
        what |= data.model_dump(exclude={"source", "attributes"})
        if data.min_tokens or data.max_tokens:
            what["tokenizer"] = self.model.fingerprint
        return self.store.run(f"split-{identity(what)}")

    def splits(self, seed: int) -> Splits:
        """The split of a seed with the study's plants in it, shared by all methods."""
        if seed not in self._planted:
            plants: Sequence[Plant] = self.study.plants  # type: ignore[assignment]
            self._planted[seed] = plant_all(plants, self.drawn(seed), self.labels, seed, StoredTools(self, seed))
        return self._planted[seed]

    def background(self, seed: int) -> Background:
        """What an attacker on a seed's split has beside the record in question."""
        if seed not in self._backgrounds:
            splits = self.splits(seed)
            known = read_neighbours(self._base_folder()) if self.neighbours_read else {}
            keys = {record.id: text_key(record.scored(self.scored)) for record in splits.members + splits.nonmembers}
            self._backgrounds[seed] = Background(
                outsiders=splits.validation + splits.test,
                insiders=ordinary(splits.members),
                of=self.scored,
                values=self._values(splits),
                neighbours={name: known[key] for name, key in keys.items() if key in known},
                no_neighbours=why_no_neighbours(self._base_folder()) if self.neighbours_read else "",
                encoder=self.encoders,
                judge=self.encoders.judge,
            )
        return self._backgrounds[seed]

    def _values(self, splits: Splits) -> dict[tuple[str, str], tuple[str, ...]]:
        """Of the data, whichever part its records are in, so that all seeds ask the untuned model the same."""
        canaries = [record for record in splits.members + splits.nonmembers if record.family]
        found: dict[tuple[str, str], list[str]] = {}
        for record in (*self.data.records, *canaries):
            for name, value in record.attributes:
                found.setdefault((record.family, name), []).append(value)
        return {key: tuple(values) for key, values in found.items()}

    @property
    def scored(self) -> Literal["text", "completion"]:
        """What of a record is scored."""
        return "completion" if self.study.objective == "completion" else "text"

    @property
    def neighbours_read(self) -> int:
        """How many neighbours of a record the study's attacks read at most."""
        return max((attack.neighbours_read for attack in self.study.attacks_of("membership")), default=0)

    def lacks_neighbours(self, seed: int) -> bool:
        """Whether neighbours are still to be made, so that nobody knows yet what will be asked of them."""
        records = self.splits(seed).members + self.splits(seed).nonmembers
        texts = [record.scored(self.scored) for record in records]
        return bool(missing_neighbours(self._base_folder(), texts, self.neighbours_read))

    def _base_folder(self) -> RunFolder:
        return self.store.run(identity(self.base().model_dump(mode="json")))

    def base(self) -> BaseExperiment:
        """The untuned model over this data."""
        return self.study.base(model=self.model.fingerprint, data=self.data.fingerprint)

    def experiment(
        self,
        method: Component,
        privacy: PrivacyLevel,
        seed: int,
        rate: float,
        trains_on: Part = "members",
        shadow: int | None = None,
    ) -> Experiment:
        """One training of the study, of what was loaded."""
        loaded = {"model": self.model.fingerprint, "data": self.data.fingerprint}
        return self.study.experiment(method, privacy, seed, rate, trains_on=trains_on, shadow=shadow, **loaded)

    def queries(self, seed: int) -> tuple[Query, ...]:
        """What the study's attacks ask beside the members and nonmembers of a seed, each text once."""
        return tuple({query.key: query for asked in self._asked(seed) for query in asked.queries}.values())

    def openings(self, seed: int) -> tuple[Opening, ...]:
        """What the study's attacks want the model to go on from, each once for each record."""
        found = {
            (one.record.id, text_key(one.record.text), one.decoding, one.prefix_tokens): one
            for asked in self._asked(seed)
            for one in asked.openings
        }
        return tuple(found.values())

    def _asked(self, seed: int) -> list[Asked]:
        """What each of the study's attacks wants for each member and nonmember of a seed."""
        if seed not in self._wanted:
            background = self.background(seed)
            self._wanted[seed] = [
                asked_by(attack, record, background) for attack, record in self._attacked(seed) if attack.at_the_end
            ]
        return self._wanted[seed]

    def _attacked(self, seed: int) -> Iterator[tuple[Attack, Record]]:
        """Each of the study's attacks on members and nonmembers, with each record that it is about."""
        splits = self.splits(seed)
        for attack in self.study.attacks_of("membership"):
            for record in splits.members + splits.nonmembers:
                yield attack, record
        for measure in self.study.attacks_of("extraction"):
            for side in (splits.members, splits.nonmembers):
                for record in chosen(measure, side):
                    yield measure, record

    def chances(self, seed: int) -> tuple[tuple[Record, Decoding], ...]:
        """The records, and the ways of drawing text, of which its attacks read the chances."""
        return tuple((record, how) for attack, record in self._attacked(seed) if (how := attack.drawing) is not None)

    def gradients(self, seed: int) -> tuple[Record, ...]:
        """The records whose gradients its attacks read."""
        needed = any("gradients" in attack.needs for attack in self.study.attacks_of("membership"))
        return self.splits(seed).members + self.splits(seed).nonmembers if needed else ()

    def tokens(self, record: Record) -> NDArray[np.int32]:
        """(T,) the target tokens of a record's text or completion."""
        key = text_key(record.text)
        if key not in self._tokens:
            length = self.study.max_length
            if self.study.objective == "completion":
                example = encode_completions(self.tokenizer, [record], length)[0]
            else:
                example = encode(self.tokenizer, [record.text], length)[0]
            self._tokens[key] = np.array(example.target_ids, np.int32)
        return self._tokens[key]

    def mislabelled(self, seed: int) -> tuple[Record, ...]:
        """The members and nonmembers of a seed's split that carry a wrong label."""
        splits = self.splits(seed)
        return tuple(record for record in splits.members + splits.nonmembers if record.truth is not None)

    def drawn(self, seed: int) -> Splits:
        """The split of a seed before anything is planted: drawn once and kept in the store."""
        if self.given is not None:
            return self.given.splits
        if seed not in self._drawn:
            folder = self.split_folder(seed)
            table, dropped = folder.read_table(RECORDS), folder.read_json(SUMMARY)
            if table is not None and dropped is not None:
                self._drawn[seed] = tables.splits_from(table, self.data.records, dropped)
            else:
                self._drawn[seed] = drawn = self._draw(seed)
                if self.keeps_splits:
                    with contextlib.suppress(Locked), folder.locked():  # who holds it writes the same
                        folder.write_table(RECORDS, tables.splits_table(drawn))
                        folder.write_json(SUMMARY, dict(drawn.dropped))
        return self._drawn[seed]

    def _draw(self, seed: int) -> Splits:
        records, dropped = self.population
        data = self.study.data
        drawn = split(
            records,
            members=data.members,
            nonmembers=data.nonmembers,
            validation=data.validation,
            test=data.test,
            seed=seed,
            dropped=dropped,
        )
        if self.labels:
            self._check_classes(drawn)
        return drawn

    def _check_classes(self, drawn: Splits) -> None:
        """Every class that is asked about later must be there to learn. Raises StudyError."""
        learned = {record.label for record in drawn.members}
        for name, part in drawn.parts():
            for record in part:
                if record.label is not None and record.label not in learned:
                    raise StudyError(
                        f"the label {record.label!r} of {name} record {record.id} is that of no member, so nothing "
                        "could learn it: ask for more members, or leave rare classes out of the data"
                    )
