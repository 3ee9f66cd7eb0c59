"""Interventions before learning: weights of examples, or repaired features; fitted on training examples only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from seer_nb.methods.fairprep.encoding import Examples
    from seer_nb.methods.fairprep.table import Flags, Floats


@dataclass(frozen=True)
class Quantiles:
    """The quantile function of training values, by linear interpolation, and its inverse."""

    ordered: Floats
    """n training values, ascending."""

    def value(self, shares: Floats) -> Floats:
        """Values at shares from 0 to 1."""
        return np.interp(shares, self._shares(), self.ordered)

    def share(self, values: Floats) -> Floats:
        """Shares of training values below; the middle of a run of equal ones, 0 or 1 beyond all."""
        distinct, first, counts = np.unique(self.ordered, return_index=True, return_counts=True)
        last = max(1, len(self.ordered) - 1)
        return np.interp(values, distinct, (first + (counts - 1) / 2) / last)

    def _shares(self) -> Floats:
        return np.linspace(0, 1, len(self.ordered)) if len(self.ordered) > 1 else np.zeros(1)


@dataclass(frozen=True)
class Repair:
    """Moves a value towards that which the median distribution has at the value's quantile within its group.

    Feldman et al. (KDD 2015), section 5: (1 - level) x + level F_A^-1(F_g(x)), where F_A^-1 is the median of the
    groups' quantile functions; of two groups that is their mean.
    """

    groups: tuple[Quantiles, Quantiles]
    """Of the unprivileged and of the privileged training examples."""
    level: float

    @classmethod
    def fit(cls, values: Floats, privileged: Flags, level: float) -> Self:
        """Learn both groups' quantiles from n training values; without one of the groups nothing will be moved."""
        both = bool(privileged.any() and not privileged.all())
        groups = (~privileged, privileged) if both else (np.ones_like(privileged),) * 2
        return cls(
            (Quantiles(np.sort(values[groups[0]])), Quantiles(np.sort(values[groups[1]]))), level if both else 0.0
        )

    def __call__(self, values: Floats, privileged: Flags) -> Floats:
        """N repaired values."""
        found = values.copy()
        if self.level == 0:
            return found
        for group, quantiles in zip((False, True), self.groups, strict=True):
            rows = privileged == group
            shares = quantiles.share(values[rows])
            median = (self.groups[0].value(shares) + self.groups[1].value(shares)) / 2
            found[rows] = (1 - self.level) * values[rows] + self.level * median
        return found


class FittedPreProcessor(Protocol):
    """What it has learned."""

    def weights(self, train: Examples) -> Floats:
        """n; how much each training example counts."""
        ...

    def transform(self, x: Floats, privileged: Flags) -> Floats:
        """Features as the learner shall see them, n x d as before."""
        ...


class PreProcessor(Protocol):
    """Fits itself to training examples."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    def fit(self, train: Examples) -> FittedPreProcessor:
        """Learn from training examples."""
        ...


@dataclass(frozen=True)
class NoPreProcessing:
    """Leaves all as it is."""

    name: str = "none"

    def fit(self, train: Examples) -> FittedPreProcessor:  # noqa: ARG002 - the protocol
        """There is nothing to learn."""
        return self

    def weights(self, train: Examples) -> Floats:
        """Ones."""
        return np.ones(len(train))

    def transform(self, x: Floats, privileged: Flags) -> Floats:  # noqa: ARG002 - the protocol
        """The same."""
        return x


@dataclass(frozen=True)
class Reweighing:
    """Weights P(s) P(y) / P(s, y), with which group s and label y are independent (Kamiran and Calders 2012)."""

    name: str = "reweighing"

    def fit(self, train: Examples) -> FittedPreProcessor:
        """Count training examples by group and label."""
        return Weights(reweighing(train.y, train.privileged))


@dataclass(frozen=True)
class Weights:
    """Weights of the training examples."""

    values: Floats

    def weights(self, train: Examples) -> Floats:  # noqa: ARG002 - it was fitted on them
        """N."""
        return self.values

    def transform(self, x: Floats, privileged: Flags) -> Floats:  # noqa: ARG002 - the protocol
        """The same."""
        return x


def reweighing(y: Flags, privileged: Flags) -> Floats:
    """A weight an example: P(s) P(y) / P(s, y), of its group s and label y.

    Args:
        y: n; whether the label is the favourable one.
        privileged: n; whether of the privileged group.
    """
    weights = np.ones(len(y))
    for label in (False, True):
        for group in (False, True):
            of_label, of_group = y == label, privileged == group
            both = of_label & of_group
            if both.any():
                weights[both] = of_label.mean() * of_group.mean() / both.mean()
    return weights


@dataclass(frozen=True)
class DisparateImpactRemover:
    """Moves both groups' values of each ordered feature to a common distribution (Feldman et al., KDD 2015).

    The group itself and indicators of categories stay: a quantile of them would move everybody or nobody.

    Args:
        level: Of the repair: 0 changes nothing, 1 moves all the way.
    """

    level: float = 1.0

    @property
    def name(self) -> str:
        """In tables."""
        return f"di_remover_{self.level:g}"

    def fit(self, train: Examples) -> FittedPreProcessor:
        """Learn each group's quantiles of each ordered feature."""
        columns = [int(place) for place in np.flatnonzero(train.ordered)]
        repairs = {place: Repair.fit(train.x[:, place], train.privileged, self.level) for place in columns}
        return Repaired(repairs)


@dataclass(frozen=True)
class Repaired:
    """A repair a column."""

    repairs: dict[int, Repair]

    def weights(self, train: Examples) -> Floats:
        """Ones."""
        return np.ones(len(train))

    def transform(self, x: Floats, privileged: Flags) -> Floats:
        """Repaired features."""
        found = x.copy()
        for place, repair in self.repairs.items():
            found[:, place] = repair(x[:, place], privileged)
        return found
