"""Dataset inference: many weak signals, regressed on a part of the set and asked of the rest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence, Need
from byrote.attacks.fitted import Bools, FittedAttack, Predict
from byrote.attacks.membership.loss import Loss
from byrote.attacks.membership.min_k import MinK, mean_of_lowest
from byrote.attacks.membership.min_k_plus_plus import MinKPlusPlus
from byrote.attacks.membership.reference import Reference
from byrote.attacks.membership.zlib_entropy import ZlibEntropy
from byrote.registry import register
from byrote.types import Floats

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
MOST = 5.0
"""Standard deviations beyond which a feature says no more: one odd record may not turn the line."""


@register("attack", "dataset-inference")
class DatasetInference(FittedAttack):
    """Too weak to tell one record, many signals together tell whether a whole set was trained on.

    Score: the rank, among the records of its fold, of a linear regression of membership (1 or 0) on the scores of
    loss, reference and zlib, of min-k and min-k++ at 7 shares each, and on the mean of the likeliest tokens at the same
    shares. Cross-fitted: no record has a part in the weights that judge it. What it is for is the p-value of the whole
    set, that members score no higher on average than nonmembers; its AUC is that of any attack. The paper regresses
    on one half and tests on the other, and has more signals, some of them of changed texts.

    Maini et al. 2024, arXiv 2406.06443.
    """

    of_sets: ClassVar[bool] = True
    access: ClassVar[str] = "log-probs and base model, and other records known to be members or not"
    needs: ClassVar[frozenset[Need]] = frozenset({"base"})

    ridge: float = Field(1.0, gt=0, description="penalty of the weights, in records")

    def features(self, evidence: Evidence) -> Floats:
        """(24,) scores of one record. Raises Unscorable where one cannot be had."""
        logs = evidence.target.log_prob.astype(np.float64)
        alone = [attack.score(evidence) for attack in (Loss(), Reference(), ZlibEntropy())]
        by_share = [(MinK(k=k).score(evidence), MinKPlusPlus(k=k).score(evidence)) for k in SHARES]
        return np.array([*alone, *sum(by_share, ()), *(-mean_of_lowest(-logs, k) for k in SHARES)])

    def fit(self, features: Floats, is_member: Bools, seed: int) -> Predict:
        """Least squares with a small penalty, on features in standard deviations, both sides weighing the same."""
        centre, scale = features.mean(0), features.std(0)
        scale[scale == 0.0] = 1.0

        def standard(rows: Floats) -> Floats:
            return np.asarray(np.clip((rows - centre) / scale, -MOST, MOST))

        rows, weight = standard(features), np.where(is_member, 0.5 / is_member.mean(), 0.5 / (~is_member).mean())
        wanted = is_member - 0.5
        middle = weight @ rows / len(rows)
        rows = rows - middle
        gram = (rows * weight[:, None]).T @ rows + self.ridge * np.eye(rows.shape[1])
        weights = np.linalg.solve(gram, (rows * weight[:, None]).T @ wanted)
        return lambda asked: np.asarray((standard(asked) - middle) @ weights)
