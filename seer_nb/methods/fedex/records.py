"""What a FedEx's rounds have shown, and a history of them as one tensor for a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_NUMBERS = 4
"""Of a round, beside its theta."""


class Scores(NamedTuple):
    """Errors, each client's weighted by how much it has measured on."""

    shared: float
    """Of the shared model: the global error."""
    personal: float
    """Of what each client makes of it by training it on its own data."""


class Round(NamedTuple):
    """What one round has shown."""

    validation: Scores
    entropy: float
    """Of the distribution after it, in nats."""
    mode: float
    """Probability of the most probable configuration after it."""
    theta: tuple[NDArray[np.float64], ...]
    """The distribution of each axis after it."""


def packed(history: Sequence[Round]) -> Tensor:
    """A tensor of float64, shape (rounds, 4 + options of all axes); it loses nothing."""
    import torch

    rows = [np.concatenate([[*x.validation, x.entropy, x.mode], *x.theta]) for x in history]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, dtype=torch.float64)


def unpacked(rows: Tensor, sizes: Sequence[int]) -> tuple[Round, ...]:
    """The history again.

    Args:
        rows: As from ``packed``.
        sizes: Options of each axis.
    """
    ends = np.cumsum([_NUMBERS, *sizes])[:-1]
    found = []
    for row in rows.numpy():
        numbers, *theta = np.split(row, ends)
        shared, personal, entropy, mode = numbers.tolist()
        found.append(Round(Scores(shared, personal), entropy, mode, tuple(theta)))
    return tuple(found)
