"""A scikit-learn regressor that computes nothing."""

from __future__ import annotations

import time
from typing import Any

from sklearn.base import BaseEstimator, RegressorMixin


class Waiting(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no annotations
    """Predicts the mean after a while in which it leaves the cores to others."""

    def __init__(self, seconds: float = 0.5, place: int = 0) -> None:
        self.seconds, self.place = seconds, place

    def fit(self, _: Any, y: Any) -> Waiting:
        """Wait."""
        time.sleep(self.seconds)
        self.mean_ = y.mean(axis=0)
        return self

    def predict(self, x: Any) -> Any:
        """The mean."""
        import numpy as np

        return np.tile(self.mean_, (len(x), 1))
