"""Equalised odds after learning, by a randomised threshold a group, or with calibrated scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seer_nb.methods.fairprep.errors import need_fairlearn
from seer_nb.methods.fairprep.postprocessors import THRESHOLD, need_both
from seer_nb.runner.seeding import derive

if TYPE_CHECKING:
    from seer_nb.methods.fairprep.postprocessors import FittedPostProcessor
    from seer_nb.methods.fairprep.table import Flags, Floats

_RANDOM = 7
"""The random stream of predictions."""


@dataclass(frozen=True)
class EqualizedOdds:
    """Randomised thresholds that give both groups the same error rates (Hardt et al. 2016), by fairlearn.

    Args:
        objective: What is best among such thresholds; of fairlearn's ThresholdOptimizer.
    """

    objective: str = "balanced_accuracy_score"
    name: str = "equalized_odds"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:
        """Fit fairlearn's ThresholdOptimizer to the scores."""
        need_fairlearn()
        from fairlearn.postprocessing import ThresholdOptimizer

        from seer_nb.methods.fairprep.estimators import Scores

        need_both(privileged, "group", self.name)
        for group in (False, True):
            need_both(y[privileged == group], f"label in a group ({'' if group else 'un'}privileged)", self.name)
        optimizer = ThresholdOptimizer(
            estimator=Scores(),
            constraints="equalized_odds",
            objective=self.objective,
            prefit=True,
            predict_method="predict",
        )
        optimizer.fit(scores.reshape(-1, 1), y.astype(int), sensitive_features=privileged.astype(int))
        return Thresholds(optimizer, derive(seed, _RANDOM) % 2**32)


@dataclass(frozen=True)
class Thresholds:
    """A fitted ThresholdOptimizer."""

    optimizer: Any
    seed: int

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        """N labels, drawn with the fitted probabilities."""
        found: Flags = np.random.default_rng(self.seed).random(len(scores)) < self.probability(scores, privileged)
        return found

    def probability(self, scores: Floats, privileged: Flags) -> Floats:
        """N probabilities of the favourable label."""
        given = {"sensitive_features": privileged.astype(int)}
        found: Floats = self.optimizer._pmf_predict(scores.reshape(-1, 1), **given)[:, 1]  # noqa: SLF001 - documented there
        return found


@dataclass(frozen=True)
class CalibratedEqualizedOdds:
    """Some of the group that fares better get the base rate for a score, so that both groups' costs are equal.

    Pleiss, Raghavan, Wu, Kleinberg and Weinberger, "On Fairness and Calibration" (NeurIPS 2017), section 4.1: the
    cost of group t is a mix of its generalised false positive rate, the mean score of those with the other label, and
    false negative rate, the mean of 1 - score of those with the favourable one. With cost g of the better group, h of
    the other, and g' of the trivial scores that all equal the base rate, a share (h - g) / (g' - g) gets the latter.

    Args:
        cost: "fnr" or "fpr" alone, or "weighted": both by how often each can occur.
    """

    cost: Literal["fnr", "fpr", "weighted"] = "weighted"
    name: str = "calibrated_equalized_odds"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:
        """Compute both groups' costs on validation examples."""
        need_both(privileged, "group", self.name)
        base, costs, trivial = {}, {}, {}
        for group in (False, True):
            rows = privileged == group
            need_both(y[rows], f"label in a group ({'' if group else 'un'}privileged)", self.name)
            base[group] = float(y[rows].mean())
            costs[group] = self.cost_of(y[rows], scores[rows])
            trivial[group] = self.cost_of(y[rows], np.full(int(rows.sum()), base[group]))
        better = costs[True] < costs[False]
        gain = trivial[better] - costs[better]
        share = 0.0 if gain <= 0 else (costs[not better] - costs[better]) / gain
        return Mixed(better, min(1.0, max(0.0, share)), base[better], derive(seed, _RANDOM))

    def cost_of(self, y: Flags, scores: Floats) -> float:
        """Of a group's n labels and scores."""
        false_positive, false_negative = float(scores[~y].mean()), float((1 - scores[y]).mean())
        if self.cost == "fpr":
            return false_positive
        if self.cost == "fnr":
            return false_negative
        rate = float(y.mean())
        # Halved, as in the authors' code and in AIF360; the share does not depend on it.
        return (false_positive * (1 - rate) + false_negative * rate) / 2


@dataclass(frozen=True)
class Mixed:
    """Which group gets its base rate, how often, and the random stream that says who."""

    group: bool
    """Whether it is the privileged one."""
    share: float
    base_rate: float
    seed: int

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        """N labels."""
        found: Flags = self.mixed(scores, privileged) >= THRESHOLD
        return found

    def mixed(self, scores: Floats, privileged: Flags) -> Floats:
        """N scores, some of which are the base rate."""
        drawn = np.random.default_rng(self.seed).random(len(scores)) < self.share
        return np.where((privileged == self.group) & drawn, self.base_rate, scores)
