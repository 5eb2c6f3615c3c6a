"""What is known of our own methods on `builtin:tiny` without loading it: `facts.json`, by tools/method_table.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

MODEL = "builtin:tiny"


@dataclass(frozen=True, slots=True)
class Facts:
    """One method with its default settings on `builtin:tiny`."""

    trainable: int | None = None
    """Trained parameters; None where the method is not for this model, or nobody counted."""
    share: float | None = None
    """Of the untuned model's parameters; above 1 is possible."""
    engine: str | None = None
    """The per-example gradient engine that `auto` takes under privacy; None where private training is refused."""
    reason: str = ""
    """Why something is None."""

    def share_in_words(self) -> str:
        """'100%', '0.595%', or '-'."""
        return "-" if self.share is None else f"{100 * self.share:.3g}%"


@cache
def _known() -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("facts.json").read_text(encoding="utf-8"))
    return facts


def facts_of(name: str) -> Facts:
    """What is known; nothing for methods of other packages."""
    return Facts(**_known().get(name, {"reason": "not measured"}))
