"""A categorical distribution over options that is learned from what its draws have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seer_nb.methods.fedex.steps import Steps

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
