"""Quantile repair of one feature: what the disparate impact remover does to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
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
