"""All that a study left behind, and what one attack gave the members and nonmembers of one cell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from byrote.report.measures import (
    Attack,
    Extraction,
    Poisoning,
    Utility,
    attacks_of,
    controls_of,
    extractions_of,
    poisonings_of,
    utilities_of,
)
from byrote.report.pieces import SETS, Column, Part, Pieces, Series, read_all, read_splits, read_texts
from byrote.statistics.groups import joined
from byrote.store import Cell, Manifest
from byrote.types import MISLABELLED, Floats, family_of

NO_PART = Part()
MARGIN = 0.05  # of studies written before they stated one


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that rows and pictures are made from."""

    manifest: Manifest
    splits: dict[int, dict[str, Part]]
    pieces: dict[str, Pieces]
    attacks: tuple[Attack, ...]
    utilities: tuple[Utility, ...]
    poisonings: tuple[Poisoning, ...] = ()
    extractions: tuple[Extraction, ...] = ()
    controls: tuple[Attack, ...] = ()
    """Attacks that read no model: what they tell apart, the split itself does."""
    nulls: dict[tuple[int, str, Attack, str], dict[str, float | None]] = field(default_factory=dict)
    """What `base_nulls` has measured so far: every method of a seed shares them."""
    parts: dict[tuple[int, str, str], Part] = field(default_factory=dict)
    """What `part_of` has found so far."""
    texts: dict[str, str] = field(default_factory=dict)
    """Those records' texts that the last run was asked to keep for the report, by id."""

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """Raises ByroteError where the folder holds no study or its splits cannot be read."""
        manifest = Manifest.read(folder)
        return cls(
            manifest=manifest,
            splits=read_splits(folder),
            pieces=read_all(manifest, folder),
            attacks=tuple(attacks_of(manifest)),
            utilities=tuple(utilities_of(manifest)),
            poisonings=tuple(poisonings_of(manifest)),
            extractions=tuple(extractions_of(manifest)),
            controls=tuple(controls_of(manifest)),
            texts=read_texts(folder),
        )

    def split_cell(self, base: Cell) -> Cell:
        """What holds the scores that were made without a model, in place of the untuned model's run."""
        found = {"run_id": self.manifest.split_folders.get(str(base.seed), base.run_id)}
        return base.model_copy(update=found | {"method": "none", "family": "none", "settings": ""})

    def part(self, seed: int, split: str) -> Part:
        return self.splits.get(seed, {}).get(split, NO_PART)

    def part_of(self, seed: int, split: str, slice_: str = "") -> Part:
        """The records of a slice; the empty one is all records of the data that carry the label that it gave them.

        A tier of copied members is compared with all nonmembers, so of these it takes the empty slice; a tier of
        canaries with the controls of their family.
        """
        key = (seed, split, slice_)
        if key not in self.parts:
            own = slice_ if split == "member" or slice_ == MISLABELLED else family_of(slice_)
            self.parts[key] = self.part(seed, split).only(lambda name: name == own if own else _of_the_data(name))
        return self.parts[key]

    def resampled(self, cell: Cell, part: Part) -> Part:
        """A part with what is drawn together for the cell's intervals: sets, where its records share a context."""
        sets = self.pieces[cell.run_id].sets
        return replace(part, groups=tuple(sets.get(record, record) for record in part.records)) if sets else part

    def slices(self, seed: int) -> list[str]:
        """The slices of a seed's members, in order; the empty one, of all, is not among them."""
        found = set(self.part(seed, "member").slices) - {""}
        return sorted(found, key=lambda name: (name.rpartition("=")[0], len(name), name))

    def done(self) -> list[Cell]:
        return [cell for cell in self.manifest.cells if cell.status == "done"]

    @property
    def margin(self) -> float:
        """How far from its null a number may lie and still count as none: the study's equivalence margin."""
        return float(self.manifest.study.get("equivalence_margin", MARGIN))

    @property
    def seeds(self) -> list[int]:
        return sorted({cell.seed for cell in self.manifest.cells})

    @property
    def split_seeds(self) -> list[int]:
        """The seeds of the study's runs that have a split: the positive control's may be of another one."""
        own = {cell.seed for cell in self.manifest.cells}
        return [seed for seed in self.splits if seed in own]

    def epochs(self, cell: Cell) -> list[int]:
        """Epochs of a cell with anything measured; the study's last where nothing could be read."""
        if cell.method == "none":
            return [0]
        found = [epoch for epoch in self.pieces[cell.run_id].epochs if epoch > 0]
        planned = self.manifest.study.get("epochs")
        return found or ([planned] if isinstance(planned, int) else [])

    def last_epoch(self, cell: Cell) -> int | None:
        return max(self.epochs(cell), default=None)

    @property
    def audited(self) -> bool:
        """Whether it is about models that were tuned elsewhere, with the split that somebody told."""
        return any(cell.method == "tuned" for cell in self.manifest.cells)

    def runs(self) -> list[Cell]:
        """The first cell of each run that ended: the base model's run serves every seed."""
        return list({cell.run_id: cell for cell in reversed(self.done())}.values())[::-1]

    def sides(self, cell: Cell, attack: Attack, epoch: int, slice_: str = "", *, sets: bool = True) -> Sides | None:
        """Scores of the cell's members and nonmembers of a slice, or None where there are none.

        Without `sets` the records stand in their own groups even where they share a context.
        """
        pieces = self.pieces[cell.run_id]
        column = pieces.scores.get(Series(epoch, attack.name, attack.settings))
        if column is None or pieces.unreadable(SETS):
            return None
        parts = [self.part_of(cell.seed, side, slice_) for side in ("member", "nonmember")]
        return Sides.of(column, *(self.resampled(cell, part) if sets else part for part in parts))

    def base_sides(self, cell: Cell, attack: Attack, slice_: str = "") -> Sides | None:
        """The same attack's scores on the untuned base model, on the records of the cell's split."""
        base = cell.model_copy(update={"run_id": cell.base_run_id})
        return None if attack.null_is_stated or not cell.base_run_id else self.sides(base, attack, 0, slice_)


def coarser(part: Part, *runs: tuple[Evidence, Cell]) -> Part:
    """A part that runs are compared on: what is drawn together for one of them is drawn together for all."""
    return replace(part, groups=joined(*(evidence.resampled(cell, part).groups for evidence, cell in runs)))


def _of_the_data(slice_: str) -> bool:
    return slice_ != MISLABELLED and not family_of(slice_)


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Scores of members, shape (M,), and nonmembers, shape (N,), in the split's order; NaN where unscorable."""

    members: Floats
    nonmembers: Floats
    member_groups: tuple[str, ...]
    nonmember_groups: tuple[str, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, column: Column, member: Part, nonmember: Part) -> Sides:
        members, nonmembers = column.take(member.ids), column.take(nonmember.ids)
        unscored = []
        for values, part in ((members, member), (nonmembers, nonmember)):
            if not np.isfinite(values).all():
                why = column.why(part.ids)
                unscored += [why[at] for at in np.flatnonzero(~np.isfinite(values))]
        return cls(members, nonmembers, member.groups, nonmember.groups, tuple(unscored))

    def scored(self, other: Sides | None = None) -> Sides:
        """Only the records with a score here, and in `other` where given."""
        keep = [np.isfinite(self.members), np.isfinite(self.nonmembers)]
        if other is None and keep[0].all() and keep[1].all():
            return self
        if other is not None:
            keep = [keep[0] & np.isfinite(other.members), keep[1] & np.isfinite(other.nonmembers)]
        return Sides(
            self.members[keep[0]],
            self.nonmembers[keep[1]],
            tuple(np.array(self.member_groups, dtype=object)[keep[0]]),
            tuple(np.array(self.nonmember_groups, dtype=object)[keep[1]]),
            self.reasons,
        )

    @property
    def shared_groups(self) -> set[str]:
        """Groups with records on both sides, whose labels nothing can shuffle."""
        return set(self.member_groups) & set(self.nonmember_groups)

    @property
    def groups(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """What the audit resamples together; None where every record stands alone, which is quicker."""
        both = self.member_groups + self.nonmember_groups
        return (None, None) if len(set(both)) == len(both) else (self.member_groups, self.nonmember_groups)
