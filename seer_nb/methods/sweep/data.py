"""The samples of a sweep: numbers in, numbers out, with the names of their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.core.types import MOST_SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Places = NDArray[np.int64]


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


LEAST_FITTED = 2


class Split(NamedTuple):
    """Places of samples."""

    train: Places
    """The train ratio's share: what the model whose test error is reported is fitted on."""
    test: Places
    """All others: they choose nothing."""
    fit: Places
    """The part of ``train`` that a model is fitted on to be compared with others ..."""
    validation: Places
    """... by its error on this part."""


def split(n: int, train_ratio: float, *, repeat: int = 1, validation: float = 0.25, seed: int = 0) -> Split:
    """The split of one repeat, which is the same for all configurations.

    One shuffled order serves all train ratios of a repeat: a larger training part holds the smaller ones.

    Args:
        n: Samples.
        train_ratio: Share of them to train on, between 0 and 1.
        repeat: Each has another order; from 1.
        validation: Share of the training part that is held out to choose the configuration, between 0 and 1.
        seed: Of the order.

    Returns:
        Places from 0 to n - 1.

    Raises:
        TypeError: Something is no number.
        ValueError: It is out of bounds, or a part would be empty.
    """
    n, repeat, seed = check_integer(n, "n"), check_integer(repeat, "repeat"), seed_of(seed)
    sizes = sizes_of(n, train_ratio, validation)
    order = np.random.default_rng([seed, repeat]).permutation(n)
    train = order[: sizes.train]
    return Split(train, order[sizes.train :], train[: sizes.fit], train[sizes.fit :])


class Sizes(NamedTuple):
    """Of the parts."""

    train: int
    fit: int


def sizes_of(n: int, train_ratio: float, validation: float) -> Sizes:
    """How many samples there are in each part.

    Raises:
        TypeError, ValueError: As for ``split``.
    """
    ratio, share = fraction(train_ratio, "train_ratio"), fraction(validation, "validation")
    train = round(n * ratio)
    fit = train - max(1, round(train * share))
    if fit < LEAST_FITTED or train >= n:
        raise ValueError(
            f"train_ratio={short_repr(train_ratio)} and "
            f"validation={short_repr(validation)} leave {max(fit, 0)} to fit and "
            f"{n - train} to test of {n} samples: at least {LEAST_FITTED} and 1 are needed"
        )
    return Sizes(train, fit)


def fraction(value: float, name: str) -> float:
    """A number between 0 and 1, without both."""
    number = check_number(value, name, above=0.0, most=1.0)
    if number == 1.0:
        raise ValueError(f"{name}={short_repr(value)} leaves nothing over: give more than 0 and less than 1")
    return number


def seed_of(value: int) -> int:
    """A seed."""
    return check_integer(value, "seed", 0, MOST_SEED, what="a seed")
