"""The samples of a sweep: numbers in, numbers out, with the names of their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEAST = 4
"""Samples: for each of fitting (two), validation and test one at least."""


@dataclass(frozen=True)
class Table:
    """Samples."""

    x: Numbers
    """(samples, inputs)."""
    y: Numbers
    """(samples, targets), in the targets' own units."""
    targets: tuple[str, ...]
    """Names of the columns of y."""

    def __len__(self) -> int:
        return len(self.x)


def read(x: Any, y: Any) -> Table:
    """Samples from arrays or frames.

    Args:
        x: (samples, inputs), numbers.
        y: (samples, targets) or (samples,), numbers.

    Raises:
        TypeError: They are no numbers.
        ValueError: Their shapes do not fit, there are too few samples, or a number is not finite.
    """
    inputs, outputs = _numbers(x, "X"), _numbers(y, "y")
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    if inputs.ndim != 2 or outputs.ndim != 2 or len(inputs) != len(outputs):  # noqa: PLR2004 - rows and columns
        raise ValueError(
            f"X has the shape {np.shape(x)} and y has {np.shape(y)}: give (samples, inputs) and (samples, targets)"
        )
    if len(inputs) < LEAST or not inputs.shape[1] or not outputs.shape[1]:
        raise ValueError(
            f"X has the shape {np.shape(x)} and y has {np.shape(y)}: give at least {LEAST} samples of at least one "
            "input and one target"
        )
    return Table(inputs, outputs, _names(y, outputs.shape[1]))


def _numbers(given: Any, name: str) -> Numbers:
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not made of numbers ({error}): give an array or a frame of numbers") from None
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"{name} has {found[place]} at {place}: give finite numbers, and fill in what is missing")
    return found


def _names(y: Any, count: int) -> tuple[str, ...]:
    """Of a frame's or a series' own columns, else numbered."""
    columns = getattr(y, "columns", None)
    names = [str(name) for name in columns] if columns is not None else []
    if columns is None and getattr(y, "name", None) is not None and count == 1:
        names = [str(y.name)]
    if not names:
        names = [f"y{place}" for place in range(count)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"y has two columns called {twice!r}: give each target a name of its own")
    return tuple(names)
