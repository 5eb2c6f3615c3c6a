"""The learned attack by a small neural network."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from byrote.attacks.learned import LearnedAttack
from byrote.registry import register


@register("attack", "mlp")
class MultilayerPerceptron(LearnedAttack):
    """What tells members from nonmembers is learned: a small network on class log-probabilities and loss.

    Score: the rank, among the records of its fold, of the odds of membership. Cross-fitted. The fit ends after
    `max_iter` passes, converged or not: stopping early is part of what keeps it from learning noise.

    Ma et al. 2024, arXiv 2411.15831; after Shokri et al. 2017, arXiv 1610.05820.
    """

    must_converge: ClassVar[bool] = False

    hidden_layer_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((32,), min_length=1, description="units each")
    alpha: float = Field(1e-3, ge=0, description="strength of the L2 penalty")
    max_iter: int = Field(100, ge=1, description="passes over the records")

    def classifier(self, records: int, seed: int) -> Any:
        """scikit-learn's MLPClassifier."""
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(
            hidden_layer_sizes=self.hidden_layer_sizes, alpha=self.alpha, max_iter=self.max_iter, random_state=seed
        )
