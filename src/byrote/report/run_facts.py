"""What was run, in tables: every run with its learning rate, the rates tried, the splits, the environment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from byrote.report.checks import cell_label
from byrote.report.evidence import Evidence
from byrote.report.findings import RATE_FIELDS
from byrote.report.formats import ABSENT, measure
from byrote.report.measures import label
from byrote.report.pieces import Part, Pieces
from byrote.report.summary import Summary
from byrote.store import Cell, canonical_json
from byrote.types import family_of


class RunLine(NamedTuple):
    """One run of the study."""

    method: str
    privacy: str
    seed: str
    learning_rate: str
    tried: str
    before: str
    after: str
    run_id: str
    status: str
    error: str


class SplitLine(NamedTuple):
    """How many records one seed's split has."""

    seed: str
    members: str
    nonmembers: str
    validation: str
    test: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Everything needed to repeat the study, as words."""

    runs: list[RunLine]
    splits: list[SplitLine]
    environment: list[tuple[str, str]]
    study: str
    failed: list[tuple[str, str]]
    several_privacies: bool
    any_tried: bool

    @classmethod
    def of(cls, summary: Summary) -> RunFacts:
        import yaml

        manifest, evidence = summary.results.manifest, summary.results.evidence
        runs = [_run_line(cell, evidence.pieces.get(cell.run_id)) for cell in manifest.cells]
        return cls(
            runs=runs,
            splits=[
                SplitLine(str(seed), *(_size(evidence.part(seed, split)) for split in
                                       ("member", "nonmember", "validation", "test")))
                for seed in sorted(evidence.splits)
            ],
            environment=[("byrote", manifest.byrote), *_environment(evidence)],
            study=yaml.safe_dump(manifest.study, sort_keys=False, allow_unicode=True, width=100),
            failed=[(cell_label(cell), cell.error or "no reason was recorded") for cell in summary.results.failed],
            several_privacies=len({cell.privacy for cell in manifest.cells}) > 1,
            any_tried=any(run.tried for run in runs),
        )  # fmt: skip


def _size(part: Part) -> str:
    """The number of records, canaries apart."""
    canaries = len(part.only(lambda name: bool(family_of(name))))
    return f"{len(part) - canaries:,}" + (f" and {canaries:,} canaries" if canaries else "")


def _run_line(cell: Cell, pieces: Pieces | None) -> RunLine:
    entries = pieces.training.get("validation", []) if pieces else []
    losses = [entry for entry in entries if entry.get("loss") is not None]
    return RunLine(
        method="untuned model" if cell.method == "none" else label(cell.method, cell.settings, RATE_FIELDS),
        privacy=cell.privacy,
        seed=str(cell.seed),
        learning_rate=ABSENT if cell.learning_rate is None else f"{cell.learning_rate:g}",
        tried=", ".join(_trial(trial.learning_rate, trial.validation_loss, trial.error) for trial in cell.tried),
        before=f"{losses[0]['loss']:.3f}" if losses else ABSENT,
        after=f"{losses[-1]['loss']:.3f}" if losses else ABSENT,
        run_id=cell.run_id,
        status=cell.status,
        error=cell.error,
    )


def _trial(learning_rate: float, loss: float | None, error: str) -> str:
    return f"{learning_rate:g} → {measure(loss) if loss is None else f'{loss:.3f}'}{f' ({error})' if error else ''}"


def _environment(evidence: Evidence) -> list[tuple[str, str]]:
    """What the runs say of where they ran, by name; where they differ, how many runs say each."""
    found: dict[str, Counter[str]] = {}
    for cell in evidence.runs():
        for name, value in evidence.pieces[cell.run_id].environment.items():
            found.setdefault(name, Counter())[_words(value)] += 1
    return [(name, _counted(values)) for name, values in found.items()]


def _counted(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({runs} run{'' if runs == 1 else 's'})" for value, runs in values.most_common())


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, str | int | float) else canonical_json(value)
