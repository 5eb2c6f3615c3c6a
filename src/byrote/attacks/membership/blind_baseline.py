"""The blind baseline: a control that reads the records and no model."""

from __future__ import annotations

import zlib
from collections import Counter
from hashlib import blake2b
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from byrote.attacks.base import Evidence
from byrote.attacks.fitted import Bools, FittedAttack, Predict
from byrote.registry import register
from byrote.types import Floats, normalise

MEASURES = 3


@register("attack", "blind-baseline")
class BlindBaseline(FittedAttack):
    """Where words alone tell members from nonmembers, the split is not random, and no attack on it means anything.

    Score: the rank, among the records of its fold, of the odds of membership by a logistic regression on the bag of
    words (hashed, tf-idf), the log length, the compression ratio under zlib and the share of digits. Cross-fitted; no
    model is asked. Its AUC must be 0.5 up to chance.

    Meeus et al. 2024, arXiv 2406.17975; Das, Zhang, Tramèr 2024, arXiv 2406.16201.
    """

    blind: ClassVar[bool] = True
    access: ClassVar[str] = "nothing but the records"
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "both"

    words: int = Field(2048, ge=16, le=2**16, description="columns that words are hashed into")
    C: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")

    @property
    def cost(self) -> str:
        """No pass."""
        return "no pass"

    def features(self, evidence: Evidence) -> Floats:
        """(3 + words,): log characters, compressed bytes per byte, share of digits, and how often each word stands."""
        text = evidence.text
        raw = text.encode("utf-8", "surrogatepass")
        row = np.zeros(MEASURES + self.words)
        row[0] = np.log1p(len(text))
        row[1] = len(zlib.compress(raw)) / max(len(raw), 1)
        row[2] = sum(map(str.isdigit, text)) / max(len(text), 1)
        for word, count in Counter(normalise(text).split()).items():
            row[MEASURES + self._column(word)] += count
        return row

    def fit(self, features: Floats, is_member: Bools, seed: int) -> Predict:
        """scikit-learn's logistic regression, with the weights of words learned from these rows alone."""
        from scipy.sparse import csr_matrix, hstack
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scale, weigh = StandardScaler(), TfidfTransformer(sublinear_tf=True)
        scale.fit(features[:, :MEASURES])
        weigh.fit(csr_matrix(features[:, MEASURES:]))

        def read(rows: Floats) -> object:
            words = weigh.transform(csr_matrix(rows[:, MEASURES:]))
            return hstack([csr_matrix(scale.transform(rows[:, :MEASURES])), words]).tocsr()

        model = LogisticRegression(C=self.C, max_iter=1000, class_weight="balanced", random_state=seed)
        model.fit(read(features), is_member)
        return lambda rows: np.asarray(model.decision_function(read(rows)), dtype=np.float64)

    def _column(self, word: str) -> int:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.words
