"""A federation's clients: each has data to train on, to validate with, and to test with, that never leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from seer_nb.core.units import show

if TYPE_CHECKING:
    from numpy.typing import NDArray

Part: TypeAlias = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Client:
    """One client's three sets of data, each as (inputs, targets): arrays whose first axis counts the same samples.

    Raises:
        TypeError: A set is no pair of arrays.
        ValueError: A set is empty, or has another number of inputs than of targets.
    """

    train: tuple[NDArray[Any], NDArray[Any]]
    validation: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]]

    def __post_init__(self) -> None:
        """Keep the arrays as they are, once it is known that they fit."""
        for name in PARTS:
            object.__setattr__(self, name, _pair(getattr(self, name), name))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={self.size(name)}" for name in PARTS)
        return f"Client({sizes})"

    def part(self, name: Part) -> tuple[NDArray[Any], NDArray[Any]]:
        """One of its sets of data."""
        pair: tuple[NDArray[Any], NDArray[Any]] = getattr(self, name)
        return pair

    def size(self, name: Part) -> int:
        """Samples of a set."""
        return len(self.part(name)[1])


def _pair(given: Any, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if not isinstance(given, tuple | list) or len(given) != 2:  # noqa: PLR2004 - inputs and targets
        raise TypeError(f"{name}={show(given)} is not a pair: give (inputs, targets), two arrays")
    x, y = (np.ascontiguousarray(array) for array in given)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"{name} has inputs of shape {x.shape} and targets of shape {y.shape}: give as many of both")
    if not len(y):
        raise ValueError(f"{name} is empty: give each client at least one sample of it")
    return x, y
