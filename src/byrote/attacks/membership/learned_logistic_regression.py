"""The learned attack by logistic regression."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from byrote.attacks.learned import LearnedAttack
from byrote.registry import register


@register("attack", "logistic-regression")
class LogisticRegressionAttack(LearnedAttack):
    """What tells members from nonmembers is learned: a weighted sum of class log-probabilities and loss.

    Score: the rank, among the records of its fold, of the odds of membership. Cross-fitted; both sides weigh the
    same in the fit, however many records they have.

    Ma et al. 2024, arXiv 2411.15831; after Shokri et al. 2017, arXiv 1610.05820.
    """

    C: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")
    max_iter: int = Field(1000, ge=1, description="steps within which the fit must converge")

    def classifier(self, records: int, seed: int) -> Any:
        """scikit-learn's LogisticRegression."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.C, max_iter=self.max_iter, class_weight="balanced", random_state=seed)
