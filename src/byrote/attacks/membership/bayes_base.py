"""BASE: the Bayes-optimal attack on losses, with its threshold from shadow models."""

from __future__ import annotations

import math

import numpy as np

from byrote.attacks.base import Evidence
from byrote.attacks.shadow import ShadowAttack, likelihood
from byrote.registry import register


@register("attack", "bayes-base")
class BayesBase(ShadowAttack):
    """A record that the model finds likelier than models trained on random halves do (the BASE of the paper).

    Score: -l(x) - log mean_i exp(-l_i(x)), with the mean loss l of the model and l_i of shadow model i, in nats per
    token (per label where there are labels). Which shadow models saw the record is not read. It is the logarithm of
    the ratio that `rmia` compares between records, with a plain mean over the shadow models. No untuned base model is
    involved.

    Lassila et al. 2025, arXiv 2505.24089.
    """

    def score(self, evidence: Evidence) -> float:
        """The log-ratio to the mean likelihood, in nats."""
        by = np.array([likelihood(stats) for _, stats in self.said(evidence)])
        return likelihood(evidence.target) - (float(np.logaddexp.reduce(by)) - math.log(len(by)))
