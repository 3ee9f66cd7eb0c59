"""The GPU of a worker's process: its name, whether it still works, and releasing its memory."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def device() -> torch.device:
    """Return the GPU, or the CPU if there is none. Each worker sees one GPU at most."""
    import torch

    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def unique_name() -> str:
    """Return a name of this worker's GPU that is unique over all machines; empty without a GPU."""
    import torch

    return str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else ""


def is_broken() -> bool:
    """Return whether no GPU call can succeed in this process any more, as after a device-side assertion.

    A failed allocation does not break the GPU.
    """
    cuda = _in_use()
    if cuda is None:
        return False
    try:
        cuda.synchronize()
    except RuntimeError:
        return True
    return False


def release() -> None:
    """Free the memory that a training function has left on the GPU, for the next one or another worker."""
    cuda = _in_use()
    if cuda is not None:
        gc.collect()
        cuda.empty_cache()


def _in_use() -> Any:
    """Return ``torch.cuda`` if this process has used the GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
