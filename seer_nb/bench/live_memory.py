"""The most memory that tensors take at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable


class LiveMemory(TorchDispatchMode):
    """While it is entered, watches the storages of all tensors that operations give; those of before do not count."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: Any = WeakIdKeyDictionary()
        self.peak_bytes = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, then count."""
        given = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(given):
            if isinstance(tensor, torch.Tensor):
                # A storage lives as long as a graph needs it, also when no name in Python holds its tensor.
                storage = tensor.untyped_storage()
                self._live[storage] = storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(self._live.values()))
        return given
