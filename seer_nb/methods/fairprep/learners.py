"""Learners: logistic regression and a decision tree, with default or tuned hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator

from seer_nb._utils.randomness import derive_seed
from seer_nb.methods.fairprep.errors import UnfitError
from seer_nb.methods.fairprep.tuning import FoldScore, Tuning, tune

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Config
    from seer_nb.methods.fairprep.table import Flags, Floats


MAX_CLASSES = 100
"""Largest number of distinct integers that ``MixedTree`` treats as classes."""


class Learner(Protocol):
    """Chooses hyperparameters, and fits a model with them."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def choose(self, x: Floats, y: Flags, weights: Floats, seed: int) -> tuple[Config, tuple[FoldScore, ...]]:
        """Choose hyperparameters on training examples.

        Args:
            x: Features, shape (n, d).
            y: Labels, shape (n,).
            weights: Weights of the examples, shape (n,).
            seed: Seed of the search.

        Returns:
            The hyperparameters, and the scores of the search.
        """
        ...

    def fit(self, x: Floats, y: Flags, weights: Floats, seed: int, config: Config) -> Any:
        """Fit a model on training examples.

        Args:
            x: Features, shape (n, d).
            y: Labels, shape (n,).
            weights: Weights of the examples, shape (n,).
            seed: Seed of the model.
            config: Hyperparameters.

        Returns:
            A model with scikit-learn's ``predict_proba`` and ``classes_``.
        """
        ...


@dataclass(frozen=True)
class SklearnLearner:
    """A scikit-learn classifier.

    Args:
        name: Name in tables.
        make: Returns an unfitted classifier with ``predict_proba``; called with hyperparameters and ``random_state=``.
        tuning: Search for the hyperparameters; None: ``defaults`` are used.
        defaults: Hyperparameters without tuning. Default: those of ``make``.

    Example:
        >>> forest = fairprep.SklearnLearner("forest", sklearn.ensemble.RandomForestClassifier)
        >>> fairprep.Experiment(*fairprep.data.german(), learners=["decision_tree", forest])
    """

    name: str
    make: Callable[..., Any]
    tuning: Tuning | None = None
    defaults: Config = field(default_factory=dict)

    def choose(self, x: Floats, y: Flags, weights: Floats, seed: int) -> tuple[Config, tuple[FoldScore, ...]]:
        if self.tuning is None:
            return dict(self.defaults), ()
        return tune(self.tuning, lambda x, y, w, config: self.fit(x, y, w, seed, config), x, y, weights, seed)

    def fit(self, x: Floats, y: Flags, weights: Floats, seed: int, config: Config) -> Any:
        """Fit one model; see ``Learner.fit``.

        Raises:
            UnfitError: All training examples have the same label.
        """
        if y.all() or not y.any():
            raise UnfitError(f"{self.name}: all training examples have the same label")
        return self.make(random_state=derive_seed(seed, 1) % 2**32, **config).fit(x, y, sample_weight=weights)


def logistic_regression(*, tuned: bool = False, tuning: Tuning | None = None) -> SklearnLearner:
    """Return logistic regression by stochastic gradient descent, as in github DataResponsibly/FairPrep.

    The model is scikit-learn's ``SGDClassifier`` with log loss.

    Args:
        tuned: Whether to search penalty and alpha: a grid of 12 configurations.
        tuning: Another search; overrides ``tuned``.

    Returns:
        The learner.

    Example:
        >>> tuning = fairprep.Tuning({"alpha": seer.loguniform(1e-5, 1e-1)}, configurations=9, policy="halving")
        >>> learner = fairprep.logistic_regression(tuning=tuning)
    """
    if tuning is None and tuned:
        tuning = Tuning({"penalty": ["l2", "l1", "elasticnet"], "alpha": [5e-5, 1e-4, 5e-3, 1e-3]}, configurations=12)
    return SklearnLearner("logistic_regression_tuned" if tuning else "logistic_regression", _make_sgd, tuning)


def decision_tree(*, tuned: bool = False, tuning: Tuning | None = None) -> SklearnLearner:
    """Return scikit-learn's decision tree.

    Args:
        tuned: Whether to search: 48 configurations, drawn from the 3,072 of github DataResponsibly/FairPrep.
        tuning: Another search; overrides ``tuned``.

    Returns:
        The learner.
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
    return SklearnLearner("decision_tree_tuned" if tuning else "decision_tree", _make_tree, tuning)


def _make_sgd(**hyperparameters: Any) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", **hyperparameters)


def _make_tree(**hyperparameters: Any) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(**hyperparameters)


class MixedTree(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A tree for imputation: a classifier where the values are a few distinct integers, otherwise a regressor.

    Args:
        min_samples_leaf: Fewest examples in a leaf.
    """

    def __init__(self, min_samples_leaf: int = 1) -> None:
        self.min_samples_leaf = min_samples_leaf

    def fit(self, x: Floats, y: Floats) -> Self:
        """Fit on features, shape (n, d), and values, shape (n,)."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        values = np.unique(y)
        are_classes = len(values) <= MAX_CLASSES and bool(np.all(values == np.rint(values)))
        kind = DecisionTreeClassifier if are_classes else DecisionTreeRegressor
        self.tree_: Any = kind(min_samples_leaf=self.min_samples_leaf, random_state=0).fit(x, y)
        return self

    def predict(self, x: Floats) -> Floats:
        """Return the predicted values, shape (n,)."""
        found: Floats = self.tree_.predict(x)
        return found


class IdentityScores(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """An estimator whose only feature is the score itself; fairlearn needs an estimator."""

    def fit(self, x: Floats, y: Any) -> Self:  # noqa: ARG002 - scikit-learn's signature
        return self

    def predict(self, x: Floats) -> Floats:
        return np.asarray(x, dtype=np.float64)[:, 0]

    def __sklearn_is_fitted__(self) -> bool:
        return True
