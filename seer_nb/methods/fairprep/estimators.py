"""Estimators as scikit-learn wants them, in a file of their own, for their base class must be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator

if TYPE_CHECKING:
    from seer_nb.methods.fairprep.table import Floats

MOST = 100
"""Different whole numbers that are still taken for classes."""


class MixedTree(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A classifier where all values are few whole numbers, else a regressor.

    Args:
        min_samples_leaf: Fewest examples in a leaf.
    """

    def __init__(self, min_samples_leaf: int = 1) -> None:
        self.min_samples_leaf = min_samples_leaf

    def fit(self, x: Floats, y: Floats) -> Self:
        """Fit on n x d and n."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        values = np.unique(y)
        classes = len(values) <= MOST and bool(np.all(values == np.rint(values)))
        kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
        self.tree_: Any = kind(min_samples_leaf=self.min_samples_leaf, random_state=0).fit(x, y)
        return self

    def predict(self, x: Floats) -> Floats:
        """N values."""
        found: Floats = self.tree_.predict(x)
        return found


class Scores(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Takes its only feature for the score."""

    def fit(self, x: Floats, y: Any) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """There is nothing to learn."""
        return self

    def predict(self, x: Floats) -> Floats:
        """The scores."""
        return np.asarray(x, dtype=np.float64)[:, 0]

    def __sklearn_is_fitted__(self) -> bool:
        return True
