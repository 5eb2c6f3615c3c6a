"""Runs and attacks that every study has besides: they say whether its other numbers can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from byrote.attacks.base import Attack
from byrote.attacks.fitted import FittedAttack
from byrote.methods.base import Method
from byrote.registry import discover, make
from byrote.runner.extraction import measure_records
from byrote.runner.in_context import run_of
from byrote.runner.one import Wanted
from byrote.runner.scores import score_records
from byrote.runner.witness import Witness
from byrote.store import HELD, Cell, Locked
from byrote.study import Study
from byrote.study.model import CONTROL_MEMBERS
from byrote.types import ByroteError, Query, Record, Splits, ordinary

if TYPE_CHECKING:
    from byrote.runner.study import StudyRun


def blind_attacks() -> list[FittedAttack]:
    """Attacks that read no model."""
    blind = [name for name, kind in discover("attack").items() if issubclass(kind, Attack) and kind.blind]
    found = [make("attack", name) for name in blind]
    return [one for one in found if isinstance(one, FittedAttack)]


def control_rate(study: Study, method: Method) -> float:
    """The study's own rate for the method, or the middle one of those that would be tried."""
    rates = study.rates(method)
    return rates[len(rates) // 2]


def control_queries(splits: Splits) -> list[Query]:
    """What the positive control is asked: few members, as many nonmembers, and the test records."""
    return [Query(record) for part in _few(splits) for record in part] + [Query(record) for record in splits.test]


def _few(splits: Splits) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    return ordinary(splits.members)[:CONTROL_MEMBERS], ordinary(splits.nonmembers)[:CONTROL_MEMBERS]


def positive_control(study: StudyRun) -> Cell | None:
    """Over-fit a few members of the first seed and attack them as all others; None where the study wants none.

    An attack that does not see *that* sees nothing: what it does not find elsewhere says nothing then.
    """
    method, seed = study.study.control(), study.study.seeds[0]
    if not isinstance(method, Method):
        return None
    context = study.context
    rate = control_rate(study.study, method)
    cell = Cell(
        method=method.name, family=method.family, settings=method.settings(), seed=seed, run_id="",
        base_run_id=study.base.id, learning_rate=rate,
    )  # fmt: skip
    run = run_of(context, context.experiment(method, "none", seed, rate, "few members"), method, "positive control")
    splits = context.splits(seed)
    members, nonmembers = _few(splits)
    attacks = [one for one in study.study.attacks_of("membership") if not (one.at_the_end or one.blind)]
    measures = [one for one in study.study.attacks_of("extraction") if not one.at_the_end]
    try:
        study.worked += run.ensure(splits, Wanted(queries=control_queries(splits)))
        epoch = run.history()["epochs"]
        witness = Witness(run, study.base, epoch, context.background(seed))
        study.worked += score_records(attacks, members + nonmembers, [witness], members=len(members))
        study.worked += measure_records(measures, (members, nonmembers), [witness], seed)
    except ByroteError as error:
        said = HELD if isinstance(error, Locked) else str(error)
        return cell.model_copy(update={"run_id": run.id, "status": "failed", "error": said})
    return cell.model_copy(update={"run_id": run.id, "notes": [f"{len(members)} members", f"{epoch} epochs"]})
