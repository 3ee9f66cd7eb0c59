"""Interventions after learning: fitted on validation examples and their scores, applied to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb.methods.fairprep.errors import UnfitError, need_fairlearn

if TYPE_CHECKING:
    from seer_nb.methods.fairprep.table import Flags, Floats


THRESHOLD = 0.5
"""From this score on, the favourable label is predicted."""


class FittedPostProcessor(Protocol):
    """What it has learned."""

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        """N labels; the same for the same scores in the same order."""
        ...


class PostProcessor(Protocol):
    """Fits itself to validation examples."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:
        """Learn from validation labels and scores.

        Raises:
            UnfitError: It cannot, for a group or a label is missing.
        """
        ...


@dataclass(frozen=True)
class NoPostProcessing:
    """The favourable label from a score of 0.5 on."""

    name: str = "none"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:  # noqa: ARG002 - the protocol
        """There is nothing to learn."""
        return self

    def predict(self, scores: Floats, privileged: Flags) -> Flags:  # noqa: ARG002 - the protocol
        """N labels."""
        found: Flags = scores >= THRESHOLD
        return found


@dataclass(frozen=True)
class RejectOption:
    """Near the threshold, the unprivileged get the favourable label and the privileged the other (Kamiran et al. 2012).

    Of 100 thresholds and 50 margins the pair with the best balanced accuracy whose difference in statistical parity is
    within the bound; if none is, the pair with the least difference, as in AIF360.

    Args:
        bound: Most difference of the groups' rates of favourable predictions, on validation examples.
    """

    bound: float = 0.05
    name: str = "reject_option"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:  # noqa: ARG002 - the protocol
        """Try all pairs."""
        need_both(y, "label", self.name)
        need_both(privileged, "group", self.name)
        tried = [self._best(float(t), y, scores, privileged) for t in np.linspace(0.01, 0.99, 100)]
        return max(tried, key=lambda each: each[0])[1]

    def _best(
        self, threshold: float, y: Flags, scores: Floats, privileged: Flags
    ) -> tuple[tuple[float, float], Margin]:
        """Of a threshold's margins, the best with its rank; of several, the least."""
        margins = np.linspace(0.0, min(threshold, 1 - threshold), 50)
        predicted = Margin(threshold, margins[:, None]).predict(scores, privileged).astype(np.float64)
        unfair = np.abs(predicted[:, ~privileged].mean(axis=1) - predicted[:, privileged].mean(axis=1))
        accuracy = (predicted[:, y].mean(axis=1) + 1 - predicted[:, ~y].mean(axis=1)) / 2
        ranks = np.where(unfair <= self.bound, 0.0, -unfair)
        place = int(np.lexsort((-accuracy, -ranks))[0])
        return (float(ranks[place]), float(accuracy[place])), Margin(threshold, float(margins[place]))


@dataclass(frozen=True)
class Margin:
    """A threshold, and how far around it labels are given by group."""

    threshold: float
    margin: float | Floats
    """Or k x 1 of them, for k x n labels."""

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        """N labels."""
        near = np.abs(scores - self.threshold) <= self.margin
        found: Flags = np.where(near & (self.margin > 0), ~privileged, scores > self.threshold)
        return found


def need_both(flags: Flags, what: str, name: str) -> None:
    """See that both values occur.

    Raises:
        UnfitError: One does not.
    """
    if flags.all() or not flags.any():
        raise UnfitError(f"{name}: all validation examples are of one {what}")


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

        from seer_nb.methods.fairprep.learners import Scores

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
        return Thresholds(optimizer, derive_seed(seed, _RANDOM) % 2**32)


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
        return Mixed(better, min(1.0, max(0.0, share)), base[better], derive_seed(seed, _RANDOM))

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
