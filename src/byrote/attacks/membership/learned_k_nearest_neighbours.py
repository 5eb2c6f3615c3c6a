"""The learned attack by nearest neighbours."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from byrote.attacks.learned import LearnedAttack
from byrote.registry import register


@register("attack", "k-nearest-neighbours")
class KNearestNeighbours(LearnedAttack):
    """A record that the model treats as it treats members is one: the share of members among its nearest neighbours.

    Score: the rank of that share among the records of its fold, by Euclidean distance between standardised class
    log-probabilities and losses. Cross-fitted.

    Ma et al. 2024, arXiv 2411.15831; after Shokri et al. 2017, arXiv 1610.05820.
    """

    n_neighbors: int = Field(30, ge=1, description="neighbours asked, but at most a quarter of the records fitted on")

    def classifier(self, records: int, seed: int) -> Any:
        """scikit-learn's KNeighborsClassifier."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(n_neighbors=max(1, min(self.n_neighbors, records // 4)))
