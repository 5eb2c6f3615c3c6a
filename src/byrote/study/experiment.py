"""What changes the weights of a run, and nothing else; the identity of a run is the hash of exactly that."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from byrote.registry import Component, Settings
from byrote.study.fields import Part, PlantField
from byrote.study.privacy import PrivacyLevel

# The part of a run's identity that stands for byrote's own training code: raised whenever the
# same experiment would give other weights than before, so that old runs are not taken for new.
RECIPE = 1


class Training(Settings):
    """What training a run takes besides its data, method and seed. TrainingArguments' names where those exist."""

    objective: Literal["lm", "completion", "classification"] = "lm"
    epochs: int = Field(default=3, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    lr_scheduler_type: Literal["linear", "constant"] = "linear"
    weight_decay: float = Field(default=0.0, ge=0)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Every dropout rate of the model while it is tuned. None: the model's own."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, ge=2)
    early_stop: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a better validation loss. None: never."""
    dtype: Literal["float32", "bfloat16"] = "float32"


def mislabelled(plants: list[Component]) -> int:
    """How many members the plants give a wrong label."""
    return sum(plant.mislabelled() for plant in plants)  # type: ignore[attr-defined]


class Experiment(Training):
    """One run: everything that changes the weights, and nothing else."""

    recipe: int
    model: str
    source: str
    data: dict[str, Any]
    plants: list[PlantField] = []
    method: dict[str, Any]
    privacy: PrivacyLevel
    learning_rate: float
    seed: int
    trains_on: Part = "members"
    """"test" for a private method's learning-rate trials, which may not touch the private records."""
    shadow: int | None = Field(default=None, exclude_if=lambda number: number is None)  # others keep their identity
    """Which shadow model it is: one that is trained on half of the members and nonmembers, drawn at random."""

    @property
    def members(self) -> int:
        """How many records were declared to be trained on, copies counted; known before any is read."""
        if self.shadow is not None:  # each member and each nonmember with a chance of one half
            added = sum(plant.added() for plant in self.plants)  # type: ignore[attr-defined]
            both = self.data["members"] + (self.data["nonmembers"] or self.data["members"]) + added
            return max(1, int(both) // 2)
        declared: int = self.data["members"]
        if self.trains_on == "rightly labelled":
            declared -= mislabelled(self.plants)
        return declared + sum(plant.added() for plant in self.plants)  # type: ignore[attr-defined]


class BaseExperiment(Settings):
    """The untuned base model, scored on the same data."""

    recipe: int
    model: str
    source: str
    objective: str
    max_length: int
    dtype: str
