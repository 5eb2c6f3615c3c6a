"""Tuning of the normalisation layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from byrote.methods.base import Attached, Method, attach_peft, task_type
from byrote.methods.blocks import norms_of
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "norm-tuning")
class NormTuning(Method):
    """Only the normalisation layers' scales (and shifts) move, everywhere in the model.

    Zhao et al. 2023 (2312.11420). Qwen 3's norms of queries and keys are among them.
    """

    family: ClassVar[Literal["parameter", "prompt"]] = "parameter"
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "selective"
    learning_rates: ClassVar[tuple[float, ...]] = (5e-4, 2e-3, 1e-2, 3e-2)

    def attach(self, model: PreTrainedModel) -> Attached:
        """Copies of all norms trainable."""
        import warnings

        from peft import LNTuningConfig

        config = LNTuningConfig(task_type=task_type(model), target_modules=list(norms_of(model)))
        with warnings.catch_warnings():
            # PEFT looks for in_features on every layer that it wraps; a norm has none, and needs none.
            warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
            return attach_peft(model, config)
