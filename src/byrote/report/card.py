"""A section for the model card of one tuned model: what it was trained on, its privacy account, and what was attacked.

All numbers are of that one run: the results are narrowed to it and the untuned model before anything is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from byrote.report.answer import answer, meanings_of
from byrote.report.audited_epsilon import audited_epsilon_of
from byrote.report.axes import VariedResults
from byrote.report.canary_exposure import canary_exposure_of
from byrote.report.evidence import Evidence
from byrote.report.extraction import comes_out
from byrote.report.findings import Finding, configurations, judged_by
from byrote.report.formats import ABSENT, limits, listed, measure, rate, signed, with_limits
from byrote.report.markdown import bullets, cell_words, escaped, heads_of, plain, table_of
from byrote.report.privacy import privacy_of
from byrote.report.results import Results
from byrote.report.rows import RATES
from byrote.report.summary import Summary
from byrote.report.wrong_labels import wrong_labels_of
from byrote.store import Cell
from byrote.types import StudyError, family_of

TITLE = "## Memorization and privacy"
UNBOUNDED = (
    "Trained without differential privacy: nothing bounds what the weights may give away. What is shown below is what "
    "these attacks found, not what the best attack could find."
)


UNKNOWN = "How it was trained is not known to byrote, so nothing is said of a guarantee."


class Choice(NamedTuple):
    """One tuned model that a card can be of."""

    label: str
    """As in 'lora, r 16, ε 8, seed 1', with its point before it."""
    recipe: str
    """The same without the seed."""
    cell: Cell
    results: Results

    def __str__(self) -> str:
        return f"{self.label} ({self.cell.run_id})"


def card(results: Results | VariedResults, run: str | None = None) -> str:
    """The section as Markdown. Raises StudyError where `run` (a run id, a method, or a label) is not one model's."""
    chosen = choose(results, run)
    evidence, cell = chosen.results.evidence, chosen.cell
    alone = Results(narrowed(evidence, [one for one in evidence.done() if one is cell or one.method == "none"]))
    summary = Summary(alone)
    (one,) = summary.tuned
    parts = [TITLE, _made_with(chosen)]
    parts += [f"> **{plain(banner)}**" for banner in _first(alone)]
    parts += [bullets_of(answer(summary)), "### Training", _training(alone, one)]
    parts += ["### Differential privacy", *_privacy(summary)]
    parts += ["### Membership inference", *_membership(summary, one), *_over_seeds(evidence, one)]
    parts += [*_extraction(summary), *_wrong_labels(summary), *_utility(summary, one)]
    parts += ["### Limits of this audit", bullets(_limits(alone))]
    return "\n\n".join(part for part in parts if part) + "\n"


def choices(results: Results | VariedResults) -> list[Choice]:
    """The tuned models that have numbers."""
    if isinstance(results, VariedResults):
        return [
            one._replace(label=f"{entry.label}: {one.label}", recipe=f"{entry.label}: {one.recipe}")
            for entry, found in results.done()
            for one in choices(found)
        ]
    of = [one for one in configurations(results.evidence) if one.method != "none"]
    return [Choice(f"{one.label}, seed {cell.seed}", one.label, cell, results) for one in of for cell in one.done]


def choose(results: Results | VariedResults, run: str | None) -> Choice:
    """The one model that is meant. Raises StudyError that names them where there are several, or none."""
    every = choices(results)
    if not every:
        raise StudyError("no tuned model has numbers here, so there is nothing to write a card of")
    found = every if run is None else _matching(every, run)
    if len(found) == 1:
        return found[0]
    names = "; ".join(map(str, found or every))
    if run is None:
        raise StudyError(f"these results have several models: choose one with --run RUN_ID. They are: {names}.")
    raise StudyError(
        f"--run: {run!r} is {'several of these models: give a run id' if found else 'none of these models'}: {names}."
    )


def _matching(every: Sequence[Choice], run: str) -> list[Choice]:
    """By run id, by the whole label, by the label without its seed, or by the method: the first that finds any."""
    calls = [(one, (one.cell.run_id, one.label, one.recipe, one.cell.method)) for one in every]
    found = ([one for one, names in calls if names[way] == run] for way in range(4))
    return next((some for some in found if some), [])


def narrowed(evidence: Evidence, cells: Sequence[Cell]) -> Evidence:
    """The same study had it been of these cells alone."""
    seeds = {cell.seed for cell in cells if cell.method != "none"}
    kept = [cell for cell in cells if cell.seed in seeds]
    control = evidence.manifest.positive_control  # its records may be of another seed's split
    needed = seeds if control is None else seeds | {control.seed}
    splits = {seed: parts for seed, parts in evidence.splits.items() if seed in needed}
    sizes = {seed: size for seed, size in evidence.manifest.splits.items() if int(seed) in seeds}
    manifest = evidence.manifest.model_copy(update={"cells": kept, "splits": sizes})
    return replace(evidence, manifest=manifest, splits=splits, nulls={}, parts={})


def bullets_of(sentences: Sequence[str]) -> str:
    """Sentences of the answer, whose bold stays."""
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def _first(alone: Results) -> list[str]:
    """What must stand before every number."""
    return list(dict.fromkeys([*alone.contradictions, *alone.broken_splits, *alone.banners]))


def _made_with(chosen: Choice) -> str:
    manifest, environment = chosen.results.manifest, chosen.results.evidence.pieces[chosen.cell.run_id].environment
    versions = environment.get("versions", {})
    with_ = [f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions]
    beside = f" ({plain(', '.join(with_))})" if with_ else ""
    return (
        f"Audited with byrote {plain(manifest.byrote)}{beside}: run `{chosen.cell.run_id}`, "
        f"{plain(chosen.label)}, of the study *{plain(manifest.name)}*. Brackets are 95% intervals; the null is what a "
        "number would be had nothing been learned by rote."
    )


def _training(alone: Results, one: Finding) -> str:
    manifest, (cell,) = alone.manifest, one.configuration.done
    study, evidence = manifest.study, alone.evidence
    members = evidence.part(cell.seed, "member")
    own = members.only(lambda name: not family_of(name))
    counted = f"{len(own):,} records"
    if planted := sum(members.copies) - len(own):
        counted += f", and {planted:,} copies or canaries that were planted among them to measure what is memorised"
    sizes = [f"{size:,} {name}" for side, name in
             (("nonmember", "nonmembers"), ("validation", "for validation"), ("test", "for tests"))
             if (size := len(evidence.part_of(cell.seed, side)))]  # fmt: skip
    lines = {
        "Base model": manifest.model_description or manifest.model,
        "Data": f"{manifest.data}: {manifest.data_description}".rstrip(": "),
        "Licence of the data": manifest.data_licence,
        "Records known to be trained on" if evidence.audited else "Trained on": counted,
        "Not trained on, as byrote was told" if evidence.audited else "Held out of the same population": listed(sizes),
        "Method": one.configuration.label + ("" if evidence.audited else f" ({one.configuration.family}-based)"),
        "Settings": "" if evidence.audited else _settings(cell, study, one.epoch),
    }
    return table_of(["", ""], [[name, text] for name, text in lines.items() if text])


def _settings(cell: Cell, study: dict[str, object], epoch: int | None) -> str:
    settings = json.loads(cell.settings) if cell.settings else {}
    words = [f"{name} {value}" for name, value in settings.items() if name != "learning_rate"]
    rate_ = [] if cell.learning_rate is None else [f"learning_rate {cell.learning_rate:g}"]
    shared = [f"{name} {study[name]}" for name in ("batch_size", "max_length", "dtype") if name in study]
    return ", ".join([*words, *rate_, *([] if epoch is None else [f"epochs {epoch}"]), *shared, f"seed {cell.seed}"])


def _privacy(summary: Summary) -> Iterator[str]:
    """The ledger of the run; without one, that nothing is bounded."""
    section = privacy_of(summary)
    if section is None:
        yield UNKNOWN if summary.results.evidence.audited else UNBOUNDED
    else:
        ((_, values),) = section.accounts
        rows = [[column.title, cell_words(value)] for column, value in zip(section.columns, values, strict=True)]
        yield table_of(["account", ""], rows)
        yield bullets([*section.statements, *section.engines])
        yield "What lies outside the guarantee:"
        yield bullets(section.outside)
    if audited := audited_epsilon_of(summary):
        yield audited.about
        lines = [[line.label, *map(cell_words, line.values)] for line in audited.lines]
        yield table_of(["run", *heads_of(audited.columns)], lines)
        yield bullets(audited.statements)


def _membership(summary: Summary, one: Finding) -> Iterator[str]:
    """Every attack by its AUC and the lowest FPR at which its TPR is resolved."""
    lines = []
    for attack in summary.results.evidence.attacks:
        auc = one.auc.get(attack)
        if auc is None or auc.value is None:
            lines.append(
                [attack.label, attack.access, ABSENT, "", "", "", "", auc.reason if auc is not None else ABSENT]
            )
            continue
        known = {at: row for at, row in one.tpr.get(attack, {}).items() if row.value is not None}
        at = min(known, default=None)
        tpr = ABSENT if at is None else f"{rate(known[at].value)} {limits(known[at].estimate)} at FPR {at:g}"
        found = f"{rate(auc.value)} {limits(auc.estimate)}"
        size = "" if auc.n is None else f"{auc.n:,}"
        rests_on = one.lift.get(attack) if judged_by(one.configuration, attack) == "auc-lift" else None
        lift = ABSENT if rests_on is None else with_limits(rests_on.estimate, signed)
        verdict = one.verdicts.get(attack, ABSENT)
        lines.append([attack.label, attack.access, found, rate(auc.null_value), lift, tpr, size, verdict])
    if not lines:
        yield "No membership attack was made."
        return
    yield f"Members against nonmembers: {summary.sizes()}."
    yield table_of(["attack", "who can run it", "AUC", "null", "above the untuned model", "TPR", "n", "verdict"], lines)
    if any(line[4] not in ("", ABSENT) for line in lines):
        yield (
            "Where the untuned model was attacked too, its AUC is the null, and the verdict rests on the difference to "
            "it on the same records."
        )
    meant = meanings_of(set(one.verdicts.values()), f"±{summary.results.evidence.margin:g}", 1)
    yield bullets([f"{verdict}: {words}." for verdict, words in meant.items()])
    resolved = {at for of in one.tpr.values() for at, row in of.items() if row.value is not None}
    if unresolved := [f"{at:g}" for at in RATES if at not in resolved]:
        yield f"TPR at an FPR of {listed(unresolved)} cannot be resolved from so few records."


def _over_seeds(evidence: Evidence, one: Finding) -> Iterator[str]:
    """What other trainings by the same recipe came to, where there are any."""
    of = one.configuration
    key = (of.method, of.settings, of.privacy, of.delta)
    cells = [c for c in evidence.done() if c.method == "none" or (c.method, c.settings, c.privacy, c.delta) == key]
    seeds = [cell.seed for cell in cells if cell.method != "none"]
    if len(seeds) < 2:
        return
    summary = Summary(Results(narrowed(evidence, cells)))
    attack = summary.headline
    row = summary.tuned[0].auc.get(attack) if attack is not None else None
    if attack is not None and row is not None and row.value is not None:
        yield (
            f"Over {len(seeds)} trainings by the same recipe, each on a split of its own, the AUC of {attack.label} is "
            f"{rate(row.value)} {limits(row.estimate)} on average; the model of this card is one of them."
        )


def _extraction(summary: Summary) -> Iterator[str]:
    out, canaries = comes_out(summary), canary_exposure_of(summary)
    if out is None and canaries is None:
        yield "### Extraction"
        yield "Whether training text comes out of the model was not measured."
    if out is not None:
        yield "### Extraction"
        yield plain(out.about)
        for table in out.tables:
            yield f"**{plain(table.title)}.** {plain(table.about)}"
            lines = [[line.label, *map(cell_words, line.values)] for line in table.lines]
            yield table_of(["model", *heads_of(table.columns)], lines) if lines else ""
            slices = [[line.label, *map(cell_words, line.values)] for line in table.slices]
            yield table_of([f"{table.metric} of", *table.methods], slices) if slices else ""
        yield bullets(out.statements)
    if canaries is not None:
        yield "### Canaries"
        yield plain(canaries.about)
        lines = [[line.label, cell_words(line.most), *map(cell_words, line.values)] for line in canaries.lines]
        yield table_of(["canaries", "at most", *canaries.methods], lines)
        yield bullets(canaries.statements)


def _wrong_labels(summary: Summary) -> Iterator[str]:
    if wrong := wrong_labels_of(summary):
        yield "### Wrong labels"
        yield plain(wrong.about)
        lines = [[line.label, *map(cell_words, line.values)] for line in wrong.lines]
        yield table_of(["model", *heads_of(wrong.columns)], lines)
        yield bullets(wrong.statements)


def _utility(summary: Summary, one: Finding) -> Iterator[str]:
    lines = []
    for utility, row in one.utility.items():
        value = ABSENT if row.value is None else f"{measure(row.value)} {limits(row.estimate, measure)}".rstrip()
        size = "" if row.n is None else f"{row.n:,}"
        better = utility.best
        lines.append([f"{utility.label} ({better})", value, measure(row.null_value), size])
    if lines:
        yield "### Utility"
        yield table_of(["on test records", "this model", "untuned model", "n"], lines)


def _limits(alone: Results) -> list[str]:
    """Every warning but those that already stand first, and what no audit can say."""
    first = set(_first(alone))
    return [
        *(warning for warning in alone.warnings if warning not in first),
        *alone.controls,
        "An audit finds what its attacks find: nothing shown is not nothing there.",
    ]
