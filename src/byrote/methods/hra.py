"""HRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, attach_peft, task_type
from byrote.methods.low_rank import Reparametrised
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "hra")
class HRA(Reparametrised):
    """Weight matrices turned by a chain of r trained Householder reflections: orthogonal and low-rank at once.

    Yuan et al. 2024 (2405.17484). `r` is even: reflections start in pairs that cancel. `apply_GS` keeps the
    reflections orthogonal to each other (Gram-Schmidt). Not for GPT-2's Conv1D.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (5e-4, 2e-3, 1e-2, 3e-2)

    r: Annotated[int, Field(ge=2, multiple_of=2)] = 8
    apply_GS: bool = False

    def attach(self, model: PreTrainedModel) -> Attached:
        """The reflections' normals trainable."""
        from peft import HRAConfig

        return attach_peft(
            model,
            HRAConfig(task_type=task_type(model), r=self.r, apply_GS=self.apply_GS, target_modules=self.targets(model)),
        )
