"""The GPU of a worker's process: what names it, whether it still works, and the memory that is given back."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def device() -> torch.device:
    """The GPU, or the CPU if there is none. Each worker is shown one GPU at most."""
    import torch

    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def name() -> str:
    """What tells this worker's GPU from those of all other machines; empty if it has none."""
    import torch

    return str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else ""


def broken() -> bool:
    """Whether no call of the GPU can succeed in this process any more, as after an assertion that failed on it.

    That an allocation failed for want of memory does no such harm.
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
    """Give back what a training function has left on the GPU: the next one, or another worker there, may need it."""
    cuda = _in_use()
    if cuda is not None:
        gc.collect()
        cuda.empty_cache()


def _in_use() -> Any:
    """``torch.cuda`` if this process has used the GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
