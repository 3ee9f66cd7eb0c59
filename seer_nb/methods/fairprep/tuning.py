"""Hyperparameter search by cross-validation on training examples, with seer_nb's samplers and policies.

A configuration is a trial, and a fold is an epoch: after fold k a trial reports its mean over the first k folds. The
search runs in the simulator under a virtual clock, so its result does not depend on the machine. A fold is fitted only
when the search reads it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.methods.fairprep.errors import UnfitError
from seer_nb.search_space import ConfigSampler, Space
from seer_nb.search_space.domains import choice
from seer_nb.simulate.curve_table import CurveTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seer_nb.core import Config
    from seer_nb.methods.fairprep.table import Flags, Floats, Rows


WORKERS = 1
"""Simulated workers."""
FOLD_S = 1.0
"""Simulated seconds per fold."""
UNLIMITED = 1e6
"""Simulated deadline in seconds, and budget in dollars, that a search never reaches."""


class FoldScore(NamedTuple):
    """Score of one configuration after one fold."""

    number: int
    """Number of the configuration."""
    config: Config
    """Hyperparameters."""
    fold: int
    """Number of the fold, from 1."""
    value: float
    """Mean area under the ROC curve over the folds so far."""


class Tuning:
    """Settings of a learner's hyperparameter search.

    Args:
        space: Name to a list of options, to ``seer.choice(...)``, ``seer.loguniform(...)`` and the like, or to a
            constant.
        configurations: Largest number of configurations to try; a smaller finite space is tried completely.
        policy: Name of the policy that decides which configurations continue: "grid" evaluates all folds of all
            configurations; "halving", "asha" and others stop some earlier.
        folds: Folds of the cross-validation, stratified by label; at least 2.
        sampler: Optuna sampler; it proposes all configurations before the first is tried. Default: random search
            without repeats.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the policy is unknown.

    Example:
        >>> tuning = fairprep.Tuning({"alpha": seer.loguniform(1e-5, 1e-1)}, configurations=9, policy="halving")
        >>> learner = fairprep.logistic_regression(tuning=tuning)
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        configurations: int = 32,
        policy: str = "grid",
        folds: int = 5,
        sampler: Any = None,
    ) -> None:
        from seer_nb import policies

        self.space = Space({name: choice(part) if isinstance(part, list) else part for name, part in space.items()})
        self.configurations = check_integer(configurations, "configurations")
        self.folds = check_integer(folds, "folds", 2)
        if not isinstance(policy, str):
            raise TypeError(f'policy={short_repr(policy)}: not a name; expected one such as "grid" or "halving"')
        policies.by_name(policy)
        self.policy = policy
        ConfigSampler(self.space, sampler)
        self._sampler = sampler

    def __repr__(self) -> str:
        return (
            f"Tuning({self.space!r}, configurations={self.configurations}, policy={self.policy!r}, folds={self.folds})"
        )

    def draw(self, seed: int) -> list[Config]:
        """Return the configurations to try, in order."""
        from copy import deepcopy

        # Copy the sampler, because it has a state and every search must start from the same one.
        sampler = ConfigSampler(self.space, deepcopy(self._sampler), seed)
        drawn = (sampler.draw(number) for number in range(self.configurations))
        return [config for config in drawn if config is not None]


class LazyFoldTable(CurveTable):
    """Cross-validation as a table of curves whose values are computed when they are read.

    Args:
        configs: Configurations, one per row.
        folds: Number of folds.
        measure: Returns the score of a configuration on a fold, numbered from 0.
    """

    def __init__(self, configs: list[Config], folds: int, measure: Callable[[Config, int], float]) -> None:
        super().__init__(configs, np.zeros((len(configs), folds)), [folds] * len(configs), "max", name="folds")
        self._measure = measure
        self._scores: dict[tuple[int, int], float] = {}

    def value(self, row: int, epoch: int) -> float | None:
        """Return the mean over the first ``epoch`` folds; None: it is not finite."""
        found = [self._score(row, fold) for fold in range(epoch)]
        mean = sum(found) / len(found)
        return mean if math.isfinite(mean) else None

    def _score(self, row: int, fold: int) -> float:
        if (row, fold) not in self._scores:
            self._scores[row, fold] = self._measure(self.configs[row], fold)
        return self._scores[row, fold]

    def fold_scores(self) -> tuple[FoldScore, ...]:
        """Return the scores that were computed, by configuration and fold."""
        return tuple(
            FoldScore(row, self.configs[row], fold + 1, self.value(row, fold + 1) or math.nan)
            for row, fold in sorted(self._scores)
        )


def tune(  # noqa: PLR0913, PLR0917 - a search, and the examples that it needs
    tuning: Tuning, fit: Callable[..., Any], x: Floats, y: Flags, weights: Floats, seed: int
) -> tuple[Config, tuple[FoldScore, ...]]:
    """Search for the configuration with the highest mean area under the ROC curve over all folds.

    Args:
        tuning: Settings of the search.
        fit: Returns a model for (x, y, weights, config).
        x: Features of the training examples, shape (n, d).
        y: Labels, shape (n,).
        weights: Weights, shape (n,); used for fitting, not for the score, as in scikit-learn's GridSearchCV.
        seed: Seed of the configurations.

    Returns:
        The best configuration, on a tie the first one drawn, and all scores.

    Raises:
        UnfitError: A label has fewer examples than there are folds, or no configuration has a score on all folds.
    """
    from seer_nb import simulate

    table = LazyFoldTable(tuning.draw(seed), tuning.folds, _make_measure(tuning, fit, x, y, weights))
    if len(table) > 1:
        simulate.run(
            table,
            tuning.policy,
            deadline=UNLIMITED,
            budget=UNLIMITED,
            epoch_seconds=FOLD_S,
            max_workers=WORKERS,
        )
    else:
        table.value(0, tuning.folds)
    scores = table.fold_scores()
    best = max((s for s in scores if s.fold == tuning.folds and math.isfinite(s.value)), key=_rank, default=None)
    if best is None:
        raise UnfitError("no configuration has a finite score on all folds")
    return best.config, scores


def predict_scores(model: Any, x: Floats) -> Floats:
    """Return a model's probabilities of the favourable label, shape (n,)."""
    (column,) = np.flatnonzero(model.classes_)
    found: Floats = np.asarray(model.predict_proba(x), dtype=np.float64)[:, column]
    return found


def _rank(score: FoldScore) -> tuple[float, int]:
    return score.value, -score.number


def _make_measure(
    tuning: Tuning, fit: Callable[..., Any], x: Floats, y: Flags, weights: Floats
) -> Callable[[Config, int], float]:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    if min(y.sum(), (~y).sum()) < tuning.folds:
        raise UnfitError(f"a label has fewer than {tuning.folds} training examples, one for each fold")
    folds: list[tuple[Rows, Rows]] = list(StratifiedKFold(tuning.folds).split(x, y))

    def measure(config: Config, fold: int) -> float:
        train, held_out = folds[fold]
        model = fit(x[train], y[train], weights[train], config)
        return float(roc_auc_score(y[held_out], predict_scores(model, x[held_out])))

    return measure
