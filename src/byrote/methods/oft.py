"""OFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byrote.methods.base import Attached, attach_peft, task_type
from byrote.methods.low_rank import Reparametrised
from byrote.registry import register

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@register("method", "oft")
class OFT(Reparametrised):
    """Weight matrices turned by trained orthogonal blocks, which keep the angles between neurons.

    Qiu et al. 2023 (2306.07280). Blocks of `oft_block_size` inputs; the inverse in Cayley's formula is cut after
    `num_cayley_neumann_terms` terms, so that rotations are orthogonal only to first order in large steps
    (`use_cayley_neumann: false` inverts exactly). Not for GPT-2's Conv1D.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (5e-5, 2e-4, 1e-3, 5e-3)

    oft_block_size: Annotated[int, Field(ge=2)] = 32
    module_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    use_cayley_neumann: bool = True
    num_cayley_neumann_terms: Annotated[int, Field(ge=1)] = 5

    def attach(self, model: PreTrainedModel) -> Attached:
        """The blocks' skew-symmetric generators trainable."""
        import warnings

        from peft import OFTConfig

        config = OFTConfig(
            task_type=task_type(model),
            oft_block_size=self.oft_block_size,
            module_dropout=self.module_dropout,
            use_cayley_neumann=self.use_cayley_neumann,
            num_cayley_neumann_terms=self.num_cayley_neumann_terms,
            target_modules=self.targets(model),
        )
        with warnings.catch_warnings():
            # Said below, where the report shows it.
            warnings.filterwarnings("ignore", "Invalid `oft_block_size`", UserWarning)
            attached = attach_peft(model, config)
        return Attached(attached.model, (*attached.notes, *self._adjusted(attached.model)))

    def _adjusted(self, model: nn.Module) -> list[str]:
        """PEFT takes the nearest size that divides a matrix' inputs, where the one that was asked for does not."""
        from peft.tuners.oft.layer import OFTRotationModule

        sizes = {module.block_size for module in model.modules() if isinstance(module, OFTRotationModule)}
        other = ", ".join(str(size) for size in sorted(sizes - {self.oft_block_size}))
        asked = f"oft: oft_block_size {self.oft_block_size} does not divide the inputs of every matrix"
        return [f"{asked}; there PEFT took {other}."] if other else []
