"""What a fine-tuning method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from byrote.registry import Component
from byrote.types import ByroteError

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PromptLearningConfig, TaskType
    from torch import nn
    from transformers import PreTrainedModel


class NotForThisModel(ByroteError):
    """The method cannot work on this model; the message says why and what would."""


class Regimen(ABC):
    """What a method does in training besides following the gradient of the loss."""

    @abstractmethod
    def begin(self, steps: int) -> None:
        """Called once, before the first step or a resumed one, with the run's steps in all. Raises ByroteError."""

    @abstractmethod
    def penalty(self) -> torch.Tensor:
        """() a function of the weights alone, in nats per token, whose gradient is added to every batch's."""

    @abstractmethod
    def after_step(self, step: int) -> None:
        """Called after optimiser step `step` (from 1), while the gradients are still there."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """What going on after a kill needs besides weights."""

    @abstractmethod
    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Put back what `state` returned."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A model made ready for training: exactly the method's parameters require gradients."""

    model: nn.Module
    notes: tuple[str, ...] = ()
    """What was done to the model that its owner should know of, as plain sentences."""
    regimen: Regimen | None = None
    """None for methods that only follow the gradient."""


class Method(Component):
    """Which weights move.

    `attach` takes a causal language model, or a sequence-classification model (of a decoder or an encoder), whose
    head it trains too. It freezes the rest, and may draw from torch's global generator, which the caller seeds.
    """

    family: ClassVar[Literal["parameter", "prompt"]]
    """Hou 2025's taxonomy: does it change weights, or put something before the text?"""
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]]
    """Some of the weights, a change of weights that is made of fewer numbers, new layers, or new positions."""
    learning_rates: ClassVar[tuple[float, ...]]
    """The grid of `learning_rate: auto`, rising; empty for a method that trains nothing."""
    tasks: ClassVar[tuple[str, ...]] = ("lm", "completion", "classification")
    """What it can be trained for."""
    is_adapter: ClassVar[bool] = True
    """Whether the tuned weights are a small PEFT adapter beside the frozen base."""
    starts_as_base: ClassVar[bool] = True
    """Whether the outputs are the untuned model's until the first step."""
    not_private: ClassVar[str] = ""
    """Why it cannot be trained with differential privacy; empty where it can."""

    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] | None = None
    """This method's rate; None takes the study's."""
    private_learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] | None = None
    """Its rate with differential privacy, which often wants another; None takes the one without."""
    private: bool = True
    """False leaves it out of the study's privacy levels: it is trained without privacy only."""

    def settings(self) -> str:
        """What differs from the defaults and changes a run: `private` only says which runs there are."""
        return Component.settings(self.model_copy(update={"private": True}))

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
    subfamily: ClassVar[Literal["selective", "reparametrised", "additive", "prompt"]] = "prompt"
    starts_as_base: ClassVar[bool] = False

    num_virtual_tokens: Annotated[int, Field(ge=1)] = 10

    @property
    def virtual_tokens(self) -> int:
        """The trained positions."""
        return self.num_virtual_tokens

    def attach_prompt(self, model: PreTrainedModel, config: PromptLearningConfig) -> Attached:
        """`attach_peft`, with the model's shape spelt out: PEFT looks for names that not every family has."""
        shape = model.config.get_text_config()
        config.num_layers, config.num_attention_heads = shape.num_hidden_layers, shape.num_attention_heads
        embedding = model.get_input_embeddings().get_parameter("weight")  # narrower than the model in some encoders
        in_attention = config.peft_type == "PREFIX_TUNING"
        config.token_dim = shape.hidden_size if in_attention else embedding.shape[1]
        return attach_peft(model, config)


def classifies(model: PreTrainedModel) -> bool:
    """Whether it is a sequence-classification model, and not a language model."""
    return type(model).__name__.endswith("ForSequenceClassification")


def task_type(model: PreTrainedModel) -> TaskType:
    """PEFT's name of what the model does."""
    from peft import TaskType

    return TaskType.SEQ_CLS if classifies(model) else TaskType.CAUSAL_LM


def classification_head(model: PreTrainedModel) -> list[nn.Module]:
    """The layers between the pooled text and the class logits, which start at random; none in a language model.

    PEFT trains the same ones beside an adapter: decoders call theirs `score`, encoders `classifier`.
    """
    if not classifies(model):
        return []
    return [child for name, child in model.named_children() if name.endswith(("score", "classifier"))]


def train_only(model: PreTrainedModel, parameters: list[nn.Parameter]) -> Attached:
    """`model` with these parameters trainable, and its classification head where it has one."""
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    for layer in classification_head(model):
        layer.requires_grad_(True)
    return Attached(model)


def attach_peft(model: PreTrainedModel, config: PeftConfig) -> Attached:
    """`model` with a PEFT adapter in float32 on it, tried on two tokens. What fails becomes NotForThisModel."""
    import warnings

    import torch
    from peft import get_peft_model

    kind, what = model.config.model_type, config.peft_type.value
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name; nothing that a user could act on.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        try:
            attached = get_peft_model(model, config)
        except (ValueError, NotImplementedError, AttributeError, KeyError, TypeError) as error:
            raise NotForThisModel(f"PEFT refuses {what} on {kind} models: {_said(error)}") from error
        try:  # prefixes, for one, meet a model that cannot take them only here
            with torch.no_grad():
                ids = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
                attached.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
        except torch.OutOfMemoryError:
            raise
        except (
            ValueError,
            NotImplementedError,
            AttributeError,
            KeyError,
            TypeError,
            RuntimeError,
            IndexError,
        ) as error:
            raise NotForThisModel(f"{what} does not run on {kind} models: {_said(error)}") from error
    return Attached(attached)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
