"""The samples of a sweep, and their split into training, validation and test samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.core.types import MOST_SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IndexArray = NDArray[np.int64]


MIN_FIT_SAMPLES = 2
"""Smallest number of samples to fit on."""
MIN_SAMPLES = MIN_FIT_SAMPLES + 2
"""Smallest number of samples: those to fit on, one for validation and one for test."""


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of all samples."""

    x: FloatArray
    """Inputs, (samples, inputs)."""
    y: FloatArray
    """Targets in their own units, (samples, targets)."""
    targets: tuple[str, ...]
    """Names of the targets."""

    def __len__(self) -> int:
        return len(self.x)


def read_samples(x: Any, y: Any) -> Samples:
    """Return samples from arrays or frames.

    Args:
        x: Numbers, (samples, inputs).
        y: Numbers, (samples, targets) or (samples,).

    Raises:
        TypeError: The values are not numbers.
        ValueError: The shapes do not match, there are too few samples, or a number is not finite.
    """
    inputs, outputs = _read_numbers(x, "X"), _read_numbers(y, "y")
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    shapes = f"X of shape {np.shape(x)}, y of shape {np.shape(y)}"
    if inputs.ndim != 2 or outputs.ndim != 2 or len(inputs) != len(outputs):  # noqa: PLR2004 - rows and columns
        raise ValueError(f"{shapes}: do not match; expected (samples, inputs) and (samples, targets)")
    if len(inputs) < MIN_SAMPLES or not inputs.shape[1] or not outputs.shape[1]:
        raise ValueError(f"{shapes}: too small; expected at least {MIN_SAMPLES} samples, one input and one target")
    return Samples(inputs, outputs, _target_names(y, outputs.shape[1]))


def _read_numbers(given: Any, name: str) -> FloatArray:
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: not numeric ({error}); expected an array or a frame of numbers") from None
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"{name}: {found[place]} at {place}; expected finite numbers, with missing values filled in")
    return found


def _target_names(y: Any, count: int) -> tuple[str, ...]:
    """Return the names of a frame's columns or of a series, otherwise numbered names."""
    columns = getattr(y, "columns", None)
    names = [str(name) for name in columns] if columns is not None else []
    if columns is None and getattr(y, "name", None) is not None and count == 1:
        names = [str(y.name)]
    if not names:
        names = [f"y{place}" for place in range(count)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"y: two columns are called {twice!r}; expected a unique name per target")
    return tuple(names)


class Split(NamedTuple):
    """Indices of the samples in each part."""

    train: IndexArray
    """Training samples: the train ratio's share. The model whose test error is reported is fitted on them."""
    test: IndexArray
    """All other samples; they do not influence any choice."""
    fit: IndexArray
    """The part of ``train`` on which a model is fitted for the comparison of configurations."""
    validation: IndexArray
    """The rest of ``train``, on which that model's error is measured."""


def split(n: int, train_ratio: float, *, repeat: int = 1, validation: float = 0.25, seed: int = 0) -> Split:
    """Return the split of one repeat, which is the same for all configurations.

    All train ratios of a repeat use one shuffled order: a larger training part contains the smaller ones.

    Args:
        n: Number of samples.
        train_ratio: Share of training samples, between 0 and 1.
        repeat: Number of the repeat, from 1; each has its own order.
        validation: Share of the training part that is held out to compare configurations, between 0 and 1.
        seed: Seed of the order.

    Returns:
        Indices from 0 to n - 1.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of bounds, or a part would be empty.

    Example:
        >>> places = split(len(X), 0.7)
        >>> X.iloc[places.train], X.iloc[places.test]
    """
    n, repeat, seed = check_integer(n, "n"), check_integer(repeat, "repeat"), check_seed(seed)
    sizes = split_sizes(n, train_ratio, validation)
    order = np.random.default_rng([seed, repeat]).permutation(n)
    train = order[: sizes.train]
    return Split(train, order[sizes.train :], train[: sizes.fit], train[sizes.fit :])


class SplitSizes(NamedTuple):
    """Numbers of samples in the parts ``train`` and ``fit``."""

    train: int
    fit: int


def split_sizes(n: int, train_ratio: float, validation: float) -> SplitSizes:
    """Return the sizes of the parts; the arguments are those of ``split``.

    Raises:
        TypeError, ValueError: As for ``split``.
    """
    ratio, share = check_fraction(train_ratio, "train_ratio"), check_fraction(validation, "validation")
    train = round(n * ratio)
    fit = train - max(1, round(train * share))
    if fit < MIN_FIT_SAMPLES or train >= n:
        raise ValueError(
            f"train_ratio={short_repr(train_ratio)}, validation={short_repr(validation)}: leave {max(fit, 0)} to fit "
            f"and {n - train} to test of {n} samples; expected at least {MIN_FIT_SAMPLES} and 1"
        )
    return SplitSizes(train, fit)


def check_fraction(value: float, name: str) -> float:
    """Return a number between 0 and 1, both excluded.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is out of bounds.
    """
    number = check_number(value, name, greater_than=0.0, at_most=1.0)
    if number == 1.0:
        raise ValueError(
            f"{name}={short_repr(value)}: leaves no sample for the other part; expected a number > 0 and < 1"
        )
    return number


def check_seed(value: int) -> int:
    """Return a seed.

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is out of bounds.
    """
    return check_integer(value, "seed", 0, MOST_SEED, what="a seed")
