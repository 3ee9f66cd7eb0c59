"""Data dealt out to clients: alike (iid), or each with labels of its own (non-iid)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Places = NDArray[np.int64]


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
        raise TypeError(f"{name}={short_repr(given)} is not a pair: give (inputs, targets), two arrays")
    x, y = (np.ascontiguousarray(array) for array in given)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"{name} has inputs of shape {x.shape} and targets of shape {y.shape}: give as many of both")
    if not len(y):
        raise ValueError(f"{name} is empty: give each client at least one sample of it")
    return x, y


LEAST = len(PARTS)
"""Samples of a client: one to train on, one to validate with, one to test with."""


def partition(labels: Any, clients: int, *, alpha: float | None = None, seed: int = 0) -> list[Places]:
    """Deal samples out to clients; each sample goes to one of them.

    Args:
        labels: One an item, of any kind; with ``alpha`` they say what is skewed.
        clients: How many.
        alpha: None: iid, the samples are shuffled and dealt evenly. A number more than 0: non-iid, the share of each
            label that each client gets is drawn from a Dirichlet distribution with that concentration (Hsu, Qi, Brown
            2019, arXiv 1909.06335, with classes and clients changed over, as is common); the smaller, the more skewed.
        seed: Of the draw.

    Returns:
        For each client the places of its samples, at least three, in ascending order.

    Raises:
        ValueError, TypeError: For fewer than three samples a client, or what cannot be.
    """
    labels = np.asarray(labels)
    check_integer(clients, "clients")
    if labels.ndim != 1 or len(labels) < LEAST * clients:
        raise ValueError(
            f"labels has the shape {labels.shape}, which is not enough for clients={clients}: "
            f"give one label a sample, at least {LEAST} for each client"
        )
    rng = np.random.default_rng([seed, 1])
    if alpha is None:
        dealt = np.array_split(rng.permutation(len(labels)), clients)
    else:
        dealt = _skewed(labels, clients, check_number(alpha, "alpha", above=0.0), rng)
    return [np.sort(places) for places in dealt]


def split(  # noqa: PLR0913 - what a federation is made of
    x: Any,
    y: Any,
    clients: int,
    *,
    alpha: float | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    shuffle: bool = True,
    seed: int = 0,
) -> list[Client]:
    """Clients made of one set of data.

    Args:
        x: Inputs, an array of shape (samples, ...).
        y: Targets, an array of shape (samples, ...); with ``alpha`` one label a sample.
        clients: How many.
        alpha: As for ``partition``.
        shares: Of a client's samples to train on, to validate with and to test with; they add up to 1. Each client has
            at least one of each.
        shuffle: Whether a client's samples are mixed before they are cut in three, so that its three sets are alike
            (what the authors' code calls iid); else they are cut in the order of the data, as where time passes.
        seed: Of the draw.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x has the shape {x.shape} and y {y.shape}: give as many targets as inputs")
    cuts = _checked_shares(shares)
    labels = y if alpha is not None else np.zeros(len(y))
    rng = np.random.default_rng([seed, 2])
    made = []
    for dealt in partition(labels, clients, alpha=alpha, seed=seed):
        places = rng.permutation(dealt) if shuffle else dealt
        made.append(Client(*((x[part], y[part]) for part in np.split(places, _cuts(len(places), cuts)))))
    return made


def _skewed(labels: NDArray[Any], clients: int, alpha: float, rng: np.random.Generator) -> list[Places]:
    dealt: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(rng.dirichlet(np.full(clients, alpha))) * len(places)).astype(int)[:-1]
        for own, part in zip(dealt, np.split(places, ends), strict=True):
            own.extend(part.tolist())
    _even_out(dealt)
    return [np.asarray(own, dtype=np.int64) for own in dealt]


def _even_out(dealt: list[list[int]]) -> None:
    """Whoever has too few samples to be split in three gets some of whoever has the most: drawing anew may never do."""
    for own in dealt:
        while len(own) < LEAST:
            own.append(max(dealt, key=len).pop())


def _checked_shares(shares: Sequence[float]) -> tuple[float, float]:
    try:
        train, validation, test = (check_number(share, "shares", above=0.0) for share in shares)
    except (TypeError, ValueError):
        raise ValueError(f"shares={short_repr(shares)}: give three numbers above 0, such as (0.6, 0.2, 0.2)") from None
    if not math.isclose(train + validation + test, 1.0, abs_tol=1e-9):
        raise ValueError(
            f"shares={short_repr(shares)} add up to {train + validation + test:g}: give three that add up to 1"
        )
    return train, validation


def _cuts(count: int, shares: tuple[float, float]) -> tuple[int, int]:
    """Where to cut so many samples in three."""
    first = min(count - 2, max(1, round(count * shares[0])))
    second = min(count - 1, max(first + 1, round(count * (shares[0] + shares[1]))))
    return first, second
