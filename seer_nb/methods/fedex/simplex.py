"""Categorical distribution over options, learned by exponentiated gradient from the losses of its draws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float64]


Schedule: TypeAlias = Literal["aggressive", "adaptive", "auto", "constant", "scale"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)
MIN_PROBABILITY = 1e-300
"""Smallest divisor of a loss; a division by a smaller probability would overflow."""


class StepSizes:
    """The step sizes of one simplex, by the schedules of the authors' code (github mkhodak/FedEx, hyper.py).

    With g_t the gradient of round t and |g| its greatest absolute entry:

    - "aggressive": eta_0 / |g_t|
    - "adaptive": eta_0 / sqrt(|g_1|^2 + ... + |g_t|^2)
    - "auto": eta_0 / sqrt(t)
    - "constant": eta_0
    - "scale": eta_0 sqrt(2 ln k)

    Args:
        schedule: Name of a schedule.
        size: Number of options, k.
        eta0: Base step size eta_0. Default: sqrt(2 ln k).
    """

    def __init__(self, schedule: Schedule, size: int, eta0: float | None = None) -> None:
        self._schedule = schedule
        self._size = size
        self._eta0 = math.sqrt(2 * math.log(size)) if eta0 is None else eta0
        self.accumulated = 0.0
        """Sum over the past rounds that "adaptive" and "auto" need; the only state of a schedule."""

    def next_size(self, gradient: Vector) -> float:
        """Return the step size for the gradient of the next round, of shape (options,)."""
        largest = float(np.abs(gradient).max())
        if self._schedule == "aggressive":
            return self._eta0 / largest if largest else self._eta0
        if self._schedule == "adaptive":
            self.accumulated += largest**2
            return self._eta0 / math.sqrt(self.accumulated) if self.accumulated else self._eta0
        if self._schedule == "auto":
            self.accumulated += 1.0
            return self._eta0 / math.sqrt(self.accumulated)
        return self._eta0 * (math.sqrt(2 * math.log(self._size)) if self._schedule == "scale" else 1.0)


class Simplex:
    """A point theta = softmax(z) of the probability simplex; the log-weights z start equal.

    Args:
        size: Number of options.
        step_sizes: Step sizes of the updates.
    """

    def __init__(self, size: int, step_sizes: StepSizes) -> None:
        self._step_sizes = step_sizes
        self._z: Vector = np.full(size, -np.log(size))
        self.theta: Vector = np.full(size, 1.0 / size)
        """Probabilities, shape (options,); never changed in place."""

    @property
    def entropy(self) -> float:
        """Entropy of theta in nats; 0 when one option has probability 1."""
        positive = self.theta[self.theta > 0]
        return float(max(0.0, -(positive * np.log(positive)).sum()))

    @property
    def mode(self) -> int:
        """Index of the most probable option; the first one on a tie."""
        return int(self.theta.argmax())

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the index of an option."""
        # Rounding can leave the last cumulative sum slightly below 1, so scale the random number by it.
        cumulative = self.theta.cumsum()
        return int(min(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"), len(cumulative) - 1))

    def estimate_gradient(self, drawn: Sequence[int], losses: Vector, weights: Vector) -> Vector:
        """Estimate each option's loss without bias, although each client used one option only.

        g_j = sum of weight x loss / theta_j over the clients that drew j (github mkhodak/FedEx, hyper.py).

        Args:
            drawn: Option index of each client, length n.
            losses: Loss of each client minus the baseline, shape (n,).
            weights: Weight of each client, shape (n,); they sum to 1.

        Returns:
            The estimate, shape (options,).
        """
        weighted = np.zeros(len(self.theta))
        np.add.at(weighted, np.asarray(drawn, dtype=np.int64), weights * losses)
        return np.divide(weighted, np.maximum(self.theta, MIN_PROBABILITY))

    def update(self, gradient: Vector) -> None:
        """Take one step of exponentiated gradient along a gradient of shape (options,)."""
        z = self._z - self._step_sizes.next_size(gradient) * gradient
        z = z - z.max()
        self._z = z - np.log(np.exp(z).sum())
        theta = np.exp(self._z)
        self.theta = theta / theta.sum()

    def state_dict(self) -> dict[str, Any]:
        """Return log-weights and probabilities, float64 tensors of shape (options,), and the schedule's sum."""
        import torch

        z, theta = torch.from_numpy(self._z), torch.from_numpy(self.theta)
        return {"z": z, "theta": theta, "past": self._step_sizes.accumulated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: The state has another number of options.
        """
        z = state["z"].numpy()
        if z.shape != self._z.shape:
            raise ValueError(f"state: has {len(z)} options; expected {len(self._z)}")
        self._z, self.theta, self._step_sizes.accumulated = z, state["theta"].numpy(), state["past"]


def discounted_mean(values: Sequence[float], factor: float) -> float:
    """Return a weighted mean; each value has ``factor`` times the weight of the next, more recent one.

    Args:
        values: At least one value, the most recent one last.
        factor: From 0, only the most recent value, to 1, the plain mean.
    """
    weights = factor ** np.arange(len(values))[::-1].astype(np.float64)
    return float(np.asarray(values) @ weights / weights.sum())
