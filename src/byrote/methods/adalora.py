"""AdaLoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from byrote.methods.base import Attached, Regimen, attach_peft, task_type
from byrote.methods.blocks import is_transposed
from byrote.methods.low_rank import Reparametrised
from byrote.registry import register
from byrote.types import ByroteError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ADAPTER = "default"


@register("method", "adalora")
class AdaLoRA(Reparametrised):
    """Low-rank updates P Λ Q whose ranks shrink during training where they matter least.

    Zhang et al. 2023 (2303.10512). Every matrix starts at rank `init_r`; from step `tinit` on, singular values of
    low importance (a running mean of |weight x gradient|) are set to zero every `deltaT` steps, until the mean rank
    is `target_r`, `tfinal` steps before the end. None: a tenth and three tenths of the steps. `orth_reg_weight`
    keeps P and Q near orthogonal; its term is part of the training gradient, not of any reported loss.
    """

    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 5e-3, 2e-2, 5e-2)
    not_private: ClassVar[str] = (
        "adalora chooses its ranks by gradients as it trains, which byrote has not tested under privacy; take lora"
    )

    init_r: Annotated[int, Field(ge=2)] = 12
    target_r: Annotated[int, Field(ge=1)] = 8
    lora_alpha: Annotated[float, Field(gt=0)] = 32
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tinit: Annotated[int, Field(ge=0)] | None = None
    tfinal: Annotated[int, Field(ge=0)] | None = None
    deltaT: Annotated[int, Field(ge=1)] = 1
    orth_reg_weight: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _ranks_can_shrink(self) -> Self:
        if self.target_r >= self.init_r:
            raise ValueError("target_r must be below init_r")
        return self

    def attach(self, model: PreTrainedModel) -> Attached:
        """P, Λ and Q trainable."""
        from peft import AdaLoraConfig

        attached = attach_peft(
            model,
            AdaLoraConfig(
                task_type=task_type(model),
                init_r=self.init_r,
                target_r=self.target_r,
                lora_alpha=self.lora_alpha,
                lora_dropout=self.lora_dropout,
                deltaT=self.deltaT,
                orth_reg_weight=self.orth_reg_weight,
                total_step=1,  # known only when training begins
                target_modules=self.targets(model),
                fan_in_fan_out=is_transposed(model),
            ),
        )
        return Attached(attached.model, attached.notes, _Ranks(attached.model, self.tinit, self.tfinal))


class _Ranks(Regimen):
    """The rank allocation and the orthogonality term, which PEFT leaves to the training loop.

    PEFT's own `update_and_allocate` would also write the pattern of ranks into the adapter's configuration; with it
    the saved adapter loads with a warning. Without it the dead ranks are saved as zeros, which is the same function.
    """

    def __init__(self, model: Any, tinit: int | None, tfinal: int | None) -> None:
        self.model, self.config = model, model.peft_config[ADAPTER]
        self.allocator = model.base_model.rankallocator
        self.tinit, self.tfinal = tinit, tfinal
        self.alive: dict[str, list[bool]] = {}
        """By singular values' name, once the ranks are final."""

    def begin(self, steps: int) -> None:
        """Fix the schedule. Raises ByroteError where it leaves no step to shrink ranks in."""
        config = self.config
        config.total_step = steps
        config.tinit = steps // 10 if self.tinit is None else self.tinit
        config.tfinal = 3 * steps // 10 if self.tfinal is None else self.tfinal
        if config.tinit + config.tfinal >= steps:
            raise ByroteError(
                f"adalora: tinit ({config.tinit}) and tfinal ({config.tfinal}) leave none of the run's {steps} steps "
                "to reduce ranks in: lower them, or train longer"
            )

    def penalty(self) -> torch.Tensor:
        """() orth_reg_weight times the mean of |P'P - I| and |QQ' - I| (Frobenius)."""
        import torch

        distances = []
        for name, parameter in self.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                square = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
                identity = torch.eye(len(square), dtype=square.dtype, device=square.device)
                distances.append(torch.linalg.matrix_norm(square - identity))
        total: torch.Tensor = self.config.orth_reg_weight * torch.stack(distances).mean()
        return total

    def after_step(self, step: int) -> None:
        """Importance from this step's gradients, then the ranks that the schedule leaves."""
        last = self.config.total_step - self.config.tfinal
        if step > last:
            self.allocator.mask_using_rank_pattern(self.model, self.alive)
            return
        _, alive = self.allocator.update_and_allocate(self.model, step, force_mask=step == last)
        if step == last:
            self.alive = alive

    def state(self) -> dict[str, torch.Tensor]:
        """The running importance, and which singular values live."""
        import torch

        tensors = {f"importance/{name}": value for name, value in self.allocator.exp_avg_ipt.items()}
        tensors |= {f"uncertainty/{name}": value for name, value in self.allocator.exp_avg_unc.items()}
        return tensors | {f"alive/{name}": torch.tensor(values) for name, values in self.alive.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """As they were."""
        import torch

        kinds: dict[str, dict[str, torch.Tensor]] = {"importance": {}, "uncertainty": {}, "alive": {}}
        for key, value in state.items():
            kind, _, name = key.partition("/")
            kinds[kind][name] = value
        device = next(self.model.parameters()).device
        allocator = self.allocator
        allocator.exp_avg_ipt = {name: value.to(device) for name, value in kinds["importance"].items()}
        allocator.exp_avg_unc = {name: value.to(device) for name, value in kinds["uncertainty"].items()}
        allocator.ipt = {name: torch.zeros_like(value) for name, value in allocator.exp_avg_ipt.items()}
        self.alive = {name: value.tolist() for name, value in kinds["alive"].items()}
