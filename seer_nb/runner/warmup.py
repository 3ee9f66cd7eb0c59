"""Does once, before a worker counts as ready, what would slow down its first gang."""

from __future__ import annotations

import gc
from typing import Any

_store: Any = None
"""The TCPStore that serves the gangs whose rank 0 is here; it must outlive them."""


def warm_up(host: str) -> int:
    """Import torch, take a training step, start this worker's TCPStore. Returns the store's port."""
    global _store
    import torch
    from torch.nn.parallel import DistributedDataParallel  # noqa: F401 - its import takes long

    from seer_nb.runner import gpu
    from seer_nb.runner.gang_env import host_store

    torch.set_num_threads(1)
    device = gpu.device()
    model = torch.nn.Linear(4, 2).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.zeros(2, 4, device=device)).sum().backward()
    optimizer.step()
    _store, port = host_store(host)
    # What was imported stays for ever. Left to the collector, its look at all that after a gang holds the worker up for
    # 0.2 s and more, and with it the word that the gang has ended.
    gc.freeze()
    return int(port)
