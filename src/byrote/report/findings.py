"""What each method came to: its rows at the last epoch, side by side, and a verdict on leakage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from byrote.report.evidence import Evidence
from byrote.report.measures import Attack, Utility, label, level_label, merged_settings
from byrote.report.privacy_rows import AUC_VERSUS, privacy_settings, utility_versus, without_privacy
from byrote.report.rows import COSTS, RATES, Row
from byrote.statistics.comparison import within_margin
from byrote.statistics.interval import FEW_SEEDS
from byrote.store import Cell, canonical_json

Verdict = Literal["leaks", "at chance", "below null", "not resolved", "failed"]
Key = tuple[str, str, str, float | None, int | None, int | None, str, str, str]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A method with its settings at a privacy level: one line of the summary, over all its seeds."""

    method: str
    settings: str
    privacy: str
    delta: float | None
    family: str
    label: str
    cells: tuple[Cell, ...] = field(compare=False)

    @property
    def done(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.status == "done"]

    @property
    def trained(self) -> bool:
        """Whether a run of it changed the model: one that only shows records has no learning rate."""
        return any(cell.learning_rate is not None for cell in self.done)

    @property
    def private(self) -> bool:
        return self.privacy != "none"

    @property
    def level(self) -> str:
        """The privacy level in words: 'ε 8' or 'noise 0.8'; empty without privacy."""
        return level_label(self.privacy)


@dataclass(frozen=True, slots=True)
class Finding:
    """One configuration at the last epoch of each of its runs: leakage by each attack, utility, cost."""

    configuration: Configuration
    epoch: int | None
    """None where its seeds ended at different epochs."""
    auc: Mapping[Attack, Row]
    lift: Mapping[Attack, Row]
    tpr: Mapping[Attack, Mapping[float, Row]]
    utility: Mapping[Utility, Row]
    versus: Mapping[Attack, Row]
    """Of a private configuration: AUC less that of the same method without privacy."""
    utility_versus: Mapping[Utility, Row]
    cost: Mapping[str, float]
    """Mean over seeds by the keys of `COSTS`; what was not measured is not there."""
    verdicts: Mapping[Attack, Verdict] = field(default_factory=dict)
    versus_verdicts: Mapping[Attack, Verdict] = field(default_factory=dict)
    """Where `versus` lies against no difference, by the same rules."""


class Index:
    """Rows by what they are about."""

    def __init__(self, evidence: Evidence, rows: Iterable[Row]) -> None:
        self.evidence = evidence
        self.rows: dict[Key, Row] = {
            (row.method, row.settings, row.privacy, row.delta, row.seed, row.epoch, row.kind, row.name, row.metric): row
            for row in rows
            if not row.slice
        }

    def get(self, of: Configuration, epoch: int | None, measure: Attack | Utility, metric: str) -> Row | None:
        """The pooled row, or that of the only seed: one of several is never taken for all."""
        return self.one(of, of.done[0].seed if len(of.done) == 1 else None, epoch, measure, metric)

    def each(self, of: Configuration, epoch: int | None, measure: Attack | Utility, metric: str) -> list[Row]:
        """The rows of the single seeds; where `epoch` is None, at each one's own last epoch."""
        ends = [self.evidence.last_epoch(cell) if epoch is None else epoch for cell in of.done]
        found = [self.one(of, cell.seed, end, measure, metric) for cell, end in zip(of.done, ends, strict=True)]
        return [row for row in found if row is not None]

    def one(
        self, of: Configuration, seed: int | None, epoch: int | None, measure: Attack | Utility, metric: str
    ) -> Row | None:
        kind = "membership" if isinstance(measure, Attack) else "utility"
        settings = merged_settings(of.settings, measure.name, measure.settings)
        return self.rows.get((of.method, settings, of.privacy, of.delta, seed, epoch, kind, measure.name, metric))


def configurations(evidence: Evidence) -> list[Configuration]:
    """Every method, settings and privacy level of the study: the base model first, a method's levels side by side.

    Methods stand in the study's order, and so do the levels of each.
    """
    cells: dict[tuple[str, str, str, float | None], list[Cell]] = {}
    for cell in evidence.manifest.cells:
        cells.setdefault((cell.method, cell.settings, cell.privacy, cell.delta), []).append(cell)
    labels = labels_of(list(cells))
    methods = {key: at for at, key in enumerate(dict.fromkeys((key[0], without_privacy(key[1])) for key in cells))}
    found = [Configuration(*key, same[0].family, labels[key], tuple(same)) for key, same in cells.items()]
    return sorted(found, key=lambda one: (one.method != "none", methods[one.method, without_privacy(one.settings)]))


def over_seeds(one: Configuration, other: Configuration) -> bool:
    """Whether two are compared over seeds: where either has several, one shared seed never stands for all.

    The untuned model does not count: it is the same whatever the seed.
    """
    return any(len(of.done) > 1 for of in (one, other) if of.method != "none")


RATE_FIELDS = ("learning_rate", "private_learning_rate")
SPELLINGS: tuple[tuple[str, ...], ...] = ((), ("own",), ("rate",), ("own", "rate"), ("own", "rate", "delta"))
"""What a label may add, the shortest first."""


def labels_of(keys: Sequence[tuple[str, str, str, float | None]]) -> dict[tuple[str, str, str, float | None], str]:
    """A name for each configuration. Its rate, its delta and its privacy settings are named only to tell two apart."""
    found: dict[tuple[str, str, str, float | None], str] = {}
    spellings = [{key: _label(*key, *full) for key in keys} for full in SPELLINGS]
    for at, names in enumerate(spellings):
        counts = Counter(names.values())
        for key, name in names.items():
            if key not in found and (counts[name] == 1 or at == len(spellings) - 1):
                found[key] = name
    return found


def _label(method: str, settings: str, privacy: str, delta: float | None, *with_: str) -> str:
    """A configuration in words: 'lora, r 16, ε 8, clip_norm 1.0'."""
    if method == "none":
        return "untuned model"
    leave_out = () if "rate" in with_ else RATE_FIELDS
    words = [label(method, without_privacy(settings), leave_out)]
    if privacy != "none":
        own = privacy_settings(settings) if "own" in with_ else {}
        words.append(label(level_label(privacy), canonical_json(own)))
        if "delta" in with_ and delta is not None:
            words.append(f"δ {delta:.2g}")
    return ", ".join(words)


def findings(index: Index) -> list[Finding]:
    """One finding for each configuration with a run that did not fail, the base model first."""
    return [_finding(index, one) for one in configurations(index.evidence) if one.done]


def _finding(index: Index, of: Configuration) -> Finding:
    evidence = index.evidence
    ends = {evidence.last_epoch(cell) for cell in of.done} - {None}
    epoch = ends.pop() if len(ends) == 1 else None

    def rows_of(metric: str) -> dict[Attack, Row]:
        rows = {attack: index.get(of, epoch, attack, metric) for attack in evidence.attacks}
        return {attack: row for attack, row in rows.items() if row is not None}

    tpr: dict[Attack, dict[float, Row]] = {}
    for rate in RATES:
        for attack, row in rows_of(f"tpr@fpr={rate:g}").items():
            tpr.setdefault(attack, {})[rate] = row
    utility = {one: index.get(of, epoch, one, one.metric) for one in evidence.utilities}
    versus = {one: index.get(of, epoch, one, utility_versus(one)) for one in evidence.utilities}
    return Finding(
        configuration=of,
        epoch=epoch,
        auc=rows_of("auc"),
        lift=rows_of("auc-lift"),
        versus=rows_of(AUC_VERSUS),
        tpr=tpr,
        utility={one: row for one, row in utility.items() if row is not None},
        utility_versus={one: row for one, row in versus.items() if row is not None},
        cost=_costs(evidence, of),
        verdicts={attack: verdict_of(index, of, epoch, attack) for attack in evidence.attacks},
        versus_verdicts={attack: judged(index, of, epoch, attack, AUC_VERSUS) for attack in evidence.attacks},
    )


def _costs(evidence: Evidence, of: Configuration) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for cell in of.done:
        for key, value in evidence.pieces[cell.run_id].cost.items():
            if key in COSTS and isinstance(value, int | float):
                found.setdefault(key, []).append(float(value))
    return {key: sum(values) / len(values) for key, values in found.items()}


def verdict_of(index: Index, of: Configuration, epoch: int | None, attack: Attack) -> Verdict:
    """Where the interval lies against the null."""
    return judged(index, of, epoch, attack, judged_by(of, attack))


def judged_by(of: Configuration, attack: Attack) -> str:
    """The metric that the verdict rests on.

    An attack whose null is measured on the base model is judged by the interval of its lift, since
    that null varies with the same records.
    """
    alone = of.method == "none" or not all(cell.base_run_id for cell in of.done)
    return "auc" if attack.null_is_stated or alone else "auc-lift"


def judged(index: Index, of: Configuration, epoch: int | None, attack: Attack, metric: str) -> Verdict:
    """Where the interval of one metric lies against its null, and against the study's margin around it."""
    if too_few_seeds(index, of, epoch, attack, metric):
        return "not resolved"
    return _side(index.get(of, epoch, attack, metric), index.evidence.margin)


def too_few_seeds(index: Index, of: Configuration, epoch: int | None, attack: Attack, metric: str) -> bool:
    """Whether the seeds are too few to believe what their pooled interval says.

    Over fewer than five seeds the interval itself is a rough guess, so it must agree with at least
    one seed's own; and where every seed's own interval lies on one side, an interval over seeds that
    takes in the null only says that there are too few.
    """
    row = index.get(of, epoch, attack, metric)
    if row is None or row.value is None or row.seed is not None:
        return False
    margin = index.evidence.margin
    verdict, alone = _side(row, margin), [_side(one, margin) for one in index.each(of, epoch, attack, metric)]
    if verdict in ("leaks", "below null"):
        return verdict not in alone and len(alone) < FEW_SEEDS
    return set(alone) in ({"leaks"}, {"below null"})


def _side(row: Row | None, margin: float) -> Verdict:
    if row is None or row.low is None or row.high is None or row.null_value is None:
        return "not resolved"
    if row.low > row.null_value:
        return "leaks"
    if row.high < row.null_value:
        return "below null"
    return "at chance" if within_margin(row.estimate, margin) else "not resolved"
