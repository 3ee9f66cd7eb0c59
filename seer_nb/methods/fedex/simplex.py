"""A categorical distribution over options that is learned from what its draws have cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Weights = NDArray[np.float64]


EMPTY = 1e-300
"""Below it a probability is none: a draw of it, divided by it, would be beyond floats."""


class Simplex:
    """Log-weights z, uniform at first; theta = softmax(z) are the probabilities.

    Args:
        size: Number of options.
        steps: How far to move.
    """

    def __init__(self, size: int, steps: Steps) -> None:
        self._steps = steps
        self._z: Weights = np.full(size, -np.log(size))
        self.theta: Weights = np.full(size, 1.0 / size)
        """Probabilities; never changed in place."""

    @property
    def entropy(self) -> float:
        """In nats; 0 when one option has it all."""
        found = self.theta[self.theta > 0]
        return float(max(0.0, -(found * np.log(found)).sum()))

    @property
    def mode(self) -> int:
        """The most probable option; of several, the first."""
        return int(self.theta.argmax())

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an option."""
        # The cumulative sum may end a rounding error short of 1.
        ends = self.theta.cumsum()
        return int(min(np.searchsorted(ends, rng.random() * ends[-1], side="right"), len(ends) - 1))

    def gradient(self, drawn: Sequence[int], losses: Weights, weights: Weights) -> Weights:
        """An unbiased estimate of each option's loss, were it drawn always.

        g_j = sum over the clients that have drawn j of weight x loss / theta_j (github mkhodak/FedEx, hyper.py).

        Args:
            drawn: The option of each client.
            losses: Of each client, less the baseline.
            weights: Of each client; they add up to 1.
        """
        found = np.zeros(len(self.theta))
        np.add.at(found, np.asarray(drawn, dtype=np.int64), weights * losses)
        return np.divide(found, np.maximum(self.theta, EMPTY))

    def move(self, gradient: Weights) -> None:
        """One step of exponentiated gradient."""
        z = self._z - self._steps.next(gradient) * gradient
        z = z - z.max()
        self._z = z - np.log(np.exp(z).sum())
        theta = np.exp(self._z)
        self.theta = theta / theta.sum()

    def state_dict(self) -> dict[str, Any]:
        """What there is to go on from: log-weights and probabilities, of shape (options,), and the steps' past."""
        import torch

        z, theta = torch.from_numpy(self._z), torch.from_numpy(self.theta)
        return {"z": z, "theta": theta, "past": self._steps.past}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: It is of another number of options.
        """
        z = state["z"].numpy()
        if z.shape != self._z.shape:
            raise ValueError(f"it has {len(z)} options in place of {len(self._z)}")
        self._z, self.theta, self._steps.past = z, state["theta"].numpy(), state["past"]


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
