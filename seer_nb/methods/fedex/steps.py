"""Exponentiated gradient: how far FedEx's log-weights move in a round, and what a loss is compared with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Schedule: TypeAlias = Literal["aggressive", "adaptive", "auto", "constant", "scale"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


class Steps:
    """The step sizes of one simplex, by the schedules of the authors' code (github mkhodak/FedEx, hyper.py).

    With g_t the gradient of round t and |g| its greatest entry: aggressive eta_0 / |g_t|, adaptive
    eta_0 / sqrt(|g_1|^2 + ... + |g_t|^2), auto eta_0 / sqrt(t), constant eta_0, scale eta_0 sqrt(2 ln k).

    Args:
        schedule: One of the five.
        size: k, the number of configurations.
        eta0: None: sqrt(2 ln k).
    """

    def __init__(self, schedule: Schedule, size: int, eta0: float | None = None) -> None:
        self._schedule = schedule
        self._size = size
        self._eta0 = math.sqrt(2 * math.log(size)) if eta0 is None else eta0
        self.past = 0.0
        """What the schedule sums up over the rounds: all that a generation of steps leaves to the next."""

    def next(self, gradient: NDArray[np.float64]) -> float:
        """The size of the step along the gradient of the next round."""
        largest = float(np.abs(gradient).max())
        if self._schedule == "aggressive":
            return self._eta0 / largest if largest else self._eta0
        if self._schedule == "adaptive":
            self.past += largest**2
            return self._eta0 / math.sqrt(self.past) if self.past else self._eta0
        if self._schedule == "auto":
            self.past += 1.0
            return self._eta0 / math.sqrt(self.past)
        return self._eta0 * (math.sqrt(2 * math.log(self._size)) if self._schedule == "scale" else 1.0)


def discounted_mean(trace: Sequence[float], factor: float) -> float:
    """Mean of a trace whose values count by ``factor`` less for each step that they are older.

    Args:
        trace: At least one value, the latest last.
        factor: From 0, the latest value, to 1, the plain mean.
    """
    weights = factor ** np.arange(len(trace))[::-1].astype(np.float64)
    return float(np.asarray(trace) @ weights / weights.sum())
