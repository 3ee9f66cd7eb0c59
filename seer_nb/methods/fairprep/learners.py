"""Learners: logistic regression and a decision tree, as they are or tuned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator

from seer_nb._utils.randomness import derive_seed
from seer_nb.methods.fairprep.errors import UnfitError
from seer_nb.methods.fairprep.tuning import Step, Tuning, tune

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Config
    from seer_nb.methods.fairprep.table import Flags, Floats


class Learner(Protocol):
    """Chooses hyperparameters, and fits a model with them."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    def choose(self, x: Floats, y: Flags, weights: Floats, seed: int) -> tuple[Config, tuple[Step, ...]]:
        """Hyperparameters, chosen on training examples only, and the steps of the search."""
        ...

    def fit(self, x: Floats, y: Flags, weights: Floats, seed: int, config: Config) -> Any:
        """A model with ``predict_proba`` and ``classes_``, as scikit-learn's, fitted on n x d training examples."""
        ...


@dataclass(frozen=True)
class SklearnLearner:
    """A classifier of scikit-learn.

    Args:
        name: In tables.
        make: Makes an unfitted classifier with ``predict_proba`` from hyperparameters and ``random_state=``.
        tuning: How its hyperparameters are found; None: those that ``make`` has by default.
    """

    name: str
    make: Callable[..., Any]
    tuning: Tuning | None = None
    defaults: Config = field(default_factory=dict)
    """Hyperparameters where there is no tuning."""

    def choose(self, x: Floats, y: Flags, weights: Floats, seed: int) -> tuple[Config, tuple[Step, ...]]:
        """Tune, or take the defaults."""
        if self.tuning is None:
            return dict(self.defaults), ()
        return tune(self.tuning, lambda x, y, w, config: self.fit(x, y, w, seed, config), x, y, weights, seed)

    def fit(self, x: Floats, y: Flags, weights: Floats, seed: int, config: Config) -> Any:
        """Fit one model."""
        if y.all() or not y.any():
            raise UnfitError(f"{self.name}: all training examples have the same label")
        return self.make(random_state=derive_seed(seed, 1) % 2**32, **config).fit(x, y, sample_weight=weights)


def _sgd(**hyperparameters: Any) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", **hyperparameters)


def _tree(**hyperparameters: Any) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(**hyperparameters)


def logistic_regression(*, tuned: bool = False, tuning: Tuning | None = None) -> SklearnLearner:
    """Logistic regression by stochastic gradient descent (scikit-learn's SGDClassifier), as the authors have it.

    Args:
        tuned: Whether penalty and alpha are searched: 12 configurations, all of them.
        tuning: Another search.
    """
    if tuning is None and tuned:
        tuning = Tuning({"penalty": ["l2", "l1", "elasticnet"], "alpha": [5e-5, 1e-4, 5e-3, 1e-3]}, configurations=12)
    return SklearnLearner("logistic_regression_tuned" if tuning else "logistic_regression", _sgd, tuning)


def decision_tree(*, tuned: bool = False, tuning: Tuning | None = None) -> SklearnLearner:
    """A decision tree of scikit-learn.

    Args:
        tuned: Whether it is searched: 48 configurations, drawn from the 3,072 of the method's authors.
        tuning: Another search.
    """
    if tuning is None and tuned:
        from seer_nb.search_space.domains import checked_integer

        tuning = Tuning(
            {
                "min_samples_split": checked_integer("randint", 20, 490, step=10),
                "max_depth": checked_integer("randint", 15, 29, step=2),
                "min_samples_leaf": [3, 4, 5, 10],
                "criterion": ["gini", "entropy"],
            },
            configurations=48,
        )
    return SklearnLearner("decision_tree_tuned" if tuning else "decision_tree", _tree, tuning)


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
