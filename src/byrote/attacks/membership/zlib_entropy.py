"""The zlib attack."""

from __future__ import annotations

import zlib
from typing import ClassVar

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import register


@register("attack", "zlib")
class ZlibEntropy(MembershipAttack):
    """A text that the model predicts well, beyond being repetitive, was trained on.

    Score: -l(x) / b(x), with l the *mean* loss per target token in nats (not the sum, and not its
    exponential) and b the bytes of the same text, as UTF-8, after zlib at its default level. Of a
    prompt and a completion both are of the completion alone, where that alone is trained on.

    Carlini et al. 2021, "Extracting Training Data from Large Language Models", arXiv 2012.07805.
    """

    access: ClassVar[str] = "log-probs"

    def score(self, evidence: Evidence) -> float:
        """Minus the mean loss per token, in nats, per compressed byte."""
        return -evidence.target.loss / len(zlib.compress(evidence.text.encode("utf-8", "surrogatepass")))
