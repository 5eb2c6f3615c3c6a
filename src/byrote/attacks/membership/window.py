"""The window attack."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence, MembershipAttack
from byrote.registry import register
from byrote.types import NO_TARGET, Unscorable


@register("attack", "window")
class Window(MembershipAttack):
    """A text of which one passage is predicted very well was trained on, or that passage was.

    Score: the highest mean log p_t over `tokens` consecutive target tokens: minus the logarithm of the lowest
    perplexity of a window, which ranks texts alike. A shorter text is one window.

    Carlini et al. 2021, "Extracting Training Data from Large Language Models", arXiv 2012.07805.
    """

    access: ClassVar[str] = "log-probs"
    tokens: int = Field(50, ge=1, description="target tokens of a window")

    def score(self, evidence: Evidence) -> float:
        """Mean log-probability of the best window, in nats per token."""
        values = evidence.target.log_prob.astype(np.float64)
        if not len(values):
            raise Unscorable(NO_TARGET)
        windows = np.lib.stride_tricks.sliding_window_view(values, min(self.tokens, len(values)))
        return float(windows.mean(axis=1).max())
