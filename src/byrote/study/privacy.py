"""One privacy level of a study, as a person writes it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from byrote.registry import Settings, explain

EXPONENT = 1.1
"""delta is 1 / N^1.1 where nobody says otherwise."""

# Names that other tools use, and ours.
ELSEWHERE = {
    "target_epsilon": "epsilon",
    "eps": "epsilon",
    "target_delta": "delta",
    "max_grad_norm": "clip_norm",
    "per_sample_max_grad_norm": "clip_norm",
    "l2_norm_clip": "clip_norm",
    "sigma": "noise_multiplier",
    "noise": "noise_multiplier",
    "batch_size": "expected_batch_size",
    "lot_size": "expected_batch_size",
}


class Privacy(Settings):
    """Differential privacy of one training run: DP-SGD of Abadi et al. 2016 (1607.00133), with AdamW.

    Everything here is a public constant. Nothing is counted from the private records.
    """

    epsilon: float | None = None
    """The target at the end of training; the noise is calibrated to it."""
    noise_multiplier: float | None = None
    """Standard deviation of the noise over `clip_norm`, instead of a target."""
    delta: float | None = None
    """None: 1 / N^1.1 of the declared number of units."""
    clip_norm: float = 0.1
    """Largest L2 norm of one unit's gradient. Small norms serve language models best (Li et al. 2021, 2110.05679)."""
    clipping: Literal["flat", "automatic", "per-layer"] = "flat"
    """flat: scale down what is longer than `clip_norm`. automatic: scale everything to it (Bu et al. 2022, 2206.07136).
    per-layer: clip each layer alone, to clip_norm / sqrt(layers)."""
    expected_batch_size: int | None = Field(default=None, ge=1)
    """Mean size of the Poisson batches, in units. None: the study's batch_size."""
    unit: Literal["record", "group"] = "record"
    """Whose presence is hidden: one record, or all records of one group (data.group)."""
    groups: int | None = Field(default=None, ge=2)
    """With unit: group, how many groups the members are declared to have."""
    records_per_group: int = Field(default=1, ge=1)
    """With unit: group, how many records of a drawn group one step uses, chosen at random and clipped as one."""
    accountant: Literal["prv", "rdp"] = "prv"
    engine: Literal["auto", "bookkeeping", "vmap", "loop"] = "auto"

    @field_validator("epsilon", "noise_multiplier", "clip_norm")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and value <= 0:
            raise ValueError(f"must be above 0, but is {value:g}; write privacy: none for training without privacy")
        return value

    @field_validator("delta")
    @classmethod
    def _a_probability(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise ValueError(f"is a probability: it lies between 0 and 1, but is {value:g}")
        return value

    @model_validator(mode="after")
    def _one_target(self) -> Privacy:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give epsilon, or noise_multiplier, and not both")
        if (self.unit == "group") != (self.groups is not None):
            raise ValueError(
                "unit: group needs groups, the number of groups that the members are declared to have "
                "(a public constant, not counted from the records), and unit: record takes none"
            )
        if self.unit == "record" and self.records_per_group != 1:
            raise ValueError("records_per_group belongs to unit: group")
        return self

    def label(self) -> str:
        """What the column `privacy` shows: the target epsilon, or the noise."""
        return f"{self.epsilon:g}" if self.epsilon is not None else f"noise {self.noise_multiplier:g}"

    def named(self) -> str:
        """For messages: "epsilon 8"."""
        return f"epsilon {self.epsilon:g}" if self.epsilon is not None else self.label()

    def settings(self) -> dict[str, Any]:
        """What differs from the defaults besides the target, as the column `settings` spells it."""
        changed = self.model_dump(mode="json", exclude_defaults=True, exclude={"epsilon", "noise_multiplier", "delta"})
        return {f"privacy.{name}": value for name, value in changed.items()}

    def units(self, members: int) -> int:
        """The declared number of privacy units among so many declared members."""
        return members if self.groups is None else self.groups

    def delta_of(self, members: int) -> float:
        """The given delta, or 1 / N^1.1 of the declared units."""
        return self.delta if self.delta is not None else float(self.units(members) ** -EXPONENT)

    def batch_of(self, batch_size: int) -> int:
        """The expected batch size, in units."""
        return self.expected_batch_size or batch_size


def settings_of(method: str, privacy: Privacy | Literal["none"]) -> str:
    """A method's own settings (compact JSON, or empty) with those of its privacy level added."""
    if privacy == "none" or not privacy.settings():
        return method
    merged = (json.loads(method) if method else {}) | privacy.settings()
    return json.dumps(merged, sort_keys=True, separators=(",", ":"))


def label_of(privacy: Privacy | Literal["none"]) -> str:
    """The column `privacy` of a cell."""
    return privacy if privacy == "none" else privacy.label()


def _read_privacy(value: Any) -> Any:
    """`none`, or the settings of a level; every mistake in words."""
    if value == "none" or isinstance(value, Privacy):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"a privacy level is none, or a mapping such as {{epsilon: 8}}; got {value!r}")
    for key in value:
        if key in ELSEWHERE:
            raise ValueError(f"unknown setting {key!r}: byrote calls it {ELSEWHERE[key]!r}")
    try:
        return Privacy.model_validate(value)
    except ValidationError as error:
        raise ValueError(explain(error, Privacy.model_fields, "privacy").removeprefix("privacy: ")) from None


PrivacyLevel = Annotated[Literal["none"] | Privacy, BeforeValidator(_read_privacy)]
