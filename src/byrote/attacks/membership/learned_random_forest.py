"""The learned attack by a random forest."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from byrote.attacks.learned import LearnedAttack
from byrote.registry import register


@register("attack", "random-forest")
class RandomForestAttack(LearnedAttack):
    """What tells members from nonmembers is learned: a vote of decision trees over class log-probabilities and loss.

    Score: the rank, among the records of its fold, of the share of trees' votes for "member". Cross-fitted; both
    sides weigh the same in the fit.

    Ma et al. 2024, arXiv 2411.15831; after Salem et al. 2019, arXiv 1806.01246.
    """

    n_estimators: int = Field(100, ge=1, description="trees")
    min_samples_leaf: int = Field(
        10, ge=1, description="fewest records at the end of a branch, but at most a twentieth of those fitted on"
    )

    def classifier(self, records: int, seed: int) -> Any:
        """scikit-learn's RandomForestClassifier."""
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            n_estimators=self.n_estimators,
            min_samples_leaf=max(1, min(self.min_samples_leaf, records // 20)),
            class_weight="balanced",
            n_jobs=1,
            random_state=seed,
        )
