"""LoKr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, attach_peft, task_type
from byrote.methods.low_rank import Reparametrised
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "lokr")
class LoKr(Reparametrised):
    """Updates that are the Kronecker product of a small matrix and a low-rank one.

    Yeh et al. 2023 (2309.14859), after KronA (Edalati et al. 2022, 2212.10650). Not for GPT-2's Conv1D.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (5e-4, 2e-3, 1e-2, 3e-2)

    r: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[int, Field(gt=0)] = 16
    decompose_both: bool = False
    decompose_factor: Annotated[int, Field(ge=-1)] = -1
    rank_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    module_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def attach(self, model: PreTrainedModel) -> Attached:
        """The factors of each matrix trainable."""
        from peft import LoKrConfig

        return attach_peft(
            model,
            LoKrConfig(
                task_type=task_type(model),
                r=self.r,
                alpha=self.alpha,
                decompose_both=self.decompose_both,
                decompose_factor=self.decompose_factor,
                rank_dropout=self.rank_dropout,
                module_dropout=self.module_dropout,
                target_modules=self.targets(model),
            ),
        )
