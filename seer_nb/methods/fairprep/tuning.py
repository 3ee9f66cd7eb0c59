"""Hyperparameters by cross-validation on training examples, searched by seer_nb's own samplers and policies.

A configuration is a trial, and a fold an epoch: after fold k it has reported the mean over the first k folds. The
search runs in the simulator, whose clock is virtual, so that it is the same on every machine; folds are fitted when
they are asked for.
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
FOLD_S = 1.0
PLENTY_S = 1e6
"""A virtual deadline and budget that a finite search never comes to."""


class Step(NamedTuple):
    """One fold of one configuration."""

    number: int
    """Of the configuration."""
    config: Config
    fold: int
    """From 1 on."""
    value: float
    """Mean of the area under the ROC curve over the folds so far."""


class Tuning:
    """How a learner's hyperparameters are found.

    Args:
        space: Name to a list of options, to ``seer.choice(...)``, ``seer.loguniform(...)`` and the like, or a constant.
        configurations: Most that are tried; of a finite space, all if there are no more.
        policy: Which of them go on to further folds: "grid", all, or "halving", "asha" and the other names of policies.
        folds: Of the cross-validation, stratified by label.
        sampler: An Optuna sampler that proposes them all before the first is tried; None: random, without repeats.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument.
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
            raise TypeError(f'policy={short_repr(policy)} is not a name: give one such as "grid" or "halving"')
        policies.by_name(policy)
        self.policy = policy
        ConfigSampler(self.space, sampler)
        self._sampler = sampler

    def __repr__(self) -> str:
        return (
            f"Tuning({self.space!r}, configurations={self.configurations}, policy={self.policy!r}, folds={self.folds})"
        )

    def draw(self, seed: int) -> list[Config]:
        """The configurations to try, in order."""
        from copy import deepcopy

        # A sampler has a state, and each search begins with the same.
        sampler = ConfigSampler(self.space, deepcopy(self._sampler), seed)
        drawn = (sampler.draw(number) for number in range(self.configurations))
        return [config for config in drawn if config is not None]


class Folds(CurveTable):
    """Cross-validation as a table of curves that is filled in when it is looked at."""

    def __init__(self, configs: list[Config], folds: int, measure: Callable[[Config, int], float]) -> None:
        super().__init__(configs, np.zeros((len(configs), folds)), [folds] * len(configs), "max", name="folds")
        self._measure = measure
        self._seen: dict[tuple[int, int], float] = {}

    def value(self, row: int, epoch: int) -> float | None:
        """Mean over the first folds; None where a fold could not be measured."""
        found = [self._fold(row, fold) for fold in range(epoch)]
        mean = sum(found) / len(found)
        return mean if math.isfinite(mean) else None

    def _fold(self, row: int, fold: int) -> float:
        if (row, fold) not in self._seen:
            self._seen[row, fold] = self._measure(self.configs[row], fold)
        return self._seen[row, fold]

    def steps(self) -> tuple[Step, ...]:
        """What was measured, by configuration and fold."""
        return tuple(
            Step(row, self.configs[row], fold + 1, self.value(row, fold + 1) or math.nan)
            for row, fold in sorted(self._seen)
        )


def tune(  # noqa: PLR0913, PLR0917 - a search, and what it is done on
    tuning: Tuning, fit: Callable[..., Any], x: Floats, y: Flags, weights: Floats, seed: int
) -> tuple[Config, tuple[Step, ...]]:
    """The configuration with the highest mean area under the ROC curve over all folds; of several, the first drawn.

    Args:
        tuning: The search.
        fit: Makes a model of (x, y, weights, config).
        x: n x d training examples.
        y: n labels.
        weights: n; they count in fitting, not in the score, as with scikit-learn's GridSearchCV.
        seed: Of the draw.

    Raises:
        UnfitError: A label has fewer examples than there are folds, or no configuration could be measured.
    """
    from seer_nb import simulate

    table = Folds(tuning.draw(seed), tuning.folds, _measure(tuning, fit, x, y, weights))
    if len(table) > 1:
        simulate.run(
            table,
            tuning.policy,
            deadline=PLENTY_S,
            budget=PLENTY_S,
            epoch_seconds=FOLD_S,
            max_workers=WORKERS,
        )
    else:
        table.value(0, tuning.folds)
    steps = table.steps()
    best = max((s for s in steps if s.fold == tuning.folds and math.isfinite(s.value)), key=_rank, default=None)
    if best is None:
        raise UnfitError("no configuration could be measured on all folds")
    return best.config, steps


def _rank(step: Step) -> tuple[float, int]:
    return step.value, -step.number


def _measure(
    tuning: Tuning, fit: Callable[..., Any], x: Floats, y: Flags, weights: Floats
) -> Callable[[Config, int], float]:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    if min(y.sum(), (~y).sum()) < tuning.folds:
        raise UnfitError(f"a label has fewer than {tuning.folds} training examples, one for each fold")
    folds: list[tuple[Rows, Rows]] = list(StratifiedKFold(tuning.folds).split(x, y))

    def measure(config: Config, fold: int) -> float:
        trained, held = folds[fold]
        model = fit(x[trained], y[trained], weights[trained], config)
        return float(roc_auc_score(y[held], score(model, x[held])))

    return measure


def score(model: Any, x: Floats) -> Floats:
    """N probabilities of the favourable label."""
    (place,) = np.flatnonzero(model.classes_)
    found: Floats = np.asarray(model.predict_proba(x), dtype=np.float64)[:, place]
    return found
