"""Which samples are fitted, which choose the configuration, and which only judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seer_nb.core.arguments import real, whole
from seer_nb.core.bounds import MOST_SEED
from seer_nb.core.units import show

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

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
    n, repeat, seed = whole(n, "n"), whole(repeat, "repeat"), seed_of(seed)
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
            f"train_ratio={show(train_ratio)} and validation={show(validation)} leave {max(fit, 0)} to fit and "
            f"{n - train} to test of {n} samples: at least {LEAST_FITTED} and 1 are needed"
        )
    return Sizes(train, fit)


def fraction(value: float, name: str) -> float:
    """A number between 0 and 1, without both."""
    number = real(value, name, above=0.0, most=1.0)
    if number == 1.0:
        raise ValueError(f"{name}={show(value)} leaves nothing over: give more than 0 and less than 1")
    return number


def seed_of(value: int) -> int:
    """A seed."""
    return whole(value, "seed", 0, MOST_SEED, what="a seed")
