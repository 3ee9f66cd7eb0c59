"""Interventions before learning, fitted on training examples: example weights, or repaired features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from seer_nb.methods.fairprep.encoding import Examples
    from seer_nb.methods.fairprep.table import Flags, Floats


class FittedPreProcessor(Protocol):
    """A pre-processor that is fitted on training examples."""

    def weights(self, train: Examples) -> Floats:
        """Return the weight of each training example, shape (n,)."""
        ...

    def transform(self, x: Floats, privileged: Flags) -> Floats:
        """Return the features for the learner.

        Args:
            x: Features, shape (n, d).
            privileged: Whether an example belongs to the privileged group, shape (n,).

        Returns:
            Features, shape (n, d).
        """
        ...


class PreProcessor(Protocol):
    """An intervention before learning."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def fit(self, train: Examples) -> FittedPreProcessor:
        """Fit on training examples."""
        ...


@dataclass(frozen=True)
class NoPreProcessing:
    """Leaves features unchanged, and weights all examples equally."""

    name: str = "none"

    def fit(self, train: Examples) -> FittedPreProcessor:  # noqa: ARG002 - the protocol
        return self

    def weights(self, train: Examples) -> Floats:
        return np.ones(len(train))

    def transform(self, x: Floats, privileged: Flags) -> Floats:  # noqa: ARG002 - the protocol
        return x


@dataclass(frozen=True)
class Reweighing:
    """Weights that make group and label independent; see ``reweighing`` (Kamiran and Calders 2012)."""

    name: str = "reweighing"

    def fit(self, train: Examples) -> FittedPreProcessor:
        return FixedWeights(reweighing(train.y, train.privileged))


@dataclass(frozen=True)
class FixedWeights:
    """A fitted ``Reweighing``."""

    values: Floats
    """Weights of the training examples, shape (n,)."""

    def weights(self, train: Examples) -> Floats:  # noqa: ARG002 - the weights of these examples
        return self.values

    def transform(self, x: Floats, privileged: Flags) -> Floats:  # noqa: ARG002 - the protocol
        return x


def reweighing(y: Flags, privileged: Flags) -> Floats:
    """Return the weight P(s) P(y) / P(s, y) of each example with group s and label y (Kamiran and Calders 2012).

    Args:
        y: Whether the label is favourable, shape (n,).
        privileged: Whether an example belongs to the privileged group, shape (n,).

    Returns:
        Weights, shape (n,); with them, group and label are independent.

    Example:
        >>> weights = fairprep.reweighing(data.label == "good", data.sex == "male")
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
    """Moves both groups' values of each numeric feature to a common distribution (Feldman et al., KDD 2015).

    The group itself and category indicators stay unchanged: a quantile of two values would move all examples or none.

    Args:
        level: Strength of the repair, from 0 (none) to 1 (full).

    Example:
        >>> remover = fairprep.DisparateImpactRemover(0.8)
        >>> fairprep.Experiment(*fairprep.data.german(), preprocessors=["none", remover])
    """

    level: float = 1.0

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"di_remover_{self.level:g}"

    def fit(self, train: Examples) -> FittedPreProcessor:
        columns = [int(column) for column in np.flatnonzero(train.ordered)]
        return FittedRemover(
            {column: QuantileRepair.fit(train.x[:, column], train.privileged, self.level) for column in columns}
        )


@dataclass(frozen=True)
class FittedRemover:
    """A fitted ``DisparateImpactRemover``."""

    repairs: dict[int, QuantileRepair]
    """Repair by column."""

    def weights(self, train: Examples) -> Floats:
        return np.ones(len(train))

    def transform(self, x: Floats, privileged: Flags) -> Floats:
        found = x.copy()
        for column, repair in self.repairs.items():
            found[:, column] = repair(x[:, column], privileged)
        return found


@dataclass(frozen=True)
class Quantiles:
    """Quantile function of training values, with linear interpolation, and its inverse."""

    ordered: Floats
    """Training values in ascending order, shape (n,)."""

    def value(self, shares: Floats) -> Floats:
        """Return the quantiles at shares from 0 to 1."""
        return np.interp(shares, self._shares(), self.ordered)

    def share(self, values: Floats) -> Floats:
        """Return each value's rank among the training values, from 0 to 1; the middle rank of ties."""
        distinct, first, counts = np.unique(self.ordered, return_index=True, return_counts=True)
        last = max(1, len(self.ordered) - 1)
        return np.interp(values, distinct, (first + (counts - 1) / 2) / last)

    def _shares(self) -> Floats:
        return np.linspace(0, 1, len(self.ordered)) if len(self.ordered) > 1 else np.zeros(1)


@dataclass(frozen=True)
class QuantileRepair:
    """Repair of one feature: moves values towards a distribution that both groups share.

    Feldman et al. (KDD 2015), section 5: (1 - level) x + level F_A^-1(F_g(x)), where F_g is the distribution function
    of the value's group, and F_A^-1 is the median of the groups' quantile functions, for two groups their mean.
    """

    groups: tuple[Quantiles, Quantiles]
    """Quantiles of the unprivileged and of the privileged training examples."""
    level: float
    """Strength of the repair, from 0 (none) to 1 (full)."""

    @classmethod
    def fit(cls, values: Floats, privileged: Flags, level: float) -> Self:
        """Fit on training values; if a group is missing, the level becomes 0.

        Args:
            values: Values of the feature, shape (n,).
            privileged: Whether an example belongs to the privileged group, shape (n,).
            level: Strength of the repair, from 0 to 1.
        """
        both = bool(privileged.any() and not privileged.all())
        groups = (~privileged, privileged) if both else (np.ones_like(privileged),) * 2
        return cls(
            (Quantiles(np.sort(values[groups[0]])), Quantiles(np.sort(values[groups[1]]))), level if both else 0.0
        )

    def __call__(self, values: Floats, privileged: Flags) -> Floats:
        """Return repaired values, shape (n,).

        Args:
            values: Values of the feature, shape (n,).
            privileged: Whether an example belongs to the privileged group, shape (n,).
        """
        found = values.copy()
        if self.level == 0:
            return found
        for group, quantiles in zip((False, True), self.groups, strict=True):
            rows = privileged == group
            shares = quantiles.share(values[rows])
            median = (self.groups[0].value(shares) + self.groups[1].value(shares)) / 2
            found[rows] = (1 - self.level) * values[rows] + self.level * median
        return found
