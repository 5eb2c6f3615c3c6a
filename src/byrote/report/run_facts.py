"""What was run, in tables: every run with its learning rate, the rates tried, the splits, the environment."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
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

MOST_RUNS = 200
"""Runs that the page lists: of thousands, study.json has the rest."""


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
    more_runs: int
    """Runs beyond those in the table."""
    how: str
    command: str

    @classmethod
    def of(cls, summary: Summary) -> RunFacts:
        import yaml

        manifest, evidence = summary.results.manifest, summary.results.evidence
        runs = [_run_line(cell, evidence.pieces.get(cell.run_id)) for cell in manifest.cells[:MOST_RUNS]]
        how, command = _again(evidence)
        return cls(
            runs=runs,
            splits=[
                SplitLine(str(seed), *(_size(evidence.part(seed, split)) for split in
                                       ("member", "nonmember", "validation", "test")))
                for seed in sorted(evidence.splits)
            ],
            environment=[("byrote", manifest.byrote), *environment_of([evidence])],
            study=yaml.safe_dump(manifest.study, sort_keys=False, allow_unicode=True, width=100),
            failed=[(cell_label(cell), cell.error or "no reason was recorded") for cell in summary.results.failed],
            several_privacies=len({cell.privacy for cell in manifest.cells}) > 1,
            any_tried=any(run.tried for run in runs),
            more_runs=len(manifest.cells) - len(runs),
            how=how,
            command=command,
        )  # fmt: skip


def _again(evidence: Evidence) -> tuple[str, str]:
    """How to get the same again, and the command."""
    manifest = evidence.manifest
    if not evidence.audited:
        how = (
            "Save the resolved study below as study.yaml, install the versions listed, and run this. What is not "
            "private comes out the same on the same device; private noise is never repeated."
        )
        return how, f"byrote run study.yaml --out {shlex.quote(manifest.name)}"
    method: dict[str, Any] = next((one for one in manifest.study.get("methods", []) if one.get("name") == "tuned"), {})
    members, _, nonmembers = manifest.data.partition(" and ")
    given = {"model": method.get("model"), "adapter": method.get("adapter"), "members": members}
    given |= {"nonmembers": nonmembers} if nonmembers else {}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value]
    return "With the same model, files and versions (more options as given then):", f"byrote audit {' '.join(words)}"


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


def environment_of(studies: Sequence[Evidence]) -> list[tuple[str, str]]:
    """What the runs say of where they ran, by name; where they differ, how many runs say each."""
    found: dict[str, Counter[str]] = {}
    runs = {cell.run_id: evidence.pieces[cell.run_id] for evidence in studies for cell in evidence.runs()}
    for pieces in runs.values():
        for name, value in _with_state(pieces.environment).items():
            found.setdefault(name, Counter())[_words(value)] += 1
    return [(name, _counted(values)) for name, values in found.items()]


def _with_state(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The commit together with whether anything was changed since."""
    found = {name: value for name, value in environment.items() if name != "dirty"}
    if found.get("commit") and environment.get("dirty") is not None:
        found["commit"] = f"{found['commit']}, {'with changes of its own' if environment['dirty'] else 'unchanged'}"
    return found


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
