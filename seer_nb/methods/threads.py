"""Limits of one thread for linear algebra and for torch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread: parallel fits do not compete, and sums have the same order everywhere."""
    # Import first: threadpoolctl limits only libraries that are already loaded.
    import sklearn.metrics
    import sklearn.preprocessing  # noqa: F401 - imported for its libraries
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread, as workers do: sums over several threads are rounded differently."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
