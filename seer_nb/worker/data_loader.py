"""The DataLoader of ``run.loader``: a member's share of every global batch, in an order independent of parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Share:
    """One member's share of the batches of an epoch.

    Attributes:
        length: Samples in the dataset.
        batch_size: Samples in the gang's batch.
        shuffle: Whether to train (shuffled, every batch full) or to evaluate (in order, every sample once).
        drop_last: Whether a short last batch is left out.
        rank: Rank of this member.
        size: Number of members.
        seed: Returns the seed for the order of the epoch in progress.
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
        """Global batches in one epoch."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def __len__(self) -> int:
        """Return how many batches this member has in one epoch."""
        # Only the share of a short last batch can be empty, and only in evaluation.
        return self.batches if self.shuffle else sum(1 for _ in self._spans())

    def indices(self) -> Iterator[torch.Tensor]:
        """Yield the indices of this member's part of each batch, as int64 tensors of shape (samples,)."""
        import torch

        if not self.shuffle:
            for first, last in self._spans():
                yield torch.arange(first, last)
            return
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed()))
        # A short last batch is filled from the epoch's start, so that all members have equal shares at any parallelism.
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


def make_loader(dataset: Any, share: Share, *, collate_fn: Any, num_workers: int, pin_memory: bool) -> DataLoader[Any]:
    """Create the DataLoader of one member.

    Args:
        dataset: A dataset that `check_dataset` has accepted.
        share: The member's share.
        collate_fn: As in DataLoader.
        num_workers: As in DataLoader.
        pin_memory: As in DataLoader.
    """
    from torch.utils.data import DataLoader, Sampler, TensorDataset

    by_batch = type(dataset) is TensorDataset and collate_fn is None

    class Batches(Sampler[Any]):
        def __len__(self) -> int:
            return len(share)

        def __iter__(self) -> Iterator[Any]:
            return share.indices() if by_batch else (index.tolist() for index in share.indices())

    common: dict[str, Any] = {"num_workers": num_workers, "pin_memory": pin_memory}
    if by_batch:
        # Without automatic batching, the dataset is indexed once per batch: about ten times faster.
        return DataLoader(dataset, sampler=Batches(), batch_size=None, **common)
    return DataLoader(dataset, batch_sampler=Batches(), collate_fn=collate_fn, **common)
