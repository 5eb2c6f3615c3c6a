"""VeRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, attach_peft, task_type
from byrote.methods.blocks import is_transposed
from byrote.methods.low_rank import Reparametrised
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "vera")
class VeRA(Reparametrised):
    """One frozen random pair B, A for all matrices; only two scaling vectors of each matrix are trained.

    Kopiczko et al. 2023 (2310.11454). Update = diag(b) B diag(d) A. B and A are drawn from `projection_prng_key`.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 1e-2, 3e-2, 1e-1)

    r: Annotated[int, Field(ge=1)] = 256
    vera_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    d_initial: Annotated[float, Field(gt=0)] = 0.1
    projection_prng_key: Annotated[int, Field(ge=0)] = 0

    def attach(self, model: PreTrainedModel) -> Attached:
        """The vectors b and d trainable."""
        from peft import VeraConfig

        return attach_peft(
            model,
            VeraConfig(
                task_type=task_type(model),
                r=self.r,
                vera_dropout=self.vera_dropout,
                d_initial=self.d_initial,
                projection_prng_key=self.projection_prng_key,
                target_modules=self.targets(model),
                fan_in_fan_out=is_transposed(model),
            ),
        )
