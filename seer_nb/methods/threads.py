"""Linear algebra on one thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_thread() -> Iterator[None]:
    """Fits side by side do not disturb each other, and sums are added in the same order everywhere."""
    # Imported first: what is loaded later would not be limited.
    import sklearn.metrics
    import sklearn.preprocessing  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
