"""A DataLoader over one member's share of every global batch, in an order that does not depend on the parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Share:
    """Which part of which order.

    Attributes:
        length: Samples in the dataset.
        batch_size: Of the gang's batch.
        shuffle: Whether to train (shuffled, every batch full) or to evaluate (in order, every sample once).
        drop_last: Whether a short last batch is left out.
        rank: Of this member.
        size: Number of members.
        seed: Gives the seed of the order of the epoch in progress.
    """

    length: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    rank: int
    size: int
    seed: Callable[[], int]

    @property
    def batches(self) -> int:
        """Global batches in an epoch."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def __len__(self) -> int:
        """Batches of this member in an epoch."""
        # Only the share of a short last batch can be empty, and only when evaluating.
        return self.batches if self.shuffle else sum(1 for _ in self._spans())

    def indices(self) -> Iterator[torch.Tensor]:
        """This member's part of each batch, as int64 tensors of shape (share,)."""
        import torch

        if not self.shuffle:
            for first, last in self._spans():
                yield torch.arange(first, last)
            return
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed()))
        # A short last batch goes on at the epoch's start, so that all members have equal shares for every parallelism.
        wanted = self.batches * self.batch_size
        order = order.repeat(-(-wanted // self.length))[:wanted]
        yield from order.view(self.batches, self.size, self.batch_size // self.size)[:, self.rank]

    def _spans(self) -> Iterator[tuple[int, int]]:
        for batch in range(self.batches):
            start = batch * self.batch_size
            count = min(self.batch_size, self.length - start)
            first, last = (start + -(-rank * count // self.size) for rank in (self.rank, self.rank + 1))
            if last > first:
                yield first, last


def check(dataset: Any, batch_size: int, size: int, *, shuffle: bool, drop_last: bool) -> int:
    """The dataset's length, if it can be shared out.

    Args:
        dataset: Map-style.
        batch_size: Of the gang's batch.
        size: Number of members.
        shuffle: Whether it is to train on.
        drop_last: Whether a short last batch is left out.

    Raises:
        TypeError: The dataset cannot be indexed.
        ValueError: It is empty, or the batch cannot be divided.
    """
    from torch.utils.data import IterableDataset

    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(
            f"run.loader() got a {type(dataset).__name__}, which cannot be indexed: data is shared out by index, so "
            "give a dataset with __len__ and __getitem__"
        )
    length = len(dataset)
    if length == 0:
        raise ValueError("run.loader() got an empty dataset")
    if shuffle and batch_size % size:
        raise ValueError(f"batch_size={batch_size} cannot be divided over {size} workers: give a multiple of {size}")
    if drop_last and length < batch_size:
        raise ValueError(
            f"batch_size={batch_size} is larger than the dataset of {length} samples: drop_last=True leaves nothing"
        )
    return length


def make(dataset: Any, share: Share, *, collate_fn: Any, num_workers: int, pin_memory: bool) -> DataLoader[Any]:
    """The DataLoader of one member."""
    from torch.utils.data import DataLoader, Sampler, TensorDataset

    at_once = type(dataset) is TensorDataset and collate_fn is None

    class Batches(Sampler[Any]):
        """Batches of indices."""

        def __len__(self) -> int:
            return len(share)

        def __iter__(self) -> Iterator[Any]:
            return share.indices() if at_once else (index.tolist() for index in share.indices())

    common: dict[str, Any] = {"num_workers": num_workers, "pin_memory": pin_memory}
    if at_once:
        # Without automatic batching the dataset is indexed with the batch's whole tensor: some ten times faster.
        return DataLoader(dataset, sampler=Batches(), batch_size=None, **common)
    return DataLoader(dataset, batch_sampler=Batches(), collate_fn=collate_fn, **common)
