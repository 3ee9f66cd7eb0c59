"""Settings of Dask schedulers and workers that several providers share."""

from __future__ import annotations

WORKER_DEATH_TIMEOUT_S = 60
"""Seconds after which a worker that cannot reach its scheduler exits; a cloud machine then shuts down."""
LOOPBACK_DASHBOARD = "127.0.0.1:0"
"""Dashboard address of schedulers and workers. Dask serves pages even without a dashboard and shows them to anyone who
connects, and not every machine is behind a firewall."""
UNMANAGED_MEMORY = dict.fromkeys(("terminate", "pause", "spill", "target"), False)
"""Settings under "distributed.worker.memory": Dask does not act on a worker's memory use."""
