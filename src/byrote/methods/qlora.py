"""QLoRA."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from byrote.methods.base import Attached, NotForThisModel
from byrote.methods.blocks import blocks_of
from byrote.methods.low_rank import LoRALike
from byrote.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register("method", "qlora")
class QLoRA(LoRALike):
    """LoRA over a base whose blocks are held in 4 bits; needs a GPU and the package bitsandbytes.

    Dettmers et al. 2023 (2305.14314). Embeddings, norms and the head keep their precision. The base that the adapter
    belongs to is the quantised one, so comparisons with the untuned model include what quantisation changed.
    """

    starts_as_base: ClassVar[bool] = False
    learning_rates: ClassVar[tuple[float, ...]] = (1e-4, 5e-4, 2e-3, 5e-3)

    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True

    def attach(self, model: PreTrainedModel) -> Attached:
        """The blocks' matrices quantised, A and B trainable."""
        if model.device.type != "cuda":
            raise NotForThisModel("qlora: 4-bit matrices need a GPU; lora does the same on a processor, unquantised")
        if find_spec("bitsandbytes") is None:
            raise NotForThisModel("qlora: the package bitsandbytes is not installed: pip install bitsandbytes")
        self._quantise(model)
        attached = super().attach(model)
        note = f"The matrices of the blocks were quantised to 4 bits ({self.bnb_4bit_quant_type})."
        return Attached(attached.model, (*attached.notes, note))

    def _quantise(self, model: PreTrainedModel) -> None:
        """Every nn.Linear of the blocks becomes a 4-bit one, in place."""
        import importlib

        import torch

        bitsandbytes: Any = importlib.import_module("bitsandbytes")
        for block in blocks_of(model):
            for name, layer in (block.attention | block.feed_forward).items():
                if not isinstance(layer, torch.nn.Linear):
                    raise NotForThisModel(f"qlora: {type(layer).__name__} layers cannot be quantised")
                narrow = bitsandbytes.nn.Linear4bit(
                    layer.in_features,
                    layer.out_features,
                    bias=layer.bias is not None,
                    compute_dtype=layer.weight.dtype,
                    compress_statistics=self.bnb_4bit_use_double_quant,
                    quant_type=self.bnb_4bit_quant_type,
                )
                narrow.load_state_dict({key: value.cpu() for key, value in layer.state_dict().items()})
                narrow.requires_grad_(False)
                parent, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(parent), leaf, narrow.to(model.device))
        model.is_loaded_in_4bit = True  # type: ignore[assignment]  # by which PEFT knows
