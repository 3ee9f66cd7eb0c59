"""What runs on the scheduler and on the workers of a Dask cluster that a study uses."""

from __future__ import annotations

import math
from typing import Any

PLUGINS = ("seer_nb", "seer_nb-departures")
"""That the runner leaves on the workers and on the scheduler."""


def guard(lease_s: float) -> Any:
    """A scheduler plugin that closes the scheduler, and with it all workers, when nobody renews it for the lease.

    For schedulers that outlive the process that made them. Renewed by the scheduler's remote call ``seer_renew``.
    Pickled by value, for seer_nb may not be there.
    """
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Guard(SchedulerPlugin):
        name = "seer_nb-guard"
        idempotent = True

        async def start(self, scheduler: Any) -> None:
            import asyncio

            self.renew()
            scheduler.handlers["seer_renew"] = self.renew
            self._task = asyncio.ensure_future(self._watch(scheduler))

        def renew(self) -> None:
            import time

            self._renewed = time.monotonic()

        async def _watch(self, scheduler: Any) -> None:
            import asyncio
            import time

            while (left_s := self._renewed + lease_s - time.monotonic()) > 0:  # noqa: ASYNC110 - for silence
                await asyncio.sleep(left_s)
            await scheduler.close(reason="no word from the runner of the study")

    return Guard()


def say_ready(dask_worker: Any) -> None:
    """Have a worker say again that it can train, if it can."""
    from seer_nb.runner import agent, shipping

    ready = agent.hello() if PLUGINS[0] in dask_worker.plugins else None
    if ready is not None:
        dask_worker.log_event(shipping.TOPIC, ready.decode())


def let_go(dask_worker: Any) -> None:
    """No lease ends this worker any more."""
    plugin = dask_worker.plugins.get(PLUGINS[0])
    if plugin is not None:
        plugin.agent.lease_s = math.inf
