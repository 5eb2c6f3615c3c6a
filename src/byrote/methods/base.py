"""What a fine-tuning method is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.registry import Component
from byrote.types import ByroteError

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel


class NotForThisModel(ByroteError):
    """The method cannot work on this model; the message says why and what would."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A model made ready for training: exactly the method's parameters require gradients."""

    model: nn.Module
    notes: tuple[str, ...] = ()
    """What was done to the model that its owner should know of, as plain sentences."""


class Method(Component):
    """Which weights move.

    `attach` freezes the rest. It may draw from torch's global generator, which the caller seeds.
    """

    family: ClassVar[Literal["parameter", "prompt"]]
    """Hou 2025's taxonomy: does it change weights, or put trained vectors before the text?"""
    learning_rates: ClassVar[tuple[float, ...]]
    """The grid of `learning_rate: auto`, rising."""
    is_adapter: ClassVar[bool] = True
    """Whether the tuned weights are a small PEFT adapter beside the frozen base."""

    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] | None = None
    """This method's rate; None takes the study's."""

    @property
    def virtual_tokens(self) -> int:
        """Trained positions put before every text; they use up the model's context."""
        return 0

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> Attached:
        """The model with this method's parameters and nothing else trainable. Changes `model` in place.

        Raises NotForThisModel.
        """


class PromptMethod(Method):
    """Abstract: trained positions before every text, over a frozen model."""

    family: ClassVar[Literal["parameter", "prompt"]] = "prompt"

    num_virtual_tokens: Annotated[int, Field(ge=1)] = 10

    @property
    def virtual_tokens(self) -> int:
        """The trained positions."""
        return self.num_virtual_tokens


def attach_peft(model: PreTrainedModel, config: PeftConfig) -> Attached:
    """`model` with a PEFT adapter in float32 on it. PEFT's own refusals become NotForThisModel."""
    import warnings

    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5 by an old name; nothing that a user could act on.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            return Attached(get_peft_model(model, config))
    except (ValueError, NotImplementedError, AttributeError, KeyError, TypeError) as error:
        kind = model.config.model_type
        reason = " ".join(str(error).split())[:300]
        raise NotForThisModel(f"PEFT refuses {config.peft_type.value} on {kind} models: {reason}") from error
