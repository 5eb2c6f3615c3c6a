"""Attacks that fit a classifier of scikit-learn to features, such as what a model says of each class of a record."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np

from byrote.attacks.base import Evidence
from byrote.attacks.fitted import Bools, FittedAttack, Predict
from byrote.types import Floats, Unscorable

LEAST = 1e-300  # a probability of 0 under a division


class ClassifiedAttack(FittedAttack):
    """Abstract: a classifier on features that are each standardised over the records that it is fitted on.

    A subclass says which features, and which classifier.
    """

    must_converge: ClassVar[bool] = True
    """False where the fit is meant to end at its limit of steps."""

    @abstractmethod
    def classifier(self, records: int, seed: int) -> Any:
        """The unfitted classifier of scikit-learn, for so many records."""

    def fit(self, features: Floats, is_member: Bools, seed: int) -> Predict:
        """The odds of membership by the fitted classifier. Raises Unscorable where it did not converge."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), self.classifier(len(features), seed))
        with warnings.catch_warnings():
            warnings.simplefilter("error" if self.must_converge else "ignore", ConvergenceWarning)
            try:
                model.fit(features, is_member)
            except ConvergenceWarning:
                raise Unscorable(f"{self.name} did not converge: raise max_iter") from None

        def odds(rows: Floats) -> Floats:
            # Of odds near 0 and near infinity the order is kept, of probabilities near 1 it would be rounded away.
            no, yes = model.predict_proba(rows).T
            return np.asarray(yes / np.maximum(no, LEAST))

        return odds


class LearnedAttack(ClassifiedAttack):
    """Abstract: a classifier on the log-probability of every class and the loss of the record's own label.

    These are the features of Ma et al. 2024 (2411.15831). A subclass says which classifier.
    """

    access: ClassVar[str] = "class probabilities, and other records known to be members or not"
    reads: ClassVar[Literal["tokens", "labels", "both"]] = "labels"

    def features(self, evidence: Evidence) -> Floats:
        """(K + 1,) log-probabilities of the K classes and the loss of the label, in nats."""
        classes = evidence.target.classes
        if classes is None:
            raise Unscorable("there are no class probabilities")
        return np.append(classes.astype(np.float64), evidence.target.loss)
