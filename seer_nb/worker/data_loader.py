"""The DataLoader of ``run.loader``: a member's share of every global batch, in an order independent of parallelism."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.validation import check_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Share:
    """One member's share of the batches of an epoch.

    Attributes:
        length: Samples in one epoch.
        batch_size: Samples in the gang's batch.
        shuffle: Whether to train (shuffled, every batch full) or to evaluate (in order, every sample once).
        drop_last: Whether a short last batch is left out.
        rank: Rank of this member.
        size: Number of members.
        seed: Returns the seed for the order of the epoch in progress.
        sampler: Yields the indices of an epoch, or None for all in random order to train, and in order to evaluate.
    """

    length: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    rank: int
    size: int
    seed: Callable[[], int]
    sampler: Any = None

    @property
    def batches(self) -> int:
        """Global batches in one epoch."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def __len__(self) -> int:
        """Return how many batches this member has in one epoch."""
        # Only the share of a short last batch can be empty, and only in evaluation.
        return self.batches if self.shuffle else sum(1 for _ in self._spans())

    def indices(self) -> Iterator[torch.Tensor]:
        """Yield the indices of this member's part of each batch, as int64 tensors of shape (samples,)."""
        import torch

        if self.sampler is not None:
            drawn = torch.tensor(drawn_from(self.sampler, self.seed(), self.length), dtype=torch.int64)
            yield from replace(self, length=len(drawn), sampler=None).parts(drawn)
        elif self.shuffle:
            yield from self.parts(torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed())))
        else:
            yield from self.parts(torch.arange(self.length))

    def parts(self, order: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield this member's part of each batch of an order of indices."""
        if not self.shuffle:
            for first, last in self._spans():
                yield order[first:last]
            return
        # A short last batch is filled from the epoch's start, so that all members have equal shares at any parallelism.
        wanted = self.batches * self.batch_size
        order = order.repeat(-(-wanted // max(1, self.length)))[:wanted]
        yield from order.view(self.batches, self.size, self.batch_size // self.size)[:, self.rank]

    def _spans(self) -> Iterator[tuple[int, int]]:
        for batch in range(self.batches):
            start = batch * self.batch_size
            count = min(self.batch_size, self.length - start)
            first, last = (start + -(-rank * count // self.size) for rank in (self.rank, self.rank + 1))
            if last > first:
                yield first, last


@dataclass(frozen=True)
class BatchShare:
    """One member's share of the global batches that a batch sampler yields.

    Attributes:
        length: Most batches in one epoch.
        sampler: Yields lists of indices.
        shuffle: Whether to train, so that all members need equal shares.
        rank: Rank of this member.
        size: Number of members.
        seed: Returns the seed for the order of the epoch in progress.
    """

    length: int
    sampler: Any
    shuffle: bool
    rank: int
    size: int
    seed: Callable[[], int]

    def __len__(self) -> int:
        """Return how many batches this member has in one epoch."""
        # Only the share of a small batch can be empty, and only in evaluation.
        return len(self._batches()) if self.shuffle else sum(1 for _ in self.indices())

    def common_divisor(self) -> int:
        """Return the greatest common divisor of the sizes of an epoch's batches."""
        return math.gcd(*map(len, self._batches())) or 1

    def indices(self) -> Iterator[torch.Tensor]:
        """Yield the indices of this member's part of each batch, as int64 tensors of shape (samples,)."""
        import torch

        for batch in self._batches():
            if self.shuffle and len(batch) % self.size:
                raise ValueError(
                    f"batch_sampler={type(self.sampler).__name__}: a batch of {len(batch)} samples cannot be divided "
                    f"over {self.size} workers; expected a multiple of {self.size}"
                )
            first, last = (-(-rank * len(batch) // self.size) for rank in (self.rank, self.rank + 1))
            if last > first:
                yield torch.tensor(batch[first:last], dtype=torch.int64)

    def _batches(self) -> list[list[int]]:
        return [list(map(int, batch)) for batch in drawn_from(self.sampler, self.seed(), self.length)]


def drawn_from(sampler: Any, seed: int, length: int) -> list[Any]:
    """Return what a sampler yields in one epoch: the same on every member, and after a pause.

    Args:
        sampler: A sampler of torch, or any iterable.
        seed: Seed of the epoch, for the global generators and the sampler's own.
        length: How many are drawn at most.
    """
    import numpy as np
    import torch

    own = getattr(sampler, "generator", None) or getattr(getattr(sampler, "sampler", None), "generator", None)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - a sampler may use the global generator
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - likewise
        torch.default_generator.manual_seed(seed)
        if isinstance(own, torch.Generator):
            own.manual_seed(seed)
        try:
            return list(islice(iter(sampler), length))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002 - likewise


def sampler_length(name: str, sampler: Any, seed: int, samples: int) -> int:
    """Check a sampler of ``run.loader``; return how many indices or batches it yields in an epoch.

    Args:
        name: Name of the argument.
        sampler: Its value.
        seed: Seed of the epoch.
        samples: Samples in the dataset.

    Raises:
        TypeError: The sampler is not iterable, or divides the data over the workers itself.
        ValueError: The sampler yields nothing, or does not end.
    """
    from torch.utils.data import DistributedSampler

    if not hasattr(sampler, "__iter__"):
        raise TypeError(f"{name}={sampler!r}: not a sampler; expected an iterable of indices")
    kind = type(sampler).__name__
    if any(isinstance(each, DistributedSampler) for each in (sampler, getattr(sampler, "sampler", None))):
        raise TypeError(f"{name}={kind}: divides the data a second time; expected a sampler over the whole dataset")
    if hasattr(sampler, "__len__"):
        length = len(sampler)
    else:
        most = 1000 * samples
        length = len(drawn_from(sampler, seed, most))
        if length == most:
            raise ValueError(f"{name}={kind}: does not end; expected one with __len__, or at most {most} items")
    if length == 0:
        raise ValueError(f"{name}={kind}: yields nothing; expected at least one item")
    return length


class Gang(NamedTuple):
    """Who divides the data: rank and number of members, and the function that returns the seed of the epoch."""

    rank: int
    size: int
    seed: Callable[[], int]


def divide(  # noqa: PLR0913 - the arguments of ``run.loader``
    dataset: Any,
    gang: Gang,
    batch_size: int | None,
    *,
    shuffle: bool,
    drop_last: bool,
    sampler: Any,
    batch_sampler: Any,
    scale_batch: bool,
) -> tuple[Share | BatchShare, int]:
    """Return one member's share of the data, and what the parallelism must divide: the arguments of ``run.loader``."""
    if batch_sampler is not None:
        if batch_size is not None or sampler is not None or drop_last or scale_batch:
            raise TypeError("batch_sampler excludes batch_size, sampler, drop_last and scale_batch; expected it alone")
        samples = check_dataset(dataset, 1, 1, shuffle=shuffle, drop_last=False)
        length = sampler_length("batch_sampler", batch_sampler, gang.seed(), samples)
        batches = BatchShare(length, batch_sampler, shuffle, *gang)
        return batches, batches.common_divisor()
    batch = check_integer(batch_size, "batch_size") * (gang.size if scale_batch else 1)
    length = check_dataset(dataset, batch, gang.size, shuffle=shuffle, drop_last=drop_last)
    if sampler is not None:
        length = sampler_length("sampler", sampler, gang.seed(), length)
        if drop_last and length < batch:
            raise ValueError(
                f"batch_size={batch} exceeds the sampler's {length} samples: drop_last=True leaves nothing"
            )
    return Share(length, batch, shuffle, drop_last, *gang, sampler), batch


def check_dataset(dataset: Any, batch_size: int, size: int, *, shuffle: bool, drop_last: bool) -> int:
    """Check that a dataset can be divided over a gang; return its length.

    Args:
        dataset: The argument of ``run.loader``.
        batch_size: Samples in the gang's batch.
        size: Number of members.
        shuffle: Whether the data is for training.
        drop_last: Whether a short last batch is left out.

    Raises:
        TypeError: The dataset cannot be indexed.
        ValueError: The dataset is empty, or the batch cannot be divided.
    """
    from torch.utils.data import IterableDataset

    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(
            f"run.loader() got a {type(dataset).__name__}, which cannot be indexed; "
            "expected a dataset with __len__ and __getitem__"
        )
    length = len(dataset)
    if length == 0:
        raise ValueError("run.loader() got an empty dataset")
    if shuffle and batch_size % size:
        raise ValueError(
            f"batch_size={batch_size} cannot be divided over {size} workers; expected a multiple of {size}"
        )
    if drop_last and length < batch_size:
        raise ValueError(
            f"batch_size={batch_size} is larger than the dataset of {length} samples: drop_last=True leaves nothing"
        )
    return length


def make_loader(dataset: Any, share: Share | BatchShare, *, collate_fn: Any = None, **options: Any) -> DataLoader[Any]:
    """Create the DataLoader of one member.

    Args:
        dataset: A dataset that `check_dataset` has accepted.
        share: The member's share.
        collate_fn: As in DataLoader.
        **options: As in DataLoader.
    """
    from torch.utils.data import DataLoader, Sampler, TensorDataset

    by_batch = type(dataset) is TensorDataset and collate_fn is None

    class Batches(Sampler[Any]):
        def __len__(self) -> int:
            return len(share)

        def __iter__(self) -> Iterator[Any]:
            return share.indices() if by_batch else (index.tolist() for index in share.indices())

    if by_batch:
        # Without automatic batching, the dataset is indexed once per batch: about ten times faster.
        return DataLoader(dataset, sampler=Batches(), batch_size=None, **options)
    return DataLoader(dataset, batch_sampler=Batches(), collate_fn=collate_fn, **options)
