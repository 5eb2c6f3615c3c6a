"""Attacks that learn: fitted on records whose membership is known, and asked about records that they never saw.

Records are cut into folds, copies together and each side evenly. The model that scores a fold is fitted on the half of
the other folds that follows it in a circle, and what it says of the fold is kept as ranks within the fold. Both are for
the sake of pure noise:

- Fitted on *all* other folds, as in ordinary cross-validation, the model of fold a learns from b and that of b from a,
  so the two err alike. The AUC then varies up to 1.4 times as much as its interval knows: on noise, 95% intervals took
  in 0.5 in 78 to 91 of 100 draws (linear and nearest-neighbour models, 1 to 9 features). There is no remedy after the
  fact (Bengio & Grandvalet 2004, JMLR 5:1089). Taught one way only, of two folds at most one knows the other, and
  under the null the AUCs of the folds are uncorrelated, whatever is fitted.
- Scores of different models have different offsets, and a fold with more members leaves fewer to its model: pooled as
  they are, noise has an AUC below 0.5 (Parker, Gunter & Bedo 2007, BMC Bioinformatics 8:326). Ranks have no offset, and
  with each side dealt evenly the pooled AUC is the mean over the folds, each of which is 0.5 on noise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from byrote.attacks.base import NOT_FINITE, Attack, Evidence, need_numbers, reason_of
from byrote.types import Floats, Scores, Unscorable

Bools = NDArray[np.bool_]
Predict = Callable[[Floats], Floats]

PER_FOLD = 2
"""Members, and nonmembers, that are not copies of one another: the fewest that a fold needs."""


class FittedAttack(Attack):
    """Abstract: was this record trained on? Learned from others of known membership. Subclasses as of MembershipAttack.

    To add one, give what is read of a record (`features`) and what is learned from many (`fit`). Folds, copies, ranks,
    reasons and order are the work of `score_set`, so that no subclass can score a record that it has seen.
    """

    learns: ClassVar[bool] = True
    folds: int = Field(5, ge=3, le=100, description="parts of the records, each scored by a model of its own")
    seed: int = Field(0, ge=0, lt=2**32, description="of the folds, and of whatever is random in the fit")

    @property
    def null_is_stated(self) -> bool:
        """True: on a model that never saw the members, what is fitted to one part of them says nothing of another.

        That is so of a split drawn at random (see `learns`).
        """
        return True

    @abstractmethod
    def features(self, evidence: Evidence) -> Floats:
        """(F,) numbers on one record, from its evidence alone; raises Unscorable with a reason."""

    @abstractmethod
    def fit(self, features: Floats, is_member: Bools, seed: int) -> Predict:
        """What was learned from features (R, F) and labels (R,), both sides among them.

        It gives each row of features (N, F) a number (N,), higher for "more likely trained on"; only their
        order counts. Whatever is scaled or chosen is chosen here, from these rows alone. `seed` is the only chance.
        """


def score_set(attack: FittedAttack, evidence: Sequence[Evidence], is_member: Sequence[bool]) -> Scores:
    """One score per record, shape (N,), each from a model that saw neither the record nor any of its group.

    The score is the record's rank within its fold, in (0, 1), ties sharing their mean. It does not depend on the order
    of the records. A record without features has a reason; where too few are left to fit, every record has.
    """
    labels = np.asarray(is_member, dtype=bool)
    if labels.shape != (len(evidence),):
        raise ValueError(f"{len(evidence)} records but {labels.size} labels of membership")
    values, reasons = np.full(len(evidence), np.nan), [""] * len(evidence)
    rows: dict[int, Floats] = {}
    for index in sorted(range(len(evidence)), key=lambda at: evidence[at].record.id):
        try:
            rows[index] = _features(attack, evidence[index])
        except Exception as error:
            reasons[index] = reason_of(error)
    known = list(rows)
    groups = [evidence[index].record.group_id for index in known]
    try:
        values[known] = _cross_fitted(attack, list(rows.values()), labels[known], groups)
    except Exception as error:  # one faulty attack must not cost the others their results
        for index in known:
            reasons[index] = reason_of(error)
    return Scores(values, tuple(reasons))


def _features(attack: FittedAttack, evidence: Evidence) -> Floats:
    need_numbers(evidence)
    with np.errstate(invalid="ignore", over="ignore"):
        row = np.asarray(attack.features(evidence), dtype=np.float64)
    if not np.isfinite(row).all():
        raise Unscorable(f"a feature is not finite: {NOT_FINITE}")
    return row


def _cross_fitted(attack: FittedAttack, rows: list[Floats], is_member: Bools, groups: Sequence[str]) -> Floats:
    """(R,) ranks within folds. Raises Unscorable where the records are too few."""
    from scipy.stats import rankdata

    fold = deal(groups, is_member, attack.folds, attack.seed)
    features, scores = np.stack(rows), np.empty(len(rows))
    for number in range(attack.folds):
        asked, taught = fold == number, np.isin(fold, teachers(number, attack.folds))
        predict = attack.fit(features[taught], is_member[taught], attack.seed)
        found = np.asarray(predict(features[asked]), dtype=np.float64)
        if not np.isfinite(found).all():
            raise Unscorable("the fitted model gives a score that is not finite")
        scores[asked] = (rankdata(found) - 0.5) / len(found)
    return scores


def teachers(fold: int, folds: int) -> list[int]:
    """The folds that the model of a fold is fitted on: of any two folds, at most one teaches the other."""
    return [(fold + step) % folds for step in range(1, (folds - 1) // 2 + 1)]


def deal(groups: Sequence[str], is_member: Bools, folds: int, seed: int) -> NDArray[np.intp]:
    """The fold of each record, shape (R,): whole groups, members and nonmembers each spread evenly.

    Depends on the groups' names and the seed, not on the order of the records. Raises Unscorable where
    a side has fewer than PER_FOLD groups for each fold.
    """
    sizes = {side: Counter(group for group, of in zip(groups, is_member, strict=True) if of == side)
             for side in (True, False)}  # fmt: skip
    for side, name in ((True, "members"), (False, "nonmembers")):
        if len(sizes[side]) < PER_FOLD * folds:
            raise Unscorable(
                f"fitting in {folds} folds needs {PER_FOLD * folds} {name} that are not copies of one another, "
                f"has {len(sizes[side])}"
            )
    both = sizes[True].keys() & sizes[False].keys()
    strata = [{group: size for group, size in sizes[side].items() if group not in both} for side in (True, False)]
    strata.append({group: sizes[True][group] + sizes[False][group] for group in both})
    rng = np.random.default_rng(seed)
    home: dict[str, int] = {}
    for stratum in strata:
        home |= _spread(stratum, folds, rng)
    return np.array([home[group] for group in groups], dtype=np.intp)


def _spread(sizes: dict[str, int], folds: int, rng: np.random.Generator) -> dict[str, int]:
    """A fold for each group: the largest first, each to a fold with the fewest records so far; chance among equals."""
    names = sorted(sizes)
    order = sorted((names[at] for at in rng.permutation(len(names))), key=lambda name: -sizes[name])
    loads = [0] * folds
    home = {}
    for name in order:
        home[name] = loads.index(min(loads))
        loads[home[name]] += sizes[name]
    return home
