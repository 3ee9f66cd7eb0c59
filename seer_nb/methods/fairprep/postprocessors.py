"""Interventions after learning: fitted on validation examples and their scores, applied to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from seer_nb.methods.fairprep.errors import UnfitError

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
