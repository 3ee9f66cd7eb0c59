"""Partition of a data set over clients: the same distribution for all (iid), or one per client (non-iid)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from mmap import mmap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Indices: TypeAlias = NDArray[np.int64]


Part: TypeAlias = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
MIN_SAMPLES = len(PARTS)
"""Fewest samples of a client: one to train on, one to validate on, one to test on."""


class FileSlice(NamedTuple):
    """The part of a file that holds an array."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the array."""
    shape: tuple[int, ...]

    def open(self) -> NDArray[Any]:
        """Map the array, read-only."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def find_file_slice(array: NDArray[Any]) -> FileSlice | None:
    """Return the part of a file that a contiguous array is mapped from; None: it lies in memory."""
    root: Any = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c":
        return None
    start = array.ctypes.data - root.ctypes.data
    return FileSlice(str(root.filename), array.dtype, root.offset + start, array.shape)


@dataclass(frozen=True)
class Client:
    """The data of one client: three pairs (inputs, targets) of arrays whose first axis counts the samples.

    Contiguous slices of a memory-mapped file, such as ``numpy.load("x.npy", mmap_mode="r")[a:b]``, stay in the file.
    Other processes then open the file instead of receiving the values.

    Args:
        train: Pair to train on.
        validation: Pair that the search measures errors on.
        test: Pair for the final test.

    Raises:
        TypeError: A part is not a pair.
        ValueError: A part is empty, or its inputs and targets differ in length.
    """

    train: tuple[NDArray[Any], NDArray[Any]]
    validation: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]]

    def __post_init__(self) -> None:
        for name in PARTS:
            object.__setattr__(self, name, _read_pair(getattr(self, name), name))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={self.size(name)}" for name in PARTS)
        return f"Client({sizes})"

    def part(self, name: Part) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return inputs and targets of a part: "train", "validation" or "test"."""
        pair: tuple[NDArray[Any], NDArray[Any]] = getattr(self, name)
        return pair

    def bytes_in_memory(self) -> int:
        """Return the size of the arrays that are not mapped from a file."""
        arrays = (array for name in PARTS for array in self.part(name))
        return sum(array.nbytes for array in arrays if find_file_slice(array) is None)

    def is_mapped(self, name: Part) -> bool:
        """Return whether an array of a part is mapped from a file."""
        return any(find_file_slice(array) is not None for array in self.part(name))

    def __getstate__(self) -> dict[str, Any]:
        return {name: tuple(find_file_slice(array) or array for array in self.part(name)) for name in PARTS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, pair in state.items():
            arrays = (each.open() if isinstance(each, FileSlice) else each for each in pair)
            object.__setattr__(self, name, tuple(arrays))

    def size(self, name: Part) -> int:
        """Return the number of samples of a part."""
        return len(self.part(name)[1])


def _read_pair(given: Any, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if not isinstance(given, tuple | list) or len(given) != 2:  # noqa: PLR2004 - inputs and targets
        raise TypeError(f"{name}={short_repr(given)}: not a pair; expected (inputs, targets), two arrays")
    x, y = (np.ascontiguousarray(array) for array in given)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"{name}: inputs of shape {x.shape} and targets of shape {y.shape}; expected equal lengths")
    if not len(y):
        raise ValueError(f"{name}: empty; expected at least one sample per client")
    return x, y


def partition(labels: Any, clients: int, *, alpha: float | None = None, seed: int = 0) -> list[Indices]:
    """Assign each sample to one client.

    Args:
        labels: Array of shape (samples,), of any type; only ``alpha`` uses the values.
        clients: Number of clients.
        alpha: None: iid, the samples are shuffled and split evenly. A positive number: non-iid; the clients' shares of
            each label are drawn from a Dirichlet distribution with this concentration. Smaller values are more skewed.
            This is the method of Hsu, Qi and Brown (2019, arXiv 1909.06335) with the roles of labels and clients
            exchanged, as is common.
        seed: Seed of the assignment.

    Returns:
        For each client the indices of its samples, at least three, in ascending order.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There are fewer than three samples per client, or an argument is out of range.

    Example:
        >>> fedex.partition([0, 0, 0, 1, 1, 1], clients=2)
    """
    labels = np.asarray(labels)
    check_integer(clients, "clients")
    if labels.ndim != 1 or len(labels) < MIN_SAMPLES * clients:
        raise ValueError(
            f"labels: shape {labels.shape} is not enough for clients={clients}; "
            f"expected one label per sample and at least {MIN_SAMPLES} samples per client"
        )
    rng = np.random.default_rng([seed, 1])
    if alpha is None:
        parts = np.array_split(rng.permutation(len(labels)), clients)
    else:
        parts = _partition_by_label(labels, clients, check_number(alpha, "alpha", greater_than=0.0), rng)
    return [np.sort(indices) for indices in parts]


def split(  # noqa: PLR0913 - all options of a partition
    x: Any,
    y: Any,
    clients: int,
    *,
    alpha: float | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    shuffle: bool = True,
    seed: int = 0,
) -> list[Client]:
    """Split one data set into clients with train, validation and test data.

    Args:
        x: Inputs, an array of shape (samples, ...); the clients receive copies in memory.
        y: Targets, an array of shape (samples, ...); of shape (samples,) if ``alpha`` is given.
        clients: Number of clients.
        alpha: Concentration of the label distributions, as for ``partition``; None: iid.
        shares: Shares of train, validation and test samples of each client; they sum to 1. Each part has at least one
            sample.
        shuffle: Whether to shuffle a client's samples before they are split in three, so that its parts are alike (the
            authors' code calls this iid). Otherwise the order of the data decides, as for time series.
        seed: Seed of the assignment and the shuffling.

    Returns:
        The clients.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or there are fewer than three samples per client.

    Example:
        >>> clients = fedex.split(x, y, clients=100, alpha=0.5)
        >>> federation = fedex.Federation(model, clients)
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x has shape {x.shape} and y has shape {y.shape}; expected equal lengths")
    train_and_validation = _check_shares(shares)
    labels = y if alpha is not None else np.zeros(len(y))
    rng = np.random.default_rng([seed, 2])
    made = []
    for own in partition(labels, clients, alpha=alpha, seed=seed):
        order = rng.permutation(own) if shuffle else own
        cuts = _cuts(len(order), train_and_validation)
        made.append(Client(*((x[part], y[part]) for part in np.split(order, cuts))))
    return made


def _partition_by_label(labels: NDArray[Any], clients: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    owned: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(rng.dirichlet(np.full(clients, alpha))) * len(indices)).astype(int)[:-1]
        for own, part in zip(owned, np.split(indices, ends), strict=True):
            own.extend(part.tolist())
    _fill_small_clients(owned)
    return [np.asarray(own, dtype=np.int64) for own in owned]


def _fill_small_clients(owned: list[list[int]]) -> None:
    """Move samples from the largest clients to those with too few; drawing again might never succeed."""
    for own in owned:
        while len(own) < MIN_SAMPLES:
            own.append(max(owned, key=len).pop())


def _check_shares(shares: Sequence[float]) -> tuple[float, float]:
    try:
        train, validation, test = (check_number(share, "shares", greater_than=0.0) for share in shares)
    except (TypeError, ValueError):
        raise ValueError(
            f"shares={short_repr(shares)}: expected three numbers above 0, such as (0.6, 0.2, 0.2)"
        ) from None
    total = train + validation + test
    if not math.isclose(total, 1.0, abs_tol=1e-9):
        raise ValueError(f"shares={short_repr(shares)}: they sum to {total:g}; expected a sum of 1")
    return train, validation


def _cuts(count: int, shares: tuple[float, float]) -> tuple[int, int]:
    """Return the two indices at which to split so many samples in three; no part is empty."""
    first = min(count - 2, max(1, round(count * shares[0])))
    second = min(count - 1, max(first + 1, round(count * (shares[0] + shares[1]))))
    return first, second
