"""byrote's own small encoder, trained on the older service documentation only (see docs/models.md)."""

from __future__ import annotations

from typing import ClassVar

from byrote.models.base import ShippedModel
from byrote.registry import register


@register("model", "builtin:tiny-encoder")
class TinyEncoder(ShippedModel):
    """BERT architecture, 1.0 M parameters, shipped with byrote: for classification, which it learns in seconds.

    Apache-2.0. 2 layers of width 128, context of 256 tokens, its own byte-level BPE of 4,096 tokens. Trained by
    tools/build_encoder.py as a masked language model on the documentation inside botocore 1.35.54 and on nothing else,
    so the paragraphs of builtin:aws-services, all newer, are non-members by construction.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 991_488
