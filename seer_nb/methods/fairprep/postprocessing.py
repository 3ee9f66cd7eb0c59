"""Interventions after learning, fitted on validation examples and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb.methods.fairprep.errors import UnfitError, require_fairlearn

if TYPE_CHECKING:
    from seer_nb.methods.fairprep.table import Flags, Floats


THRESHOLD = 0.5
"""Score from which the favourable label is predicted."""
_PREDICTION_STREAM = 7
"""Random stream of randomised predictions."""


class FittedPostProcessor(Protocol):
    """A post-processor that is fitted on validation examples."""

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        """Predict labels; equal scores in the same order give equal labels.

        Args:
            scores: Probabilities of the favourable label, shape (n,).
            privileged: Whether an example belongs to the privileged group, shape (n,).

        Returns:
            Whether the predicted label is favourable, shape (n,).
        """
        ...


class PostProcessor(Protocol):
    """An intervention after learning."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:
        """Fit on validation examples.

        Args:
            y: Whether the label is favourable, shape (n,).
            scores: Probabilities of the favourable label, shape (n,).
            privileged: Whether an example belongs to the privileged group, shape (n,).
            seed: Seed of randomised predictions.

        Raises:
            UnfitError: A group or a label is missing.
        """
        ...


@dataclass(frozen=True)
class NoPostProcessing:
    """Predicts the favourable label from a score of 0.5."""

    name: str = "none"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:  # noqa: ARG002 - the protocol
        return self

    def predict(self, scores: Floats, privileged: Flags) -> Flags:  # noqa: ARG002 - the protocol
        found: Flags = scores >= THRESHOLD
        return found


@dataclass(frozen=True)
class RejectOption:
    """Reject option classification: near the threshold, the group decides the label (Kamiran et al. 2012).

    Within a margin around the threshold, the unprivileged get the favourable label and the privileged the other one.
    As in AIF360, of 100 thresholds and 50 margins, the pair with the best balanced accuracy wins whose statistical
    parity difference (rate of the unprivileged minus rate of the privileged) is within the bound. If no pair is, the
    pair with the least absolute difference wins. AIF360 then takes the least signed one, which is the pair that is
    worst for the unprivileged.

    Args:
        bound: Largest difference of the groups' rates of favourable predictions, on validation examples.
        name: Name in tables.
    """

    bound: float = 0.05
    name: str = "reject_option"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:  # noqa: ARG002 - the protocol
        require_both_values(y, "label", self.name)
        require_both_values(privileged, "group", self.name)
        tried = [self._best(float(t), y, scores, privileged) for t in np.linspace(0.01, 0.99, 100)]
        return max(tried, key=lambda each: each[0])[1]

    def _best(
        self, threshold: float, y: Flags, scores: Floats, privileged: Flags
    ) -> tuple[tuple[float, float], RejectOptionRule]:
        """Return the best margin of a threshold with its rank; on a tie, the smallest margin."""
        margins = np.linspace(0.0, min(threshold, 1 - threshold), 50)
        predicted = RejectOptionRule(threshold, margins[:, None]).predict(scores, privileged).astype(np.float64)
        unfair = np.abs(predicted[:, ~privileged].mean(axis=1) - predicted[:, privileged].mean(axis=1))
        accuracy = (predicted[:, y].mean(axis=1) + 1 - predicted[:, ~y].mean(axis=1)) / 2
        ranks = np.where(unfair <= self.bound, 0.0, -unfair)
        best = int(np.lexsort((-accuracy, -ranks))[0])
        rule = RejectOptionRule(threshold, float(margins[best]))
        return (float(ranks[best]), float(accuracy[best])), rule


@dataclass(frozen=True)
class RejectOptionRule:
    """A fitted ``RejectOption``."""

    threshold: float
    """Score above which the favourable label is predicted."""
    margin: float | Floats
    """The group decides above threshold - margin and up to threshold + margin; shape (k, 1) gives labels (k, n)."""

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        near = (scores > self.threshold - self.margin) & (scores <= self.threshold + self.margin)
        found: Flags = np.where(near, ~privileged, scores > self.threshold)
        return found


def require_both_values(flags: Flags, what: str, name: str) -> None:
    """Check that both values occur.

    Args:
        flags: Labels or groups of validation examples, shape (n,).
        what: What the values are, for the error message.
        name: Name of the post-processor, for the error message.

    Raises:
        UnfitError: All values are equal.
    """
    if flags.all() or not flags.any():
        raise UnfitError(f"{name}: all validation examples have the same {what}")


def _label_of(group: bool) -> str:  # noqa: FBT001 - the value of a mask
    return f"label in the {'' if group else 'un'}privileged group"


@dataclass(frozen=True)
class EqualizedOdds:
    """Randomised thresholds that equalise the groups' error rates (Hardt et al. 2016), with fairlearn.

    Args:
        objective: Metric that the thresholds maximise; see fairlearn's ThresholdOptimizer.
        name: Name in tables.
    """

    objective: str = "balanced_accuracy_score"
    name: str = "equalized_odds"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:
        require_fairlearn()
        from fairlearn.postprocessing import ThresholdOptimizer

        from seer_nb.methods.fairprep.learners import IdentityScores

        require_both_values(privileged, "group", self.name)
        for group in (False, True):
            require_both_values(y[privileged == group], _label_of(group), self.name)
        optimizer = ThresholdOptimizer(
            estimator=IdentityScores(),
            constraints="equalized_odds",
            objective=self.objective,
            prefit=True,
            predict_method="predict",
        )
        optimizer.fit(scores.reshape(-1, 1), y.astype(int), sensitive_features=privileged.astype(int))
        return RandomizedThresholds(optimizer, derive_seed(seed, _PREDICTION_STREAM) % 2**32)


@dataclass(frozen=True)
class RandomizedThresholds:
    """A fitted ``EqualizedOdds``."""

    optimizer: Any
    """Fitted ThresholdOptimizer of fairlearn."""
    seed: int
    """Seed of the predictions."""

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        found: Flags = np.random.default_rng(self.seed).random(len(scores)) < self.probability(scores, privileged)
        return found

    def probability(self, scores: Floats, privileged: Flags) -> Floats:
        """Return the probability of the favourable label, shape (n,)."""
        given = {"sensitive_features": privileged.astype(int)}
        found: Floats = self.optimizer._pmf_predict(scores.reshape(-1, 1), **given)[:, 1]  # noqa: SLF001 - the method that fairlearn documents
        return found


@dataclass(frozen=True)
class CalibratedEqualizedOdds:
    """Equalises the groups' costs: a random share of the better group gets its base rate as score.

    Pleiss, Raghavan, Wu, Kleinberg and Weinberger, "On Fairness and Calibration" (NeurIPS 2017), section 4.1. The cost
    of a group combines two generalised rates. The false positive rate is the mean score of examples with the
    unfavourable label; the false negative rate is the mean of 1 - score of those with the favourable label. Let g be
    the cost of the better group, h that of the other, and g' that of scores that all equal the base rate. Then a share
    (h - g) / (g' - g) of the better group gets the base rate.

    Args:
        cost: "fnr" or "fpr" for one rate, or "weighted" for both, weighted by the labels' frequencies.
        name: Name in tables.
    """

    cost: Literal["fnr", "fpr", "weighted"] = "weighted"
    name: str = "calibrated_equalized_odds"

    def fit(self, y: Flags, scores: Floats, privileged: Flags, seed: int) -> FittedPostProcessor:
        require_both_values(privileged, "group", self.name)
        base, costs, trivial = {}, {}, {}
        for group in (False, True):
            rows = privileged == group
            require_both_values(y[rows], _label_of(group), self.name)
            base[group] = float(y[rows].mean())
            costs[group] = self.cost_of(y[rows], scores[rows])
            trivial[group] = self.cost_of(y[rows], np.full(int(rows.sum()), base[group]))
        better = costs[True] < costs[False]
        gain = trivial[better] - costs[better]
        share = 0.0 if gain <= 0 else (costs[not better] - costs[better]) / gain
        return BaseRateMixing(better, min(1.0, max(0.0, share)), base[better], derive_seed(seed, _PREDICTION_STREAM))

    def cost_of(self, y: Flags, scores: Floats) -> float:
        """Return the cost of a group.

        Args:
            y: Whether the label is favourable, shape (n,).
            scores: Probabilities of the favourable label, shape (n,).
        """
        false_positive, false_negative = float(scores[~y].mean()), float((1 - scores[y]).mean())
        if self.cost == "fpr":
            return false_positive
        if self.cost == "fnr":
            return false_negative
        rate = float(y.mean())
        # Halved as in the authors' code and in AIF360; the factor cancels out in the share.
        return (false_positive * (1 - rate) + false_negative * rate) / 2


@dataclass(frozen=True)
class BaseRateMixing:
    """A fitted ``CalibratedEqualizedOdds``."""

    group: bool
    """Whether the better group is the privileged one."""
    share: float
    """Share of the better group that gets the base rate."""
    base_rate: float
    """Rate of favourable labels in the better group."""
    seed: int
    """Seed of the choice of examples."""

    def predict(self, scores: Floats, privileged: Flags) -> Flags:
        found: Flags = self.mix(scores, privileged) >= THRESHOLD
        return found

    def mix(self, scores: Floats, privileged: Flags) -> Floats:
        """Return the scores, shape (n,), with a random share of the better group's replaced by the base rate."""
        drawn = np.random.default_rng(self.seed).random(len(scores)) < self.share
        return np.where((privileged == self.group) & drawn, self.base_rate, scores)
