"""A classifier of sentence pairs: how likely the second says the same as the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from byrote.models.load import ResolvedModel, load_pair_classifier
from byrote.types import Floats, StudyError

BATCH = 32
MOST_TOKENS = 256
"""Of one pair that are read, special ones counted."""
SAME = ("paraphrase", "equivalent", "duplicate")
"""Names of the class that says so; without such names it is class 1, as in MRPC and QQP."""


class PairClassifier:
    """The probability of a paraphrase, by a model for two classes such as one tuned on MRPC."""

    def __init__(self, resolved: ResolvedModel, device: str = "cpu") -> None:
        loaded = load_pair_classifier(resolved, device=device)
        self.model, self.tokenizer, self.device = loaded.model, loaded.tokenizer, device
        config: Any = loaded.model.config
        if config.num_labels != 2:
            raise StudyError(
                f"{resolved.reference} tells {config.num_labels} classes apart; a paraphrase classifier has two"
            )
        names = {int(number): str(name).lower() for number, name in config.id2label.items()}
        named = [at for at, name in names.items() if any(same in name and "not" not in name for same in SAME)]
        self.same = named[0] if len(named) == 1 else 1

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """(P,) probabilities."""
        import torch

        found: list[Floats] = []
        for start in range(0, len(pairs), BATCH):
            first, second = zip(*pairs[start : start + BATCH], strict=True)
            read = self.tokenizer(
                list(first), list(second), truncation=True, max_length=MOST_TOKENS, padding=True, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                found.append(self.model(**read).logits.double().softmax(1)[:, self.same].cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0)
